from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data import SiteData, UserHistory
from shared.errors import DataError
from simulations.datasets.open import open_dataset
from simulations.split import (
    Split,
    cold_items,
    leave_one_out,
    leave_two_out,
    with_negatives,
)

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
needs_reference = pytest.mark.skipif(
    not (SHARED / "ml-100k-l2o").is_dir(), reason="needs ../shared/data/ml-100k-l2o"
)


def user(likes: list[bool]) -> UserHistory:
    """A user who met items 0, 1, 2, ... one a second, and liked some."""
    steps = np.arange(len(likes))
    return UserHistory(user="u", items=steps, times=steps, likes=np.array(likes, bool))


@cache
def movielens() -> tuple[SiteData, Split]:
    data = open_dataset(SHARED / "ml-100k")
    return data, leave_two_out(data.histories)


def reference(name: str) -> pl.DataFrame:
    return pl.read_csv(SHARED / "ml-100k-l2o" / f"{name}.tsv", separator="\t")


def test_the_last_two_likes_are_held_out_with_all_that_came_before_them() -> None:
    split = leave_two_out([user([True, False, True, False, True, False])])

    one = split.users[0]
    assert one.train.items.tolist() == [0, 1]
    assert (one.validation.item, one.validation.seen.tolist()) == (2, [0, 1])
    assert (one.test.item, one.test.seen.tolist()) == (4, [0, 1, 2, 3])


def test_a_test_like_is_predicted_from_train_and_validation_likes() -> None:
    one = leave_two_out([user([True, True, False, True, True])]).users[0]

    known = one.test.before
    train = one.train.items[one.train.likes].tolist()
    assert known.items[known.likes].tolist() == [*train, one.validation.item]


def test_users_with_fewer_than_three_likes_are_left_out() -> None:
    split = leave_two_out([user([True, False, True]), user([]), user([True] * 3)])

    assert [len(history) for history in split.train] == [1]


@given(st.lists(st.booleans(), max_size=30))
def test_train_validation_and_test_are_disjoint_and_ordered(likes: list[bool]) -> None:
    history = user(likes)

    for one in leave_two_out([history]).users:
        train = one.train.items[one.train.likes].tolist()
        parts = [*train, one.validation.item, one.test.item]
        assert parts == history.items[history.likes].tolist()
        assert one.train.times.max(initial=-1) < one.validation.item < one.test.item
        assert one.validation.item not in one.validation.seen
        assert one.test.item not in one.test.seen


@needs_reference
def test_the_history_of_the_reference_is_reproduced_in_order() -> None:
    data, split = movielens()
    evaluated = {one.train.user for one in split.users}

    ours = {
        (int(history.user), seq): (int(data.catalogue.ids[item]), time)
        for history in data.histories
        if history.user in evaluated
        for seq, (item, time) in enumerate(
            zip(history.items.tolist(), history.times.tolist(), strict=True)
        )
    }

    theirs = reference("history").select("user_id", "seq", "item_id", "timestamp")
    assert ours == {(u, seq): (item, time) for u, seq, item, time in theirs.rows()}


@needs_reference
def test_the_pairs_of_the_reference_are_reproduced() -> None:
    data, split = movielens()
    ids = [int(item_id) for item_id in data.catalogue.ids]

    ours = {
        "train": {
            (int(one.train.user), ids[item])
            for one in split.users
            for item in one.train.items[one.train.likes]
        },
        "validation": {
            (int(one.train.user), ids[one.validation.item]) for one in split.users
        },
        "test": {(int(one.train.user), ids[one.test.item]) for one in split.users},
    }

    assert {name: len(pairs) for name, pairs in ours.items()} == {
        "train": 53_491,
        "validation": 942,
        "test": 942,
    }
    for name, pairs in ours.items():
        assert pairs == set(reference(name).select("user_id", "item_id").rows())


@needs_reference
def test_what_was_seen_is_what_the_reference_gives_a_smaller_seq() -> None:
    _, split = movielens()

    ours = {int(one.train.user): len(one.test.seen) for one in split.users}

    assert ours == dict(reference("test").select("user_id", "seq").rows())


@given(st.lists(st.booleans(), max_size=30))
def test_leave_one_out_trains_on_all_before_the_test_and_tunes_before_validation(
    likes: list[bool],
) -> None:
    history = user(likes)

    two, one = leave_two_out([history]), leave_one_out([history])

    assert [each.test for each in one.users] == [each.test for each in two.users]
    for held in one.users:
        assert held.train == held.test.before
        assert held.tuning == held.validation.before
        assert held.validation.item in held.train.items
        assert held.test.item not in held.train.items
    assert two.validates
    assert one.validates == (not one.users)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30),
    st.sampled_from([leave_two_out, leave_one_out]),
)
def test_nothing_is_trained_on_a_cold_item_and_a_cold_like_is_asked_for(
    events: list[tuple[bool, bool]], hold_out: Callable[..., Split]
) -> None:
    history = user([liked for liked, _ in events])
    cold = np.array([late for _, late in events], bool)

    for held in hold_out([history], cold).users:
        assert not cold[held.train.items].any()
        assert not cold[held.tuning.items].any()
        assert not cold[held.validation.item]
        assert held.train.likes.any()
        assert held.train.times.max() < held.test.item
        assert held.validation.item < held.test.item
        later = [n for n, (liked, late) in enumerate(events) if liked and late]
        warm = [n for n, (liked, late) in enumerate(events) if liked and not late]
        ripe = [n for n in later if n > warm[1]]
        assert held.test.item == (ripe or warm)[-1]


@given(st.lists(st.booleans(), max_size=30))
def test_without_a_cold_item_nothing_changes(likes: list[bool]) -> None:
    history, none = user(likes), np.zeros(len(likes), bool)

    assert leave_two_out([history], none).users == leave_two_out([history]).users


def test_about_the_share_that_is_asked_for_is_cold_and_the_same_at_every_site() -> None:
    ids = [str(number) for number in range(2000)]

    cold = cold_items(ids, 0.2, seed=1)

    assert cold.mean() == pytest.approx(0.2, abs=0.03)
    assert np.array_equal(cold_items(ids[::-1], 0.2, 1), cold[::-1])
    assert not np.array_equal(cold_items(ids, 0.2, 2), cold)
    assert not cold_items(ids, 0.0, 1).any()


def test_negatives_are_items_that_the_user_had_not_met_each_once() -> None:
    split = leave_two_out([user([True] * 20), user([True, True, False, True])])

    drawn = with_negatives(split, 40, 15, np.random.default_rng(0))

    assert drawn.negatives.shape == (2, 15)
    for held, row in zip(drawn.users, drawn.negatives, strict=True):
        assert len({*row.tolist()}) == 15
        assert not {*row.tolist()} & {*held.test.seen.tolist(), held.test.item}


def test_more_negatives_than_are_left_are_refused() -> None:
    split = leave_two_out([user([True] * 20)])

    with pytest.raises(DataError, match="only 5 of 25 items left"):
        with_negatives(split, 25, 6, np.random.default_rng(0))


@given(st.lists(st.booleans(), min_size=3, max_size=20))
def test_what_is_rated_is_what_was_not_liked_since_the_last_like(
    likes: list[bool],
) -> None:
    for held in leave_two_out([user(likes)]).users:
        items, liked = held.test.rated
        assert items.tolist() == [*range(held.validation.item + 1, held.test.item + 1)]
        assert liked.tolist() == [False] * (len(items) - 1) + [True]
