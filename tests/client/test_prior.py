"""The popularity release: sensitivity 1, noise as stated, shrinkage after it."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example as also
from hypothesis import given
from hypothesis import strategies as st

from client.examples import UserExample
from client.noise import insecure_streams, system_uniform
from client.prior import log_prior, release_popularity

ITEMS = 20
LIKES = st.lists(st.integers(0, ITEMS - 1), max_size=64)


def example(likes: list[int], stream: int = 0) -> UserExample:
    return UserExample(stream, np.array(likes, np.int64))


def exact(users: list[list[int]]) -> npt.NDArray[np.float32]:
    drawn = [example(likes, stream) for stream, likes in enumerate(users)]
    return release_popularity(drawn, ITEMS, 0.0, system_uniform)


@given(others=st.lists(LIKES, max_size=6), one=LIKES)
def test_one_user_moves_the_sum_by_at_most_1_in_l2(
    others: list[list[int]], one: list[int]
) -> None:
    """However many likes, and however often the same item; with no like, by nothing."""
    moved = np.linalg.norm(exact([*others, one]) - exact(others))

    assert moved <= 1 + 1e-5
    assert moved == pytest.approx(1.0 if one else 0.0, abs=1e-5)


@given(users=st.lists(LIKES, max_size=6), seed=st.integers(0, 99))
def test_the_order_of_users_and_of_likes_says_nothing(
    users: list[list[int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    mixed = [rng.permutation(users[n]).tolist() for n in rng.permutation(len(users))]

    assert exact(mixed) == pytest.approx(exact(users), abs=1e-5)


def test_votes_are_spread_evenly_over_distinct_items() -> None:
    got = exact([[3, 3, 5], [3], []])

    wanted = np.zeros(ITEMS)
    wanted[3], wanted[5] = 1 + 1 / np.sqrt(2), 1 / np.sqrt(2)
    assert got == pytest.approx(wanted)


def test_noise_has_the_stated_deviation_whoever_is_there() -> None:
    items, sigma = 50_000, 4.0
    users = [example([1, 2]), example([2])]

    noised = release_popularity(users, items, sigma, system_uniform)
    empty = release_popularity([], items, sigma, system_uniform)

    for released in (noised, empty):
        assert abs(released.std() / sigma - 1) < 4 / np.sqrt(2 * items)
        assert abs(released.mean()) < 4 * sigma / np.sqrt(items)


def test_the_noise_is_added_to_the_sums_and_to_nothing_else() -> None:
    users = [example([1, 2]), example([2])]
    with_users = release_popularity(users, ITEMS, 2.0, insecure_streams(1).noise)
    alone = release_popularity([], ITEMS, 2.0, insecure_streams(1).noise)

    assert with_users - alone == pytest.approx(exact([[1, 2], [2]]), abs=1e-5)


@given(
    counts=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=30),
    sigma=st.just(0.0) | st.floats(0.1, 20),
)
@also(counts=[0.0, 1.4e-45], sigma=1.0)
@also(counts=[3.0, 3.0], sigma=1.0)
def test_the_prior_is_finite_not_negative_and_keeps_the_order(
    counts: list[float], sigma: float
) -> None:
    released = np.array(counts, np.float32)

    prior = log_prior(released, sigma)

    assert np.isfinite(prior).all()
    assert (prior >= 0).all()
    assert (np.diff(prior[np.argsort(released)]) >= -1e-6).all()
    assert prior.dtype == np.float32


def test_without_noise_the_counts_are_taken_as_they_are() -> None:
    assert log_prior(np.array([0, 1, 9], np.float32), 0.0) == pytest.approx(
        np.log([1, 2, 10])
    )


def test_cleaned_counts_are_nearer_to_the_truth_than_the_released_ones() -> None:
    """Many small counts, a few large: the shape of popularity everywhere."""
    rng = np.random.default_rng(3)
    truth = rng.pareto(1.5, 2000) * 0.3
    released = (truth + rng.normal(0, 1, 2000)).astype(np.float32)

    cleaned = np.expm1(log_prior(released, 1.0))

    as_released = np.maximum(released, 0)
    assert (
        np.square(cleaned - truth).mean() < 0.6 * np.square(as_released - truth).mean()
    )


def test_a_count_far_above_the_noise_stays_and_the_crowd_shrinks_together() -> None:
    rng = np.random.default_rng(4)
    released = np.append(rng.normal(2, 1, 3000), 40.0).astype(np.float32)

    cleaned = np.expm1(log_prior(released, 1.0))

    assert cleaned[-1] == pytest.approx(40, abs=0.5)
    assert cleaned[:-1].std() < 0.6


def test_two_counts_a_hundred_deviations_apart_do_not_meet() -> None:
    cleaned = np.expm1(log_prior(np.array([1, 1e6], np.float32), 1.0))

    assert cleaned == pytest.approx([1, 1e6], rel=1e-2, abs=600)
