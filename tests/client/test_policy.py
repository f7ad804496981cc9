"""What a site allows, whatever the server asks."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.policy import SitePolicy, require_allowed
from shared.errors import PolicyRefused
from shared.protocol import AdapterSpec, Mechanism, RoundPlan
from tests.standin import a_plan

BASE = "0" * 64
LIMITS = {
    "min_sigma": 1.0,
    "min_prior_sigma": 2.0,
    "max_q": 0.25,
    "max_steps": 30,
    "max_rank": 32,
    "max_tensor_mib": 1.0,
}


def policy(**changes: Any) -> SitePolicy:
    return SitePolicy(**{"epsilon": 8.0, "users": 100, **LIMITS, **changes})


def plan(**mechanism: float) -> RoundPlan:
    """At every limit exactly, and therefore allowed."""
    usual = {"q": 0.25, "sigma": 1.0, "steps": 30, "prior_sigma": 2.0}
    noise = Mechanism(**{**usual, **mechanism})  # type: ignore[arg-type]
    return replace(a_plan(), mechanism=noise, shapes={"b": (512, 512)})


def test_a_plan_at_every_limit_is_allowed() -> None:
    require_allowed(plan(), policy(), "a", BASE)


ONE_TOO_FAR = {
    "sites": (replace(plan(), sites=("b",)), "site 'a' is not among the plan's sites"),
    "base": (
        replace(plan(), spec=AdapterSpec(base="1" * 64)),
        f"base digest {'1' * 16} is not ours, {'0' * 16}",
    ),
    "q": (plan(q=0.2500001), "q=0.2500001 is over 0.25"),
    "steps": (plan(steps=31), "steps=31 is over 30"),
    "rank": (
        replace(plan(), spec=AdapterSpec(base=BASE, rank=33)),
        "rank=33 is over 32",
    ),
    "size": (
        replace(plan(), shapes={"b": (512, 512), "c": (512, 512)}),
        "adapter of 2.0 MiB is over 1.0",
    ),
    "sigma": (plan(sigma=0.99), "sigma=0.99 is under 1.0"),
    "prior-sigma": (plan(prior_sigma=1.99), "prior-sigma=1.99 is under 2.0"),
}


@pytest.mark.parametrize("what", ONE_TOO_FAR)
def test_each_limit_alone_refuses_and_is_the_only_one_named(what: str) -> None:
    asked, reason = ONE_TOO_FAR[what]

    with pytest.raises(PolicyRefused) as caught:
        require_allowed(asked, policy(), "a", BASE)

    assert str(caught.value) == f"round 1 refused by policy: {reason}"


def test_all_reasons_are_named_at_once() -> None:
    spec = AdapterSpec(base="1" * 64, rank=64)
    noise = Mechanism(q=0.5, sigma=0.5, steps=99, prior_sigma=0.5)
    shapes = {"b": (1024, 1024)}
    asked = replace(plan(), sites=(), spec=spec, mechanism=noise, shapes=shapes)

    with pytest.raises(PolicyRefused) as caught:
        require_allowed(asked, policy(), "a", BASE)

    told = str(caught.value).removeprefix("round 1 refused by policy: ").split("; ")
    words = ("site", "base", "q=", "steps=", "rank=", "adapter", "sigma=", "prior-")
    assert len(told) == len(ONE_TOO_FAR)
    assert all(one.startswith(word) for one, word in zip(told, words, strict=True))


NEAR = st.sampled_from([0.0, 0.3, 1.0, 2.0, 4.0, math.nan, math.inf, -1.0])


@given(
    q=st.sampled_from([0.1, 0.25, 0.26, 1.0, math.nan]),
    sigma=NEAR,
    prior_sigma=NEAR,
    steps=st.integers(1, 60),
    rank=st.integers(1, 64),
    rows=st.integers(1, 1024),
)
def test_no_plan_outside_any_limit_ever_reaches_the_data(
    q: float, sigma: float, prior_sigma: float, steps: int, rank: int, rows: int
) -> None:
    """A value that is no number is outside too."""
    asked = replace(
        plan(q=q, sigma=sigma, prior_sigma=prior_sigma, steps=steps),
        spec=AdapterSpec(base=BASE, rank=rank),
        shapes={"b": (rows, 512)},
    )
    inside = (
        q in {0.1, 0.25}
        and sigma in {1.0, 2.0, 4.0, math.inf}
        and prior_sigma in {2.0, 4.0, math.inf}
        and steps <= 30
        and rank <= 32
        and rows <= 512
    )

    if inside:
        require_allowed(asked, policy(), "a", BASE)
    else:
        with pytest.raises(PolicyRefused):
            require_allowed(asked, policy(), "a", BASE)


def test_only_a_site_that_promises_nothing_takes_part_without_noise() -> None:
    asked = plan(sigma=0.0, prior_sigma=0.0)

    require_allowed(asked, policy(epsilon=math.inf), "a", BASE)
    with pytest.raises(PolicyRefused, match=r"sigma=0\.0 is under 1\.0; prior-sigma"):
        require_allowed(asked, policy(epsilon=1e300), "a", BASE)


def test_a_site_promises_something_exactly_when_its_budget_is_finite() -> None:
    assert policy(epsilon=8.0).private
    assert not policy(epsilon=math.inf).private


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0 must be above 0"),
        ({"epsilon": math.nan}, "epsilon=nan must be above 0"),
        ({"delta": 0.0}, "delta=0.0 is not in (0, 1/users = 1.0e-02]"),
        ({"delta": 0.011}, "delta=0.011 is not in (0, 1/users = 1.0e-02]"),
        ({"users": 0}, "users=0 must be at least 1"),
    ],
)
def test_a_policy_without_a_promise_is_told_so(
    change: dict[str, float], fault: str
) -> None:
    assert policy(**change).faults() == [fault]


def test_a_sound_policy_has_no_faults() -> None:
    assert policy(delta=0.01).faults() == []
