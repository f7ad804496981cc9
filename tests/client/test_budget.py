"""What is left of a budget is what the ledger would still allow."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.budget import budget, noise_for_rounds
from shared.accounting import GaussianEvent, epsilon
from shared.errors import ConfigError, PrivacyError

DELTA = 1e-5
ROUND = GaussianEvent(q=0.2, sigma=2.99, steps=20)
QUIET = st.builds(
    GaussianEvent,
    q=st.just(1.0),
    sigma=st.sampled_from([15.0, 20.0, 40.0]),
    steps=st.integers(1, 20),
)


def test_a_fresh_budget_is_whole() -> None:
    fresh = budget([], 3.0, DELTA, None)

    assert (fresh.limit, fresh.delta, fresh.exposed) == (3.0, DELTA, False)
    assert (fresh.spent, fresh.spent_replace_one, fresh.left) == (0.0, 0.0, 3.0)
    assert (fresh.events, fresh.next_cost, fresh.rounds_left) == (0, None, None)


def test_four_of_five_rounds_leave_one() -> None:
    after = budget([ROUND] * 4, 3.0, DELTA, ROUND)

    assert after.spent == pytest.approx(2.651842, abs=3e-3)
    assert after.spent_replace_one == pytest.approx(5.355413, abs=8e-3)
    assert after.left == 3.0 - after.spent
    assert after.next_cost == pytest.approx(2.989279 - 2.651842, abs=4e-3)
    assert (after.events, after.rounds_left) == (4, 1)


def test_a_limit_that_was_lowered_below_what_is_spent_leaves_nothing() -> None:
    lowered = budget([ROUND] * 5, 2.0, DELTA, ROUND)

    assert lowered.spent > 2.9
    assert (lowered.left, lowered.rounds_left) == (0.0, 0)
    assert lowered.next_cost is not None
    assert lowered.next_cost > 0


@settings(max_examples=5, deadline=None)
@given(
    events=st.lists(QUIET, max_size=3),
    upcoming=QUIET,
    limit=st.floats(0.2, 6.0),
)
def test_the_rounds_left_fit_in_what_is_left_and_one_more_does_not(
    events: list[GaussianEvent], upcoming: GaussianEvent, limit: float
) -> None:
    now = budget(events, limit, DELTA, upcoming)

    assert now.rounds_left is not None
    after = budget([*events, *[upcoming] * now.rounds_left], limit, DELTA, upcoming)
    assert after.rounds_left == 0
    assert after.next_cost is not None
    assert after.spent + after.next_cost > limit
    assert after.spent <= limit or now.spent > limit


@settings(max_examples=4, deadline=None)
@given(
    events=st.lists(QUIET, max_size=2),
    room=st.floats(0.3, 4.0),
    steps=st.integers(1, 20),
    rounds=st.integers(1, 50),
)
def test_all_the_rounds_wished_for_stay_within_the_limit(
    events: list[GaussianEvent], room: float, steps: int, rounds: int
) -> None:
    limit = epsilon(events, DELTA) + room

    sigma = noise_for_rounds(events, limit, DELTA, q=1.0, steps=steps, rounds=rounds)

    planned = GaussianEvent(q=1.0, sigma=sigma, steps=steps)
    assert epsilon([*events, *[planned] * rounds], DELTA) <= limit


def test_noise_for_rounds_is_the_noise_that_pays_for_them() -> None:
    sigma = noise_for_rounds([], 3.0, DELTA, q=0.2, steps=20, rounds=5)

    assert sigma == 2.99
    assert budget([], 3.0, DELTA, ROUND).rounds_left == 5


def test_without_a_limit_what_is_spent_is_still_told() -> None:
    unlimited = budget([ROUND], math.inf, DELTA, ROUND)

    assert (unlimited.limit, unlimited.left) == (math.inf, math.inf)
    assert unlimited.rounds_left is None
    assert unlimited.spent == epsilon([ROUND], DELTA)
    assert unlimited.next_cost == epsilon([ROUND] * 2, DELTA) - unlimited.spent


@pytest.mark.parametrize(
    ("limit", "left", "rounds"), [(3.0, 0.0, 0), (math.inf, math.inf, None)]
)
def test_what_left_without_noise_makes_epsilon_infinite(
    limit: float, left: float, rounds: int | None
) -> None:
    exposed = budget([ROUND], limit, DELTA, ROUND, exposed=True)

    assert exposed.exposed
    assert (exposed.spent, exposed.spent_replace_one) == (math.inf, math.inf)
    assert (exposed.left, exposed.rounds_left) == (left, rounds)
    assert (exposed.events, exposed.next_cost) == (1, None)


def test_no_noise_helps_a_site_that_released_without() -> None:
    with pytest.raises(ConfigError, match=r"without noise.*limit 3\.0"):
        noise_for_rounds([], 3.0, DELTA, q=0.2, steps=20, rounds=1, exposed=True)


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_that_is_none_is_refused(limit: float) -> None:
    with pytest.raises(ConfigError, match="limit="):
        budget([], limit, DELTA, None)


@pytest.mark.parametrize("rounds", [0, -3, 1.0, True])
def test_rounds_that_cannot_be_counted_are_refused(rounds: Any) -> None:
    with pytest.raises(ConfigError, match="rounds="):
        noise_for_rounds([], 3.0, DELTA, q=0.2, steps=-20, rounds=rounds)


def test_no_limit_needs_no_noise() -> None:
    with pytest.raises(ConfigError, match="limit=inf is not a finite number"):
        noise_for_rounds([], math.inf, DELTA, q=0.2, steps=20, rounds=1)


def test_a_spent_budget_pays_for_no_rounds() -> None:
    with pytest.raises(ConfigError, match="is spent already"):
        noise_for_rounds([ROUND] * 6, 3.0, DELTA, q=0.2, steps=20, rounds=1)


def test_a_round_whose_epsilon_is_no_number_is_an_error() -> None:
    hardly = GaussianEvent(q=0.2, sigma=1e-6, steps=1)

    with pytest.raises(PrivacyError, match="epsilon is inf"):
        budget([], 3.0, DELTA, hardly)
