"""The metric that may leave: bounded for each user, noised as charged."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from client.examples import UserExample
from client.metric import NAME, PLACES, per_user, release_metric
from client.model import HybridModel
from client.noise import SecretStreams, insecure_streams, normal, secret_streams
from shared.protocol import Array
from tests.factories import mechanism, tiny_model, users

ITEMS = 12
ODD = st.sampled_from([math.nan, math.inf, -math.inf, 3e38, -3e38, 0.0])
SCORES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.just(ITEMS)),
    elements=ODD | st.floats(-3, 3, width=32),
    fill=st.nothing(),
)


class Known:
    """A model with known scores: row n for the n-th user it is asked about."""

    def __init__(self, scores: Array) -> None:
        self.scores, self.asked = scores, list[list[int]]()

    def score(self, histories: Sequence[npt.NDArray[np.int64]]) -> Array:
        self.asked = [history.tolist() for history in histories]
        return self.scores[: len(histories)]


def values(scores: Array, examples: list[UserExample]) -> list[float]:
    found = per_user(cast("HybridModel", Known(scores)), examples)
    return [float(value) for value in found]


def place(scores: Array, likes: Sequence[int]) -> int:
    """The oracle: how many unseen items are not worse than the newest like."""
    *older, newest = likes
    own = -math.inf if math.isnan(scores[newest]) else scores[newest]
    others = set(range(len(scores))) - set(older) - {newest}
    return 1 + sum(not (math.isnan(scores[n]) or scores[n] < own) for n in others)


@given(scores=SCORES, likes=st.integers(2, 6), seed=st.integers(0, 99))
def test_whatever_the_model_a_users_value_is_that_of_its_place_and_in_0_to_1(
    scores: Array, likes: int, seed: int
) -> None:
    """A score that is no number has no place, and comes after all that have one."""
    examples = users(len(scores), items=ITEMS, likes=likes, seed=seed)

    found = values(scores, examples)

    assert all(0 <= value <= 1 for value in found)
    for value, row, example in zip(found, scores, examples, strict=True):
        newest = row[example.likes[-1]]
        if np.isfinite(newest):
            at = place(row, example.likes.tolist())
            wanted = 1 / math.log2(1 + at) if at <= PLACES else 0.0
            assert value == pytest.approx(wanted)


def spoil_head(model: HybridModel, value: float) -> None:
    with torch.no_grad():
        model.head.factors.weight[::2] = value


def spoil_adapter(model: HybridModel, value: float) -> None:
    with torch.no_grad():
        for module in model.encoder.trained.values():
            for weight in module.parameters():
                weight.fill_(value)


@pytest.mark.parametrize("spoil", [spoil_head, spoil_adapter])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_a_broken_model_gives_values_in_0_to_1_as_well(
    tmp_path: Path, spoil: Any, value: float
) -> None:
    model = tiny_model(tmp_path)
    spoil(model, value)

    found = per_user(model, users(5))

    assert found.shape == (5,)
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("new", [0, 3, 6])
def test_one_user_moves_the_sum_by_at_most_1_and_nobody_elses_value(
    tmp_path: Path, new: int
) -> None:
    model = tiny_model(tmp_path)
    rest, (one,) = users(6), users(1, likes=20, seed=9)
    with_one = [*rest[:new], one, *rest[new:]]

    before, after = per_user(model, rest), per_user(model, with_one)

    assert 0 <= after.sum() - before.sum() <= 1
    assert np.array_equal(np.delete(after, new), before)
    assert len(set(before.tolist())) > 1


def test_the_newest_like_is_foretold_from_the_older_ones_newest_first() -> None:
    model = Known(np.zeros((2, ITEMS), np.float32))
    examples = [UserExample(1, np.array([4, 2, 7])), UserExample(2, np.array([5, 1]))]

    per_user(cast("HybridModel", model), examples)

    assert model.asked == [[2, 4], [5]]


def test_a_user_with_too_few_likes_counts_nothing() -> None:
    few = [UserExample(1, np.array([], np.int64)), UserExample(2, np.array([3]))]

    assert values(np.zeros((2, ITEMS), np.float32), few) == []


def test_a_user_who_likes_the_same_again_is_not_left_without_a_place() -> None:
    best = np.zeros((1, ITEMS), np.float32)
    best[0, 3] = 1

    assert values(best, [UserExample(1, np.array([3, 5, 3]))]) == [1.0]


def test_what_is_released_is_the_noised_sum_over_rate_times_declared_users(
    tmp_path: Path,
) -> None:
    """The oracle adds the same noise to the sum over those whose coin fell below q."""
    model, examples = tiny_model(tmp_path), users(7)
    coins = np.array([0.1, 0.49, 0.5, 0.9, 0.0, 0.7, 0.2])
    tossed: list[int] = []

    def toss(count: int) -> npt.NDArray[np.float64]:
        tossed.append(count)
        return coins[:count]

    streams = SecretStreams(toss, insecure_streams(3).noise)
    noise = mechanism(q=0.5, metric_sigma=2.5)

    value = release_metric(model, examples, noise, users=20, streams=streams)

    drawn = [examples[n] for n in (0, 1, 4, 6)]
    (z,) = normal(1, insecure_streams(3).noise)
    wanted = (per_user(model, drawn).sum() + 2.5 * z) / (0.5 * 20)
    assert value == float(np.float32(wanted))
    assert tossed == [7]


def test_the_noise_of_a_release_is_as_long_as_it_is_charged() -> None:
    """No user at all: what is left is noise. Measured against 4 standard errors."""
    noise, releases = mechanism(q=0.5, metric_sigma=3.0), 4000
    model = cast("HybridModel", Known(np.zeros((0, ITEMS), np.float32)))

    drawn = [
        release_metric(model, [], noise, users=10, streams=secret_streams())
        for _ in range(releases)
    ]

    z = np.array(drawn) * 0.5 * 10 / 3.0
    assert abs(z.std() - 1) < 4 / math.sqrt(2 * releases)
    assert abs(z.mean()) < 4 / math.sqrt(releases)
    assert abs(np.corrcoef(z[1:], z[:-1])[0, 1]) < 4 / math.sqrt(releases)
    assert len(set(drawn)) > 0.99 * releases


def test_a_release_is_right_on_average_over_coins_and_noise() -> None:
    """One user of value 1 among 10 declared: 1/10, whether drawn or not."""
    best = np.zeros((1, ITEMS), np.float32)
    best[0, 3] = 1
    model, one = cast("HybridModel", Known(best)), [UserExample(1, np.array([5, 3]))]
    noise, releases = mechanism(q=0.5, metric_sigma=0.3), 3000

    drawn = [
        release_metric(model, one, noise, users=10, streams=secret_streams())
        for _ in range(releases)
    ]

    spread = math.sqrt(0.25 + 0.3**2) / (0.5 * 10)
    assert abs(np.mean(drawn) - 0.1) < 4 * spread / math.sqrt(releases)
    assert np.std(drawn) == pytest.approx(spread, rel=0.1)


def test_the_name_says_what_is_measured() -> None:
    assert NAME == "ndcg@10"
