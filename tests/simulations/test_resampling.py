"""Intervals and significance against the plain versions of both."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.metrics import coverage, gini
from simulations.resampling import Shown, exposure_intervals, intervals, significance


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_intervals_are_those_of_users_drawn_one_by_one() -> None:
    values = np.random.default_rng(1).random((80, 2)) ** 3
    drawn = [values[rng.integers(0, 80, 80)].mean(axis=0) for rng in [rng()]
             for _ in range(4000)]  # fmt: skip
    expected = np.percentile(drawn, [2.5, 97.5], axis=0)

    made = intervals(values, rng())

    for column, figure in enumerate(made):
        assert figure["mean"] == pytest.approx(values[:, column].mean())
        found = [figure["low"], figure["high"]]
        assert found == pytest.approx(expected[:, column].tolist(), abs=0.01)


def test_the_interval_holds_the_mean_and_narrows_with_more_users() -> None:
    values = rng().random((1000, 1))

    wide, narrow = intervals(values[:50], rng())[0], intervals(values, rng())[0]

    assert narrow["low"] < values.mean() < narrow["high"]
    assert narrow["high"] - narrow["low"] < (wide["high"] - wide["low"]) / 2


def test_columns_are_resampled_together() -> None:
    """So two figures that are equal user by user have one interval."""
    values = rng().integers(0, 2, (60, 1)).astype(float)

    one, other = intervals(np.hstack([values, values]), rng())

    assert one == other


def test_a_figure_without_spread_has_an_interval_of_one_point() -> None:
    assert intervals(np.full((7, 1), 0.5), rng()) == [
        {"mean": 0.5, "low": 0.5, "high": 0.5}
    ]


@pytest.mark.parametrize("users", [50, 120_000])
def test_a_thousand_resamples_of_any_number_of_users_fit_in_little_memory(
    users: int,
) -> None:
    rank = rng().integers(1, 30, users)

    figure = intervals(np.where(rank <= 10, 1.0, 0.0)[:, None], rng())[0]

    assert figure["high"] - figure["low"] == pytest.approx(
        2 * 1.96 * np.sqrt(1 / 3 * 2 / 3 / users), rel=0.2
    )


def test_exposure_is_a_mean_over_sites_of_each_ones_own_catalogue() -> None:
    sites = [Shown(np.array([[0, 1], [0, 1]]), 4), Shown(np.array([[2, 0]]), 10)]

    made = exposure_intervals({"covered": coverage, "uneven": gini}, sites, rng())

    assert made["covered"] == {"mean": 0.35, "low": 0.35, "high": 0.35}
    assert made["uneven"]["mean"] == pytest.approx((0.5 + 0.8) / 2)


def test_the_interval_of_coverage_is_not_below_what_users_were_shown() -> None:
    """A resample shows less, and its percentiles are moved by as much."""
    top = rng().integers(0, 500, (60, 10))

    covered = exposure_intervals({"": coverage}, [Shown(top, 500)], rng())[""]

    assert covered["low"] < covered["mean"] < covered["high"]


@given(st.integers(1, 9), st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_significance_is_the_share_of_flips_that_differ_as_much(
    better: int, worse: int
) -> None:
    """All of one size: the sign test, whose p is a sum of binomial chances."""
    users = better + worse
    gain = np.array([0.5] * better + [-0.5] * worse + [0.0] * 4)
    ways = np.array([1.0])
    for _ in range(users):
        ways = np.convolve(ways, [0.5, 0.5])
    extreme = np.abs(2 * np.arange(users + 1) - users) >= abs(better - worse)

    assert significance(gain, rng()) == pytest.approx(ways[extreme].sum(), abs=0.02)


def test_without_any_difference_p_is_one() -> None:
    assert significance(np.zeros(9), rng()) == 1.0


def test_differences_of_many_sizes_are_flipped_user_by_user() -> None:
    gain = rng().normal(0.15, 1.0, 100)
    signs = rng().choice([-1.0, 1.0], (20_000, 100))
    expected = np.mean(np.abs(signs @ gain) >= abs(gain.sum()))

    assert significance(gain, rng()) == pytest.approx(expected, abs=0.015)
