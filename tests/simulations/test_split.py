from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data import SiteData, UserHistory
from simulations.datasets.open import open_dataset
from simulations.split import Split, leave_two_out

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
