"""What an epsilon means: the printed odds, the Gaussian curve, the curve of delta."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from shared.accounting import GaussianEvent, epsilon
from shared.composition import Relation
from shared.errors import ConfigError
from simulations.audit.odds import (
    best_tpr,
    delta_curve,
    in_words,
    posterior,
)

EPSILONS = st.floats(0.0, 60.0)


@pytest.mark.parametrize(
    ("claimed", "sure", "found"),
    [(1, "73.11%", "0.24%"), (3, "95.26%", "0.89%"), (8, "99.97%", "7.7%")],
)
def test_the_odds_are_those_that_the_privacy_reference_prints(
    claimed: float, sure: str, found: str
) -> None:
    """PRIVACY section 1: 73, 95 and 99.97 %; 0.24, 0.89 and 7.7 % at 0.1 %."""
    places = len(found.partition(".")[2]) - 1

    assert f"{posterior(claimed):.2%}" == sure
    assert f"{best_tpr(claimed, 1e-5, 1e-3):.{places}%}" == found


def test_no_privacy_loss_leaves_even_odds_and_hardly_more_than_chance() -> None:
    """At epsilon 0 all that is left is delta: the total variation."""
    assert posterior(0.0) == 0.5
    assert best_tpr(0.0, 1e-5, 0.5) == pytest.approx(0.5 + 1e-5, abs=1e-9)


@given(claimed=EPSILONS, fpr=st.floats(1e-6, 0.999))
def test_no_attacker_passes_what_epsilon_and_delta_allow(
    claimed: float, fpr: float
) -> None:
    """(epsilon, delta)-DP says TPR <= e^epsilon FPR + delta, at any delta."""
    delta = 1e-5

    found = best_tpr(claimed, delta, fpr)

    assert found <= math.exp(claimed) * fpr + delta + 1e-9
    assert found >= fpr


@pytest.mark.parametrize("factor", [1, 2])
def test_the_curve_of_delta_is_the_exact_one_where_every_user_is_in_every_step(
    factor: int,
) -> None:
    """Closed form: mu = sqrt(25 / 10^2 + 1 / 4^2), twice that for one replaced."""
    events = [
        GaussianEvent(q=1.0, sigma=10.0, steps=25),
        GaussianEvent(q=1.0, sigma=4.0, steps=1),
    ]
    relation: Relation = "add_remove" if factor == 1 else "replace_one"
    mu = factor * math.sqrt(0.25 + 0.0625)
    grid = np.linspace(0, 4, 9)
    exact = ndtr(mu / 2 - grid / mu) - np.exp(grid) * ndtr(-mu / 2 - grid / mu)

    found = np.array(delta_curve(events, grid.tolist(), relation))

    assert (found >= exact).all()
    assert np.allclose(found, exact, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize(
    ("events", "relation"),
    [
        ([(0.2, 2.99, 100), (1.0, 4.0, 1)], "add_remove"),
        ([(0.2, 2.99, 100)], "replace_one"),
        ([(0.001, 10.0, 10_000)], "add_remove"),  # faint in each step
        ([(0.05, 2.0 + n / 10, 5) for n in range(10)], "add_remove"),
    ],
)
def test_the_curve_of_delta_passes_through_the_reported_epsilon(
    events: list[tuple[float, float, int]], relation: Relation
) -> None:
    """Composed apart from it, and yet the same."""
    charged = [GaussianEvent(q=q, sigma=s, steps=t) for q, s, t in events]
    targets = [1e-3, 1e-5, 1e-7]
    spent = [epsilon(charged, delta, relation) for delta in targets]

    assert delta_curve(charged, spent, relation) == pytest.approx(targets, rel=1e-3)


def test_splitting_and_order_of_events_do_not_change_the_curve() -> None:
    one = GaussianEvent(q=0.2, sigma=2.0, steps=10)
    other = GaussianEvent(q=1.0, sigma=5.0, steps=1)
    whole = [GaussianEvent(q=0.2, sigma=2.0, steps=20), other]

    assert delta_curve([one, other, one], [0, 1]) == delta_curve(whole, [0, 1])


def test_the_curve_is_nothing_without_events_and_one_where_noise_is_no_noise() -> None:
    bare = GaussianEvent(q=1.0, sigma=1e-5, steps=10)

    assert delta_curve([], [0.0, 3.0]) == [0.0, 0.0]
    assert delta_curve([bare], [3.0, 0.0, 100.0]) == [1.0, 1.0, 1.0]


def test_epsilons_may_come_in_any_order() -> None:
    events = [GaussianEvent(q=0.2, sigma=2.0, steps=10)]

    rising, falling = delta_curve(events, [0, 1, 2]), delta_curve(events, [2, 1, 0])

    assert rising == falling[::-1]
    assert rising[0] > rising[1] > rising[2] > 0


def test_the_sentence_tells_both_odds_and_delta() -> None:
    told = in_words(3.0, 1e-5)

    assert "epsilon 3.00" in told
    assert "95.26% sure" in told
    assert "chance of 1e-05" in told
    assert "accuses 0.1% of the others finds at most 0.89%" in told


@pytest.mark.parametrize("bad", [-0.1, math.inf, math.nan])
def test_an_epsilon_that_no_promise_has_is_refused(bad: float) -> None:
    events = [GaussianEvent(q=0.2, sigma=2.0, steps=10)]
    for refused in (
        lambda: posterior(bad),
        lambda: in_words(bad, 1e-5),
        lambda: delta_curve(events, [1.0, bad]),
    ):
        with pytest.raises(ConfigError, match=r"epsilon=.* is not a finite number"):
            refused()


def test_a_delta_a_rate_or_a_relation_out_of_range_is_refused() -> None:
    events = [GaussianEvent(q=0.2, sigma=2.0, steps=10)]

    with pytest.raises(ConfigError, match=r"fpr=1\.5 is not in \[0, 1\]"):
        best_tpr(1.0, 1e-5, 1.5)
    with pytest.raises(ConfigError, match="relation='sideways' is not"):
        delta_curve(events, [1.0], "sideways")  # type: ignore[arg-type]
