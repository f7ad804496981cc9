import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.serving.people import LARGEST, cells, group_bonus, group_votes
from client.serving.topics import Topics, find_topics
from tests.client.serving.served import GENRES, served

MODEL = served(200)
TOPICS = find_topics(MODEL, 8)
GROUPS = ("age", "job")
words = st.text(max_size=8)


def liked(genre: str, count: int, start: int = 0) -> np.ndarray:
    return (np.arange(count) + start) % 50 * 4 + GENRES.index(genre)


def crowd(young: int, old: int) -> np.ndarray:
    """Votes of users among whom the young like horror, and the old like drama."""
    rng = np.random.default_rng(4)
    votes = np.zeros(cells(TOPICS, GROUPS))
    for number in range(young + old):
        age, taste = ("18-24", "horror") if number < young else ("56+", "drama")
        items = np.append(liked(taste, 6, number), rng.integers(0, 200, 6))
        votes += group_votes({"age": age, "job": "x"}, items, TOPICS, GROUPS)
    return votes.astype(np.float32)


def mean(bonus: np.ndarray, genre: str) -> float:
    return float(bonus[liked(genre, 50)].mean())


@settings(max_examples=60, deadline=None)
@given(
    about=st.dictionaries(st.one_of(st.sampled_from(GROUPS), words), words),
    items=st.lists(st.integers(0, 199), max_size=300),
    groups=st.lists(words, max_size=4, unique=True).map(tuple),
)
def test_a_vote_is_no_longer_than_one_whatever_the_user_did_or_declared(
    about: dict[str, str], items: list[int], groups: tuple[str, ...]
) -> None:
    vote = group_votes(about, np.array(items, np.int64), TOPICS, groups)

    assert vote.shape == (cells(TOPICS, groups),)
    assert np.linalg.norm(vote.astype(np.float64)) <= 1 + 1e-6
    assert np.isfinite(vote).all()


def test_a_user_who_likes_nothing_votes_for_nothing() -> None:
    assert not group_votes({"age": "56+"}, np.zeros(0, np.int64), TOPICS, GROUPS).any()


def test_a_vote_says_which_groups_a_user_belongs_to_and_liking_twice_says_no_more() -> (
    None
):
    items = liked("horror", 3)
    one = group_votes({"age": "56+", "job": "x"}, items, TOPICS, GROUPS)
    twice = group_votes({"age": "56+", "job": "x"}, np.tile(items, 2), TOPICS, GROUPS)
    less = group_votes({"age": "56+"}, items, TOPICS, GROUPS)

    assert np.array_equal(one, twice)
    assert np.linalg.norm(one) == pytest.approx(1)
    rows = one.reshape(-1, len(TOPICS)).any(axis=1)
    assert rows.sum() == 3
    assert less.reshape(-1, len(TOPICS)).any(axis=1).sum() == 2


def test_a_newcomer_is_led_to_what_their_group_likes_more_than_everybody() -> None:
    released = crowd(400, 400)

    young = group_bonus(released, 0.0, {"age": "18-24"}, TOPICS, GROUPS)
    old = group_bonus(released, 0.0, {"age": "56+"}, TOPICS, GROUPS)

    assert mean(young, "horror") > 0.2 > -0.2 > mean(young, "drama")
    assert mean(old, "drama") > 0.2 > -0.2 > mean(old, "horror")
    assert abs(mean(young, "comedy")) < 0.1
    assert young.dtype == np.float32


def test_what_a_user_did_not_declare_or_nobody_else_did_adds_nothing() -> None:
    released = crowd(400, 400)

    for about in ({}, {"job": "x"}, {"age": "25-34"}, {"shoe size": "44"}):
        bonus = group_bonus(released, 0.0, about, TOPICS, GROUPS)
        assert np.abs(bonus).max() < 0.05


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sigma=st.floats(0, 50),
    size=st.sampled_from([0, 1, 40]),
)
def test_a_bonus_is_finite_and_bounded_whatever_the_noise(
    seed: int, sigma: float, size: int
) -> None:
    rng = np.random.default_rng(seed)
    released = crowd(size, size) + sigma * rng.normal(size=cells(TOPICS, GROUPS))

    bonus = group_bonus(
        *(released.astype(np.float32), sigma, {"age": "56+", "job": "x"}),
        *(TOPICS, GROUPS),
    )

    assert bonus.shape == (200,)
    assert np.abs(bonus).max() <= LARGEST * len(GROUPS) + 1e-6


def test_a_group_that_noise_could_have_made_adds_nothing_at_all() -> None:
    """Shrinking leaves an empty group alone in nearly every draw of the noise."""
    loud = 0
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(size=cells(TOPICS, GROUPS))
        released = (crowd_of_old + 4 * noise).astype(np.float32)
        bonus = group_bonus(released, 4.0, {"age": "18-24"}, TOPICS, GROUPS)
        loud += bool(np.abs(bonus).max() > 0.3)

    assert loud <= 10


crowd_of_old = crowd(0, 100)


def test_a_bonus_fades_as_the_user_likes_more() -> None:
    released = crowd(400, 400)

    first, later, last = (
        group_bonus(released, 0.0, {"age": "56+"}, TOPICS, GROUPS, likes)
        for likes in (0, 5, 50)
    )

    assert np.allclose(later, first / 2)
    assert 0 < np.abs(last).max() < np.abs(first).max() / 10


def test_topics_are_counted_by_their_numbers_alone() -> None:
    """A release made before new items came serves these items too."""
    more = Topics(TOPICS.names, np.append(TOPICS.of_item, [3, 4]), TOPICS.centres)
    released = crowd(400, 400)

    bonus = group_bonus(released, 0.0, {"age": "56+"}, more, GROUPS)

    assert len(bonus) == 202
    assert bonus[200] == bonus[:200][TOPICS.of_item == 3][0]
