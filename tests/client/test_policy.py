"""What a site allows, whatever the server asks."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from datetime import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.policy import (
    Circumstances,
    SitePolicy,
    is_open,
    require_allowed,
    require_shapes,
    require_start,
)
from shared.accounting import GaussianEvent
from shared.adapter import norm
from shared.errors import PolicyRefused
from shared.protocol import Mechanism, RoundPlan
from tests.standin import a_plan

BASE, CODE, OTHER = "0" * 64, "c" * 64, "1" * 64
HERE = Circumstances(site="a", base=BASE, code=CODE, now=time(23, 30))
LIMITS = {
    "min_sigma": 1.0,
    "min_prior_sigma": 2.0,
    "min_head_sigma": 2.5,
    "min_metric_sigma": 3.0,
    "max_q": 0.25,
    "max_steps": 30,
    "max_clip": 0.5,
    "max_rank": 32,
    "max_tensor_mib": 1.0,
    "base": BASE,
    "code": CODE,
    "modules": ("output", "dense:2"),
    "releases": ("popularity", "cooccurrence", "metrics"),
    "hours": "22:00-06:00",
}

FEW = 25  # examples of each limit
Changes = Mapping[str, Any]
Asked = tuple[RoundPlan, SitePolicy, Circumstances]


def policy(**changes: Any) -> SitePolicy:
    return SitePolicy(**{"epsilon": 8.0, "users": 100, **LIMITS, **changes})


def plan(**mechanism: Any) -> RoundPlan:
    """At every limit exactly, and therefore allowed."""
    usual = {"q": 0.25, "sigma": 1.0, "steps": 30, "clip": 0.5}
    usual |= {"prior_sigma": 2.0, "head_sigma": 2.5, "metric_sigma": 3.0}
    noise = Mechanism(**{**usual, **mechanism})
    return replace(a_plan(), mechanism=noise, shapes={"b": (512, 512)})


def noisy(asked: RoundPlan, **changes: Any) -> RoundPlan:
    return replace(asked, mechanism=replace(asked.mechanism, **changes))


def fitted(asked: RoundPlan, **changes: Any) -> RoundPlan:
    return replace(asked, spec=replace(asked.spec, **changes))


def refusal(asked: RoundPlan, ours: SitePolicy, here: Circumstances = HERE) -> str:
    with pytest.raises(PolicyRefused) as caught:
        require_allowed(asked, ours, here)
    return str(caught.value).removeprefix("round 1 refused by policy: ")


def test_a_plan_at_every_limit_is_allowed() -> None:
    require_allowed(plan(), policy(), HERE)


EDGES: dict[str, Asked] = {
    "serve-only: this site does not train": (plan(), policy(serve_only=True), HERE),
    "outside the hours 22:00-06:00": (plan(), policy(), replace(HERE, now=time(6))),
    "site 'a' is not among the plan's sites": (
        *(replace(plan(), sites=("b",)), policy()),
        HERE,
    ),
    f"code {'1' * 16} is not the approved {'c' * 16}": (
        *(plan(), policy()),
        replace(HERE, code=OTHER),
    ),
    f"base digest {'1' * 16} is not ours, {'0' * 16}": (
        *(fitted(plan(), base=OTHER), policy()),
        HERE,
    ),
    f"base digest {'0' * 16} is not ours, {'1' * 16}": (
        *(plan(), policy(base=OTHER)),
        HERE,
    ),
    "modules=dense:3 is not of output, dense:2": (
        *(fitted(plan(), modules="dense:3"), policy()),
        HERE,
    ),
    "rank=33 is over 32": (fitted(plan(), rank=33), policy(), HERE),
    "adapter of 2.0 MiB is over 1.0": (
        *(replace(plan(), shapes={"b": (512, 512), "c": (512, 512)}), policy()),
        HERE,
    ),
    "q=0.2500001 is over 0.25": (plan(q=0.2500001), policy(), HERE),
    "steps=31 is over 30": (plan(steps=31), policy(), HERE),
    "clip=0.5000001 is over 0.5": (plan(clip=0.5000001), policy(), HERE),
    "sigma=0.99 is under 1.0": (plan(sigma=0.99), policy(), HERE),
    "prior-sigma=1.99 is under 2.0": (plan(prior_sigma=1.99), policy(), HERE),
    "head-sigma=2.49 is under 2.5": (plan(head_sigma=2.49), policy(), HERE),
    "metric-sigma=2.99 is under 3.0": (plan(metric_sigma=2.99), policy(), HERE),
    "a popularity release is not allowed": (
        *(plan(), policy(releases=("cooccurrence", "metrics"))),
        HERE,
    ),
    "a co-occurrence release is not allowed": (
        *(plan(), policy(releases=("popularity", "metrics"))),
        HERE,
    ),
    "a metric may not leave": (
        *(plan(), policy(releases=("popularity", "cooccurrence"))),
        HERE,
    ),
}


@pytest.mark.parametrize("reason", EDGES)
def test_each_limit_alone_refuses_and_is_the_only_one_named(reason: str) -> None:
    assert refusal(*EDGES[reason]) == reason


def test_all_reasons_are_named_at_once() -> None:
    noise = Mechanism(
        q=0.5,
        sigma=0.5,
        clip=1.0,
        steps=99,
        prior_sigma=0.5,
        head_sigma=0.5,
        metric_sigma=0.5,
    )
    asked = fitted(plan(), base=OTHER, rank=64, modules="dense:9")
    asked = replace(asked, sites=(), mechanism=noise, shapes={"b": (1024, 1024)})
    here = replace(HERE, now=time(12), code=OTHER)

    told = refusal(asked, policy(serve_only=True, releases=()), here).split("; ")

    assert len(told) == len(EDGES) - 1  # of the two ways to be another base
    assert len({one.split("=")[0] for one in told}) == len(told)


@st.composite
def policies(draw: st.DrawFn) -> SitePolicy:
    """Policies of sites that promise something; all limits are drawn."""
    levels = st.floats(0.3, 20)
    return policy(
        epsilon=draw(st.floats(0.1, 100)),
        min_sigma=draw(levels),
        min_prior_sigma=draw(levels),
        min_head_sigma=draw(levels),
        min_metric_sigma=draw(levels),
        max_q=draw(st.floats(0.001, 1)),
        max_steps=draw(st.integers(1, 10_000)),
        max_clip=draw(st.floats(0.01, 100)),
        max_rank=draw(st.integers(1, 1024)),
        max_tensor_mib=draw(st.floats(0.01, 8)),
        base=draw(st.sampled_from([BASE, ""])),
        code=draw(st.sampled_from([CODE, ""])),
        hours=draw(st.sampled_from(["22:00-06:00", "23:30-23:31", "09:00-08:59", ""])),
    )


@st.composite
def inside(draw: st.DrawFn, ours: SitePolicy) -> RoundPlan:
    """A plan within all limits; a release is asked for or not."""
    values = int(ours.max_tensor_mib * 2**18)
    rows = draw(st.integers(1, values))
    return replace(
        fitted(
            plan(
                q=draw(st.floats(1e-6, ours.max_q)),
                sigma=draw(st.floats(ours.min_sigma, 1e5)),
                steps=draw(st.integers(1, ours.max_steps)),
                clip=draw(st.floats(1e-6, ours.max_clip)),
                prior_sigma=draw(st.just(0.0) | st.floats(ours.min_prior_sigma, 1e5)),
                head_sigma=draw(st.just(0.0) | st.floats(ours.min_head_sigma, 1e5)),
                metric_sigma=draw(st.just(0.0) | st.floats(ours.min_metric_sigma, 1e5)),
            ),
            rank=draw(st.integers(1, ours.max_rank)),
            modules=draw(st.sampled_from(ours.modules)),
        ),
        sites=draw(st.sampled_from([("a",), ("a", "b"), ("b", "a")])),
        shapes={"b": (rows,), "c": (1, values - rows)},
    )


@given(data=st.data(), ours=policies())
def test_any_plan_within_all_limits_is_allowed(
    data: st.DataObject, ours: SitePolicy
) -> None:
    require_allowed(data.draw(inside(ours)), ours, HERE)


NO_NUMBER = st.just(math.nan)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


def over(limit: float) -> st.SearchStrategy[float]:
    return st.floats(min_value=limit, exclude_min=True, allow_nan=False) | NO_NUMBER


def under(limit: float) -> st.SearchStrategy[float]:
    """Zero asks for no release, and is another matter."""
    low = st.floats(max_value=limit, exclude_max=True, allow_nan=False)
    return low.filter(bool) | NO_NUMBER


Draw = Callable[[st.SearchStrategy[Any]], Any]
BEYOND: dict[str, Callable[[Draw, RoundPlan, SitePolicy], Asked]] = {
    "q=": lambda d, p, o: (noisy(p, q=d(over(o.max_q))), o, HERE),
    "clip=": lambda d, p, o: (noisy(p, clip=d(over(o.max_clip))), o, HERE),
    "sigma=": lambda d, p, o: (
        *(noisy(p, sigma=d(under(o.min_sigma) | st.just(0.0))), o),
        HERE,
    ),
    "prior-sigma=": lambda d, p, o: (
        *(noisy(p, prior_sigma=d(under(o.min_prior_sigma))), o),
        HERE,
    ),
    "head-sigma=": lambda d, p, o: (
        *(noisy(p, head_sigma=d(under(o.min_head_sigma))), o),
        HERE,
    ),
    "metric-sigma=": lambda d, p, o: (
        *(noisy(p, metric_sigma=d(under(o.min_metric_sigma))), o),
        HERE,
    ),
    "steps=": lambda d, p, o: (
        *(noisy(p, steps=d(st.integers(min_value=o.max_steps + 1))), o),
        HERE,
    ),
    "rank=": lambda d, p, o: (
        *(fitted(p, rank=d(st.integers(min_value=o.max_rank + 1))), o),
        HERE,
    ),
    "adapter of ": lambda d, p, o: (
        replace(p, shapes={**p.shapes, "d": (d(st.integers(2, 1 << 40)), 1 << 10)}),
        *(o, HERE),
    ),
    "modules=": lambda d, p, o: (
        fitted(p, modules=d(st.text().filter(lambda m: m not in o.modules))),
        *(o, HERE),
    ),
    "base digest ": lambda d, p, o: (
        *(fitted(p, base=d(DIGESTS.filter(lambda b: b != BASE))), o),
        HERE,
    ),
    "site 'a' ": lambda d, p, o: (
        *(replace(p, sites=tuple(d(st.sets(st.text())) - {"a"})), o),
        HERE,
    ),
    "code ": lambda d, p, o: (
        *(p, replace(o, code=d(DIGESTS.filter(lambda c: c != CODE)))),
        HERE,
    ),
    "outside the hours ": lambda d, p, o: (
        *(p, replace(o, hours="22:00-06:00")),
        replace(HERE, now=d(st.times(time(6), time(21, 59, 59)))),
    ),
    "serve-only": lambda _d, p, o: (p, replace(o, serve_only=True), HERE),
    "a popularity release ": lambda _d, p, o: (
        noisy(p, prior_sigma=1e5),
        replace(o, releases=("cooccurrence", "metrics")),
        HERE,
    ),
    "a co-occurrence release ": lambda _d, p, o: (
        noisy(p, head_sigma=1e5),
        replace(o, releases=("popularity", "metrics")),
        HERE,
    ),
    "a metric ": lambda _d, p, o: (
        noisy(p, metric_sigma=1e5),
        replace(o, releases=("popularity", "cooccurrence")),
        HERE,
    ),
}


@pytest.mark.parametrize("limit", BEYOND)
@settings(max_examples=FEW)
@given(data=st.data(), ours=policies())
def test_any_plan_beyond_one_limit_alone_is_refused_and_the_limit_is_named(
    limit: str, data: st.DataObject, ours: SitePolicy
) -> None:
    """A value that is no number is beyond too."""
    asked = BEYOND[limit](data.draw, data.draw(inside(ours)), ours)

    told = refusal(*asked)

    assert told.startswith(limit)
    assert "; " not in told.removeprefix("modules=" + asked[0].spec.modules)


def test_every_limit_of_a_policy_is_tried_by_the_property_above() -> None:
    the_ledgers = {"epsilon", "delta", "users", "insecure_test_noise"}
    of_releases = {  # one key, three limits
        *("a popularity release ", "a co-occurrence release ", "a metric "),
    }
    of_the_plan = {"site 'a' "}
    # start norm has a property of its own; the tallies are asked for by no plan
    elsewhere = {"releases", "max_start_norm", "min_serving_sigma"}

    limits = {field.name for field in fields(SitePolicy)} - the_ledgers - elsewhere

    assert len(limits) == len(BEYOND.keys() - of_releases - of_the_plan)


@given(data=st.data(), ours=policies())
def test_what_the_policy_allows_the_ledger_can_charge(
    data: st.DataObject, ours: SitePolicy
) -> None:
    noise, limits = data.draw(inside(ours)).mechanism, ours.limits()
    asked = {  # rate, noise, steps and length of one user's part
        "training": (noise.q, noise.sigma, noise.steps, noise.clip),
        "popularity": (1.0, noise.prior_sigma, 1, 1.0),
        "cooccurrence": (1.0, noise.head_sigma, 1, 1.0),
        "metrics": (noise.q, noise.metric_sigma, 1, 1.0),
    }

    passed = {
        what: limits.passed_by(what, GaussianEvent(q=q, sigma=sigma, steps=steps), clip)
        for what, (q, sigma, steps, clip) in asked.items()
        if sigma
    }

    assert not any(passed.values())
    assert limits.epsilon == ours.epsilon
    assert limits.policy == ours.digest()


def test_only_a_site_that_promises_nothing_takes_part_without_noise() -> None:
    asked = plan(sigma=0.0, prior_sigma=0.0, head_sigma=0.0, metric_sigma=0.0)

    require_allowed(asked, policy(epsilon=math.inf), HERE)
    assert refusal(asked, policy(epsilon=1e300)) == "sigma=0.0 is under 1.0"


def test_without_noise_there_is_no_clipping_and_so_no_limit_on_it() -> None:
    asked = plan(sigma=0.0, prior_sigma=0.0, head_sigma=0.0, metric_sigma=0.0, clip=1e5)

    require_allowed(asked, policy(epsilon=math.inf), HERE)


@pytest.mark.parametrize(
    "limit",
    ["sigma=", "prior-sigma=", "metric-sigma=", "clip=", "a popularity release "],
)
@settings(max_examples=FEW)
@given(data=st.data(), ours=policies())
def test_a_site_that_promises_nothing_allows_no_noise_that_its_ledger_would_refuse(
    limit: str, data: st.DataObject, ours: SitePolicy
) -> None:
    ours = replace(ours, epsilon=math.inf)
    asked = BEYOND[limit](data.draw, data.draw(inside(ours)), ours)

    if asked[0].mechanism.sigma:
        assert refusal(*asked).startswith(limit)


def test_who_asks_for_no_release_needs_none_to_be_allowed() -> None:
    asked = plan(prior_sigma=0.0, head_sigma=0.0, metric_sigma=0.0)

    require_allowed(asked, policy(releases=()), HERE)


def test_a_site_promises_something_exactly_when_its_budget_is_finite() -> None:
    assert policy(epsilon=8.0).private
    assert not policy(epsilon=math.inf).private


SHAPES = {"a": (3, 2), "b": (4,)}


def test_the_tensors_of_a_plan_are_those_of_the_sites_own_encoder() -> None:
    require_shapes(replace(a_plan(), shapes=dict(reversed(SHAPES.items()))), SHAPES)


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"a": (3, 2)},
        {**SHAPES, "user_vectors": (4,)},
        {**SHAPES, "b": (5,)},
        {**SHAPES, "b": (4, 1)},
        {"a": (2, 3), "b": (4,)},
        {"a": (3, 2), "c": (4,)},
    ],
)
def test_a_plan_of_other_tensors_is_refused(shapes: dict[str, tuple[int, ...]]) -> None:
    told = r"its tensors are not the 2 that output of rank 32 has"

    with pytest.raises(PolicyRefused, match=told):
        require_shapes(replace(a_plan(), shapes=shapes), SHAPES)


@given(length=st.floats(0, 1e30), limit=st.floats(1e-3, 1e6))
def test_a_round_starts_from_no_adapter_longer_than_the_policy_allows(
    length: float, limit: float
) -> None:
    start = {"a": np.array([length, 0.0], np.float32)}
    ours = policy(max_start_norm=limit)
    if norm(start) <= limit:
        require_start(start, ours)
    else:
        with pytest.raises(PolicyRefused, match="max-start-norm"):
            require_start(start, ours)


MINUTES = st.integers(0, 24 * 60 - 1)


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@given(start=MINUTES, length=st.integers(1, 24 * 60 - 1), now=st.times())
def test_a_site_is_open_from_its_first_minute_to_its_last_also_past_midnight(
    start: int, length: int, now: time
) -> None:
    """The oracle goes round the clock."""
    end = (start + length) % (24 * 60)
    hours = f"{clock(start)}-{clock(end)}"
    since = (now.hour * 60 + now.minute - start) % (24 * 60)

    assert policy(hours=hours).faults() == []
    assert is_open(hours, now) == (since < length)
    assert is_open(hours, time.fromisoformat(clock(start)))
    assert not is_open(hours, time.fromisoformat(clock(end)))


@pytest.mark.parametrize(
    ("now", "open_"), [("21:59:59", 0), ("22:00", 1), ("05:59:59", 1), ("06:00", 0)]
)
def test_hours_begin_at_their_first_time_and_end_before_their_second(
    now: str, *, open_: bool
) -> None:
    assert is_open("22:00-06:00", time.fromisoformat(now)) == open_


@given(now=st.times())
def test_without_hours_a_site_is_always_open(now: time) -> None:
    assert is_open("", now)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0 must be above 0"),
        ({"epsilon": math.nan}, "epsilon=nan must be above 0"),
        ({"delta": 0.0}, "delta=0.0 is not in (0, 1/users = 1.0e-02]"),
        ({"delta": 0.011}, "delta=0.011 is not in (0, 1/users = 1.0e-02]"),
        ({"delta": math.nan}, "delta=nan is not in (0, 1/users = 1.0e-02]"),
        ({"users": 0}, "users=0 must be at least 1"),
        (
            {"releases": ("popularity", "losses")},
            "releases=['losses'] is not of popularity, shared-popularity, "
            "cooccurrence, metrics, serving",
        ),
        ({"base": "0" * 63}, "base is no SHA-256"),
        ({"code": "x" * 64}, "code is no SHA-256"),
        *(
            ({"hours": text}, f"hours={text!r} is not like 22:00-06:00")
            for text in (
                *("22-06", "22:00-24:00", "22:60-06:00", "22:00-22:00"),
                *("22:00-06:00\n", "1٣:00-02:00", "22:00", "always"),
            )
        ),
        *(
            (
                {key: value},
                f"{key.replace('_', '-')}={value} must be finite and above 0",
            )
            for key, kind in SitePolicy.__annotations__.items()
            if key.startswith(("min_", "max_"))
            for value in (kind(0), kind(-1))
        ),
        ({"max_q": math.inf}, "max-q=inf must be finite and above 0"),
        ({"min_sigma": math.nan}, "min-sigma=nan must be finite and above 0"),
    ],
)
def test_a_policy_without_a_promise_is_told_so(change: Changes, fault: str) -> None:
    assert policy(**change).faults() == [fault]


def test_a_sound_policy_has_no_faults() -> None:
    assert policy(delta=0.01).faults() == []
    assert SitePolicy(epsilon=math.inf, users=1).faults() == []


@pytest.mark.parametrize("name", [field.name for field in fields(SitePolicy)])
def test_every_value_of_a_policy_is_in_its_digest(name: str) -> None:
    ours = policy()
    others: dict[type, object] = {str: "x", tuple: ("x",), bool: True}
    change = {name: others.get(type(getattr(ours, name)), 7)}

    assert policy(**change).digest() != ours.digest() == policy().digest()
