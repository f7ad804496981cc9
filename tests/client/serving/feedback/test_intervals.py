"""Intervals: over users, as wide as chance makes them, and never without width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.serving.feedback.intervals import difference, ratio, wilson


def people(rng: np.random.Generator, count: int, rate: float) -> np.ndarray:
    """Users of one to nine places each, who choose each at their own rate."""
    shown = rng.integers(1, 10, count)
    own = rng.beta(10 * rate, 10 * (1 - rate), count)
    return np.stack([rng.binomial(shown, own), shown], axis=1).astype(np.float64)


def test_the_interval_of_a_ratio_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        found = ratio(people(rng, 150, 0.2))
        assert found is not None
        held += found.low <= 0.2 <= found.high

    assert 178 <= held <= 200  # 95 % of 200, four standard errors


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        found = difference(people(rng, 150, 0.3), people(rng, 150, 0.2))
        assert found is not None
        held += found.low <= -0.1 <= found.high

    assert 178 <= held <= 200


def test_many_lists_of_one_user_are_no_evidence_of_many() -> None:
    """The same sums from ten users, or from a thousand: the interval tells."""
    few = np.array([[100.0, 100.0], *[[0.0, 100.0]] * 9])
    many = np.array([[1.0, 1.0], *[[0.0, 1.0]] * 9] * 100)

    one, other = ratio(few), ratio(many)

    assert one is not None
    assert other is not None
    assert one.value == other.value == 0.1
    assert one.high - one.low > 5 * (other.high - other.low)


def test_a_share_that_nobody_has_yet_may_still_be_some() -> None:
    found = ratio(np.array([[0.0, 5.0]] * 20))

    assert found == wilson(0, 20)
    assert found.low == 0.0
    assert found.high == pytest.approx(0.1611, abs=1e-4)


def test_wilsons_interval_is_the_published_one() -> None:
    """Of 8 in 10, by Brown, Cai and DasGupta (2001), eq. 4."""
    found = wilson(8, 10)

    assert (found.low, found.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_where_there_is_nothing_there_is_no_figure() -> None:
    nobody, some = np.zeros((3, 2)), np.ones((3, 2))

    assert ratio(nobody) is None
    assert ratio(np.zeros((0, 2))) is None
    assert difference(nobody, some) is None
    assert difference(some, nobody) is None


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1),
    seed=st.integers(0, 9),
)
def test_a_figure_lies_within_its_interval_and_is_the_same_again(
    rows: list[tuple[int, int]], seed: int
) -> None:
    sums = np.array([(min(a, b), b) for a, b in rows], np.float64)
    sums = np.random.default_rng(seed).permutation(sums)

    found = ratio(sums)

    assert found == ratio(sums)
    if found is not None:
        assert found.value == pytest.approx(sums[:, 0].sum() / sums[:, 1].sum())
        assert 0 <= found.low <= found.high <= 1
