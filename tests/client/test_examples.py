"""One user is one example; negatives are blind to what is held out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data import UserHistory
from client.examples import (
    KEPT,
    UserExample,
    draw_batch,
    make_examples,
    recency_weights,
)
from tests.factories import small_recipe, users


def history(user: str, likes: list[bool]) -> UserHistory:
    count = len(likes)
    return UserHistory(
        user=user,
        items=np.arange(count),
        times=np.arange(count),
        likes=np.array(likes, bool),
    )


def test_a_user_is_one_example_of_their_latest_likes() -> None:
    many = [n % 2 == 0 for n in range(400)]

    examples = make_examples([history("a", many), history("b", [False])])

    assert [len(e.likes) for e in examples] == [KEPT, 0]
    assert examples[0].likes.tolist() == list(range(400 - 2 * KEPT, 400, 2))


def test_an_example_shows_nothing_of_its_user() -> None:
    assert repr(users(1)[0]) == "UserExample(...)"


@given(others=st.integers(0, 5), seed=st.integers(0, 1000))
def test_a_users_row_does_not_depend_on_who_else_is_drawn(
    others: int, seed: int
) -> None:
    one, rest = users(1, seed=seed)[0], users(others, seed=seed + 1)
    alone = draw_batch([one], small_recipe(), [1, seed])

    together = draw_batch([*rest, one], small_recipe(), [1, seed])

    assert np.array_equal(together.items[-1], alone.items[0])
    assert np.array_equal(together.history[-1], alone.history[0])


@given(count=st.integers(0, 12), seed=st.integers(0, 1000))
def test_history_and_targets_are_disjoint_and_shapes_are_fixed(
    count: int, seed: int
) -> None:
    batch = draw_batch([UserExample(seed, np.arange(count))], small_recipe(), [seed])

    history = batch.items[0, :6][batch.history[0] > 0]
    targets = batch.items[0, 6:][batch.targets[0] > 0]
    assert (batch.items.shape, batch.coins.shape) == ((1, 8), (1, 8))
    assert len(set(history) | set(targets)) == len(history) + len(targets)
    assert len(targets) == min(2, max(min(1, count), count // 2))
    assert len(history) == min(6, count - len(targets))


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_recency_weights_sum_to_one_and_fall_with_rank(power: float) -> None:
    weights = recency_weights(3, 5, power)

    assert weights.sum() == pytest.approx(1)
    assert weights[3:].tolist() == [0, 0]
    assert weights[0] / weights[2] == pytest.approx(3**power)


def test_no_items_have_no_weights() -> None:
    assert recency_weights(0, 4, 1.0).tolist() == [0, 0, 0, 0]
