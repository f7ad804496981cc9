"""How events are ranked: with what is known of each user then, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from client.data import UserHistory
from shared.protocol import Array
from simulations import ranking
from simulations.ranking import Ints, constant, rank_site
from simulations.split import Split, leave_two_out, with_negatives

ITEMS = 30


def user(items: Sequence[int], likes: Sequence[int]) -> UserHistory:
    return UserHistory(
        user="u",
        items=np.array(items),
        times=np.arange(len(items)),
        likes=np.isin(items, likes),
    )


@pytest.fixture
def split() -> Split:
    rng = np.random.default_rng(0)
    orders = [rng.permutation(ITEMS)[:12].tolist() for _ in range(9)]
    return leave_two_out([user(order, order[::2]) for order in orders])


def counted(histories: Sequence[Ints]) -> Array:
    """A score of its own for each history, with ties."""
    seeds = [int(past.sum()) + 7 * len(past) for past in histories]
    made = [np.random.default_rng(seed).integers(0, 9, ITEMS) for seed in seeds]
    return np.array(made, np.float32)


def test_an_arm_is_told_the_likes_before_an_event_newest_first_and_no_more() -> None:
    told: list[list[int]] = []

    def score(histories: Sequence[Ints]) -> Array:
        told.extend(past.tolist() for past in histories)
        return np.zeros((len(histories), 8), np.float32)

    split = leave_two_out([user([5, 0, 3, 1, 2, 7, 4], likes=[5, 3, 2, 4])])
    rank_site(score, split, 8)
    rank_site(score, split, 8, which="validation")

    assert told == [[2, 3, 5], [3, 5]]


def test_what_was_met_is_never_recommended_and_never_in_the_way(split: Split) -> None:
    made = rank_site(counted, split, ITEMS)

    for row, held in enumerate(split.users):
        assert not np.isin(made.top[row], held.test.seen).any()
    assert made.rank.max() <= ITEMS - min(len(u.test.seen) for u in split.users)


def test_users_are_ranked_alike_in_one_piece_and_in_many(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = with_negatives(split, ITEMS, 4, np.random.default_rng(1))
    whole = rank_site(counted, split, ITEMS)
    monkeypatch.setattr(ranking, "MOST_USERS", 2)

    parts = rank_site(counted, split, ITEMS)

    for name in ("rank", "top", "sampled", "scores", "likes"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_the_sampled_place_is_among_the_negatives_of_the_test_alone(
    split: Split,
) -> None:
    held = split.users[0].test
    best = np.full(ITEMS, 1.0, np.float32)
    best[held.item] = 2.0
    best[[n for n in range(ITEMS) if n not in held.seen and n != held.item][:2]] = 3.0
    drawn = with_negatives(split, ITEMS, 17, np.random.default_rng(1))
    ahead = int((best[drawn.negatives[0]] == 3.0).sum())

    test = rank_site(constant(best), drawn, ITEMS)
    validation = rank_site(constant(best), drawn, ITEMS, which="validation")

    assert test.rank[0] == 3
    assert test.sampled[0] == 1 + ahead
    assert set(validation.sampled.tolist()) == {1}


def test_events_since_the_last_like_are_scored_for_ratings() -> None:
    split = leave_two_out([user([5, 0, 3, 1, 2, 7, 4], likes=[5, 3, 2, 4])])
    popular = np.arange(8, dtype=np.float32)

    test = rank_site(constant(popular), split, 8)
    validation = rank_site(constant(popular), split, 8, which="validation")

    assert (test.scores.tolist(), test.likes.tolist()) == ([7, 4], [False, True])
    assert (validation.scores.tolist(), validation.likes.tolist()) == (
        [1, 2],
        [False, True],
    )


def test_a_ranking_among_no_negatives_is_always_first(split: Split) -> None:
    made = rank_site(counted, replace(split), ITEMS)

    assert set(made.sampled.tolist()) == {1}
