"""What is held out is unknown to all methods: by construction, and by what they score.

On data where nothing can be learned a method that is above chance has seen the answers.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data import SiteData, UserHistory
from simulations.baselines import FITS, GRIDS, matrix
from simulations.population import generate
from simulations.ranking import Score, constant, rank_site
from simulations.scenario import PARTITIONS, SPLITS
from simulations.scenario_file import read_scenario
from simulations.split import (
    Split,
    UserSplit,
    leave_one_out,
    leave_two_out,
    with_negatives,
)
from simulations.world import World, make_world
from tests.honesty import candidates, found, hits_by_chance, likes_of, unlearnable

USERS, ITEMS, NEGATIVES = 400, 144, 99
HOLD_OUT = {"leave-two-out": leave_two_out, "leave-one-out": leave_one_out}
HISTORIES = st.lists(
    st.lists(
        st.tuples(st.integers(0, 39), st.booleans()),
        max_size=15,
        unique_by=lambda event: event[0],
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def split() -> Split:
    """Held-out events of which nothing can be known, and 99 negatives for each."""
    rng = np.random.default_rng(8)
    data = unlearnable(generate(rng, users=USERS, items=ITEMS).data, rng)
    return with_negatives(leave_one_out(data.histories), ITEMS, NEGATIVES, rng)


def history(user: int, events: list[tuple[int, bool]]) -> UserHistory:
    items = np.array([item for item, _ in events], np.int64)
    likes = np.array([like for _, like in events], np.bool_)
    return UserHistory(
        user=f"u{user}", items=items, times=np.arange(len(events)), likes=likes
    )


def in_order(
    whole: UserHistory, user: UserSplit, *, trains_on_validation: bool
) -> None:
    """Assert that train, validation and test follow each other and share nothing."""
    items, likes = whole.items.tolist(), whole.likes.tolist()
    validation, test = items.index(user.validation.item), items.index(user.test.item)
    trained = [items.index(item) for item in user.train.items.tolist()]
    until = test if trains_on_validation else validation
    assert validation < test
    assert likes[validation]
    assert likes[test]
    assert trained == sorted(trained)
    assert all(place < until for place in trained)
    assert user.validation.before.items.tolist() == items[:validation]
    assert user.test.before.items.tolist() == items[:test]
    assert user.test.item not in user.train.items
    assert trains_on_validation or user.validation.item not in user.train.items


@given(people=HISTORIES, kind=st.sampled_from(SPLITS), cold=st.booleans())
def test_train_validation_and_test_are_disjoint_and_in_order(
    people: list[list[tuple[int, bool]]], *, kind: str, cold: bool
) -> None:
    histories = [history(n, events) for n, events in enumerate(people)]
    whole = {one.user: one for one in histories}
    few = np.arange(40) % 3 == 0 if cold else None

    split = HOLD_OUT[kind](histories, few)

    assert cold or len(split.users) == sum(one.likes.sum() >= 3 for one in histories)
    for user in split.users:
        one = whole[user.test.before.user]
        in_order(one, user, trains_on_validation=kind == "leave-one-out")
        assert few is None or not few[user.train.items].any()


@settings(max_examples=10)
@given(
    kind=st.sampled_from(SPLITS),
    partition=st.sampled_from(PARTITIONS),
    seed=st.integers(0, 99),
    negatives=st.sampled_from([0, 20]),
)
def test_in_a_whole_world_no_site_trains_on_what_any_of_its_users_is_asked(
    kind: str, partition: str, seed: int, negatives: int
) -> None:
    options = {"users": 150, "items": 144, "sites": 2, "seed": seed, "split": kind}
    more = {"partition": partition, "negatives": negatives}

    world = make_world(read_scenario(None, {**options, **more}, ["base=tiny"]))

    assert asked_of(world) >= 75
    for data, split in zip(world.training, world.splits, strict=True):
        trained = {h.user: {*h.items.tolist()} for h in data.histories}
        for user, drawn in zip(split.users, split.negatives, strict=True):
            known = trained[user.test.before.user]
            assert user.test.item not in known
            assert kind == "leave-one-out" or user.validation.item not in known
            assert len({*drawn.tolist()}) == negatives
            assert user.test.item not in drawn
            assert not np.isin(drawn, user.test.seen).any()


def asked_of(world: World) -> int:
    return sum(len(split.users) for split in world.splits)


def fitted(arm: str, split: Split) -> Score:
    known = [user.train.items[user.train.likes] for user in split.users]
    return FITS[arm](known, ITEMS, GRIDS[arm][0], 0)


def popular(split: Split) -> Score:
    counts = np.asarray(matrix(likes_of(split), ITEMS).sum(axis=0)).ravel()
    noise = np.random.default_rng(0).random(ITEMS)  # no ties
    return constant((counts + noise).astype(np.float32))


@pytest.mark.parametrize("arm", ["popularity", "item-knn", "ease", "als", "bpr"])
def test_where_nothing_can_be_learned_a_baseline_is_at_chance(
    arm: str, split: Split
) -> None:
    score = popular(split) if arm == "popularity" else fitted(arm, split)

    ranking = rank_site(score, split, ITEMS)

    full = found(ranking.rank, candidates(split, ITEMS))
    assert not full.leaks
    assert full.at_chance or arm == "item-knn"  # few neighbours: ties count against it
    low, high = hits_by_chance(len(ranking.sampled), 10 / (NEGATIVES + 1))
    assert float((ranking.sampled <= 10).mean()) < high
    assert arm == "item-knn" or float((ranking.sampled <= 10).mean()) > low


@pytest.mark.parametrize("arm", ["item-knn", "ease", "als", "bpr"])
def test_a_baseline_that_was_fitted_on_the_answers_is_found_out(
    arm: str, split: Split
) -> None:
    """The guard can fail: the same methods, with every test event among what is fit."""
    answers = [
        np.append(user.train.items[user.train.likes], user.test.item)
        for user in split.users
    ]

    ranking = rank_site(FITS[arm](answers, ITEMS, GRIDS[arm][0], 0), split, ITEMS)

    assert found(ranking.rank, candidates(split, ITEMS)).leaks


def test_negatives_that_avoid_the_answer_are_found_out(split: Split) -> None:
    """The known leak by itself: the answer alone is never pushed down."""
    pushed = np.zeros((len(split.users), ITEMS), np.float32)
    rng = np.random.default_rng(0)
    for row, user in enumerate(split.users):
        others = np.setdiff1d(np.arange(ITEMS), [*user.test.seen, user.test.item])
        pushed[row, rng.choice(others, 120)] = -1.0
    pushed += rng.random(pushed.shape, np.float32) * 0.1
    each = iter(pushed)

    ranking = rank_site(
        lambda asked: np.stack([next(each) for _ in asked]), split, ITEMS
    )

    assert found(ranking.rank, candidates(split, ITEMS)).leaks
    _, high = hits_by_chance(len(ranking.sampled), 10 / (NEGATIVES + 1))
    assert float((ranking.sampled <= 10).mean()) > high


def test_unlearnable_data_keep_who_did_something_when_and_liked_it() -> None:
    rng = np.random.default_rng(2)
    data = generate(rng, users=50, items=ITEMS).data

    made = unlearnable(data, rng)

    assert isinstance(made, SiteData)
    for old, new in zip(data.histories, made.histories, strict=True):
        assert old.user == new.user
        assert np.array_equal(old.likes, new.likes)
        assert len({*new.items.tolist()}) == len(new)
    assert any(
        not np.array_equal(old.items, new.items)
        for old, new in zip(data.histories, made.histories, strict=True)
    )
