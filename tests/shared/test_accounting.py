"""Epsilon, against numbers from three libraries and one closed form."""

import json
import math
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dp_accounting import (
    GaussianDpEvent,
    NeighboringRelation,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
)
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import accounting, composition
from shared.accounting import (
    MOST_ROUNDS,
    MOST_STEPS,
    GaussianEvent,
    cross_check,
    epsilon,
    gaussian_epsilon,
    noise_for,
    prv,
    rdp,
    release_noise,
    rounds_left,
)
from shared.errors import ConfigError, PrivacyError

FILE = Path(__file__).parents[2].parent / "shared" / "vectors" / "epsilon_vectors.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
DELTA = 1e-5


def rows(*path: str) -> list[Any]:
    """Rows of the vectors file as parameters, or one skipped parameter without it."""
    found: Any = VECTORS
    for key in path:
        found = found.get(key, {})
    absent = pytest.mark.skip(reason=f"no vectors at {FILE}")
    return list(found) if found else [pytest.param(None, marks=absent)]


def heavy(row: dict[str, Any]) -> bool:
    """Whether an accountant takes longer: many steps or little noise."""
    return bool(row["sigma"] < 2 or row["steps"] > 1000)


def split(found: list[Any]) -> list[Any]:
    """Mark the heavy rows as slow."""
    return [
        pytest.param(row, marks=pytest.mark.slow)
        if isinstance(row, dict) and heavy(row)
        else row
        for row in found
    ]


def event(row: Any) -> GaussianEvent:
    """An event from a row of names or from a triple."""
    q, sigma, steps = (
        (row["q"], row["sigma"], row["steps"]) if isinstance(row, dict) else row
    )
    return GaussianEvent(q=q, sigma=sigma, steps=steps)


def within(kind: str, want: float) -> Any:
    """The file's rule: ``|got - want| <= abs + rel * |want|``."""
    tolerance = VECTORS["tolerance"][kind]
    return pytest.approx(
        want, abs=tolerance["abs"] + tolerance["rel"] * abs(want), rel=0
    )


def drifting(rounds: int) -> list[GaussianEvent]:
    """Rounds whose rate and noise both rise a little."""
    return [
        GaussianEvent(q=0.01 + 0.0001 * i, sigma=1.0 + 0.001 * i, steps=20)
        for i in range(rounds)
    ]


def test_the_vectors_are_all_there() -> None:
    if not VECTORS:
        pytest.skip(f"no vectors at {FILE}")

    groups = {
        key: len(group.get("rows", [])) if isinstance(group, dict) else len(group)
        for key, group in VECTORS.items()
        if key not in {"schema", "description", "made_with", "tolerance"}
    }
    assert groups == {
        "ordering_checks": 5,
        "homogeneous": 27,
        "project_settings": 10,
        "heterogeneous": 3,
        "relations": 3,
        "other_schemes": 6,
        "exact_gaussian": 3,
        "composition": 3,
        "ledger_growth": 7,
        "refusal": 6,
        "bug_cost": 5,
        "invalid_events": 13,
        "invalid_delta": 4,
    }


@pytest.mark.parametrize(
    "row", split([*rows("homogeneous"), *rows("project_settings")])
)
def test_pld_equals_the_recorded_epsilon(row: dict[str, Any]) -> None:
    assert epsilon([event(row)], row["delta"]) == within(
        "pld_pessimistic", row["pld_pessimistic"]
    )


@pytest.mark.parametrize("row", split(rows("homogeneous")))
def test_pld_is_half_an_interval_a_step_above_rounding_down(
    row: dict[str, Any],
) -> None:
    spent = epsilon([event(row)], row["delta"])

    above = row["pld_optimistic"] + 0.5e-4 * row["steps"]
    assert row["pld_optimistic"] < spent == within("pld_pessimistic", above)


@pytest.mark.parametrize(
    "row", split([*rows("homogeneous"), *rows("project_settings")])
)
def test_another_rdp_accountant_is_looser_too(row: dict[str, Any]) -> None:
    accountant = RdpAccountant()
    mechanism = GaussianDpEvent(row["sigma"])
    accountant.compose(PoissonSampledDpEvent(row["q"], mechanism), row["steps"])

    loose = accountant.get_epsilon(row["delta"])

    assert loose == within("dp_accounting_rdp", row["dp_accounting_rdp"])
    assert loose > epsilon([event(row)], row["delta"])


@pytest.mark.slow
@pytest.mark.parametrize("row", rows("bug_cost", "rows"))
def test_a_seeded_bug_costs_what_is_recorded(row: dict[str, Any]) -> None:
    true = {
        "noise halved": (0.2, 2.99 / 2, 100),
        "user contributes 2.9 C": (0.2, 2.99 / 2.9, 100),
        "user contributes 3 C": (0.2, 2.99 / 3, 100),
        "each user once per epoch, 20 epochs, no amplification": (1.0, 2.99, 20),
        "every user in every step (q=1)": (1.0, 2.99, 100),
    }

    assert epsilon([event(true[row["bug"]])], DELTA) == within(
        "pld_pessimistic", row["eps"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("row", rows("other_schemes"))
def test_other_ways_to_draw_users_cost_more(row: dict[str, Any]) -> None:
    if "epochs" in row:
        once = [GaussianEvent(q=1.0, sigma=row["sigma"], steps=row["epochs"])]
        assert epsilon(once, row["delta"]) == within("pld_pessimistic", row["eps"])
        return
    users, mechanism = 10_000, GaussianDpEvent(row["sigma"])
    fixed = RdpAccountant(neighboring_relation=NeighboringRelation.REPLACE_ONE)
    batch = SampledWithoutReplacementDpEvent(users, int(users * row["q"]), mechanism)
    fixed.compose(batch, row["steps"])

    assert fixed.get_epsilon(row["delta"]) == within("dp_accounting_rdp", row["eps"])
    assert epsilon([event(row)], row["delta"], "replace_one") < row["eps"]


@pytest.mark.parametrize(
    "row", split([*rows("homogeneous"), *rows("project_settings")])
)
def test_rdp_equals_the_recorded_epsilon_and_is_looser(row: dict[str, Any]) -> None:
    loose = rdp([event(row)], row["delta"])

    assert loose == within("opacus_rdp", row["opacus_rdp"])
    assert loose > row["pld_pessimistic"]


@pytest.mark.parametrize("row", split(rows("project_settings")))
def test_prv_equals_the_recorded_epsilon_and_is_just_above(row: dict[str, Any]) -> None:
    independent = prv([event(row)], row["delta"])

    assert independent == within("opacus_prv", row["opacus_prv"])
    assert 0.009 < independent - row["pld_pessimistic"] < 0.017


@pytest.mark.slow
@pytest.mark.parametrize("row", rows("homogeneous"))
def test_prv_is_just_above_pld_in_every_row_it_can_do(row: dict[str, Any]) -> None:
    if row["opacus_prv"] is None or row["opacus_prv"] > 100:
        pytest.skip("PRV takes minutes and may answer inf (PRIVACY 3.3)")

    independent = prv([event(row)], row["delta"])

    assert independent == within("opacus_prv", row["opacus_prv"])
    assert 0.009 < independent - row["pld_pessimistic"] < 0.017


@pytest.mark.parametrize("row", split(rows("relations")))
def test_replacing_a_user_costs_more_than_adding_one(row: dict[str, Any]) -> None:
    add = epsilon([event(row)], row["delta"])
    replace = epsilon([event(row)], row["delta"], "replace_one")

    assert add == within("pld_pessimistic", row["add_remove"])
    assert add == within("pld_pessimistic", row["zero_out"])
    assert replace == within("pld_replace_one", row["replace_one"])
    assert replace > add


@pytest.mark.parametrize("row", split(rows("project_settings")))
def test_replace_one_equals_the_recorded_epsilon(row: dict[str, Any]) -> None:
    assert epsilon([event(row)], row["delta"], "replace_one") == within(
        "pld_replace_one", row["pld_replace_one"]
    )


@pytest.mark.parametrize("row", rows("exact_gaussian", "rows"))
def test_without_sampling_pld_meets_the_closed_form(row: dict[str, Any]) -> None:
    mu = math.sqrt(row["steps"]) / row["sigma"]
    every = [GaussianEvent(q=1.0, sigma=row["sigma"], steps=row["steps"])]

    exact = gaussian_epsilon(mu, row["delta"])

    assert exact == within("exact_gaussian", row["add_remove"])
    assert gaussian_epsilon(2 * mu, row["delta"]) == within(
        "exact_gaussian", row["replace_one"]
    )
    assert exact <= epsilon(every, row["delta"]) == within("pld_pessimistic", exact)


@given(mu=st.floats(0.1, 20.0), tail=st.floats(2.0, 5.0))
def test_the_closed_form_inverts_the_delta_of_balle_and_wang(
    mu: float, tail: float
) -> None:
    def cdf(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    eps = mu * mu / 2 + tail * mu
    delta = cdf(mu / 2 - eps / mu) - math.exp(eps) * cdf(-mu / 2 - eps / mu)

    assert gaussian_epsilon(mu, delta) == pytest.approx(eps, rel=1e-4)


def test_a_mechanism_that_delta_covers_costs_nothing() -> None:
    assert gaussian_epsilon(1e-6, DELTA) == 0.0


@pytest.mark.parametrize("mu", [0.0, -1.0, math.inf, math.nan])
def test_the_closed_form_refuses_a_mu_that_is_none(mu: float) -> None:
    with pytest.raises(ConfigError, match="mu="):
        gaussian_epsilon(mu, DELTA)


@pytest.mark.parametrize("row", rows("composition"))
def test_events_compose_to_the_recorded_epsilon(row: dict[str, Any]) -> None:
    spent = epsilon(map(event, row["events"]), row["delta"])

    assert spent == within("pld_pessimistic", row["pld_pessimistic"])
    if "same_as" in row:
        assert spent == epsilon(map(event, row["same_as"]), row["delta"])


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=pytest.mark.slow)
        if isinstance(row, dict) and row["steps"] not in {1, 100}
        else row
        for row in rows("ledger_growth", "rows")
    ],
)
def test_a_ledger_grows_as_recorded(row: dict[str, Any]) -> None:
    growth = VECTORS["ledger_growth"]
    history = [GaussianEvent(q=growth["q"], sigma=growth["sigma"], steps=row["steps"])]

    assert epsilon(history, growth["delta"]) == within(
        "pld_pessimistic", row["add_remove"]
    )
    assert epsilon(history, growth["delta"], "replace_one") == within(
        "pld_replace_one", row["replace_one"]
    )


@pytest.mark.parametrize("row", rows("refusal"))
def test_the_verdict_on_a_planned_event_is_as_recorded(row: dict[str, Any]) -> None:
    after = epsilon(map(event, [*row["ledger"], row["planned"]]), row["delta"])

    assert after == within("pld_pessimistic", row["eps_after"])
    assert (after <= row["budget"]) is row["allow"]


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=pytest.mark.slow)
        if isinstance(row, dict) and row["rounds"] > 10
        else row
        for row in rows("heterogeneous", "rows")
    ],
)
def test_many_kinds_of_event_compose_on_the_coarse_grid(row: dict[str, Any]) -> None:
    history = drifting(row["rounds"])

    spent = epsilon(history, DELTA)

    assert spent == within("pld_vdi_1e3", row["pld_vdi_1e3"])
    assert rdp(history, DELTA) == within("opacus_rdp", row["opacus_rdp"])
    if row["pld_vdi_1e4"] is not None:
        assert row["pld_vdi_1e4"] <= spent
        assert spent == within("pld_pessimistic", row["pld_vdi_1e4"])


@pytest.mark.slow
@pytest.mark.parametrize("row", rows("heterogeneous", "rows")[:2])
def test_prv_composes_many_kinds_of_event_too(row: dict[str, Any]) -> None:
    assert prv(drifting(row["rounds"]), DELTA) == within(
        "opacus_prv", row["opacus_prv"]
    )


def test_more_than_eight_kinds_of_event_are_reported_on_the_coarse_grid() -> None:
    nine = [GaussianEvent(q=1.0, sigma=20.0 + i, steps=1) for i in range(9)]

    assert epsilon(nine, DELTA) == epsilon(nine, DELTA, interval=1e-3)
    assert epsilon(nine[:8], DELTA) < epsilon(nine[:8], DELTA, interval=1e-3)


@pytest.mark.parametrize("row", rows("invalid_events"))
def test_an_impossible_event_is_refused(row: dict[str, Any]) -> None:
    def number(value: Any) -> Any:
        return float(value) if value in ("NaN", "Infinity") else value

    with pytest.raises(ConfigError, match="is not"):
        GaussianEvent(
            q=number(row["q"]), sigma=number(row["sigma"]), steps=row["steps"]
        )


def test_every_fault_of_an_event_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"q=True.*sigma='1'.*steps=1000001"):
        GaussianEvent(q=True, sigma="1", steps=1_000_001)  # type: ignore[arg-type]


@pytest.mark.parametrize("delta", [*rows("invalid_delta"), True, "1e-5"])
def test_an_impossible_delta_is_refused_by_every_accountant(delta: Any) -> None:
    wrong = math.nan if delta == "NaN" else delta

    for account in (epsilon, rdp, prv):
        with pytest.raises(ConfigError, match="delta="):
            account([GaussianEvent(q=0.2, sigma=3.0, steps=1)], wrong)


def test_an_unknown_relation_is_refused() -> None:
    with pytest.raises(ConfigError, match="relation='zero_out'"):
        epsilon([], DELTA, "zero_out")  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma", [1e-200, 1e-6, 1e300])
def test_an_epsilon_that_is_no_number_is_an_error(sigma: float) -> None:
    with pytest.raises(PrivacyError, match="epsilon is inf at delta=1e-05"):
        epsilon([GaussianEvent(q=0.2, sigma=sigma, steps=1)], DELTA)


ROUNDED = [
    (10_000, 100.0, 1e-10),
    (10_000, 100.0, 1e-11),
    pytest.param(1_000_000, 1e3, 1e-9, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("steps", "sigma", "delta"), ROUNDED)
def test_rounding_does_not_bring_epsilon_below_the_truth(
    steps: int, sigma: float, delta: float
) -> None:
    history = [GaussianEvent(q=1.0, sigma=sigma, steps=steps)]

    exact = gaussian_epsilon(math.sqrt(steps) / sigma, delta)

    assert exact <= epsilon(history, delta) < 1.05 * exact


def test_a_delta_that_rounding_may_hide_is_refused() -> None:
    with pytest.raises(PrivacyError, match="delta=5e-12"):
        epsilon([GaussianEvent(q=1.0, sigma=100.0, steps=10_000)], 5e-12)


@pytest.mark.slow
def test_faint_losses_are_seen_on_a_finer_grid() -> None:
    faint = [GaussianEvent(q=0.05, sigma=1000.0, steps=1_000_000)]

    central_limit = gaussian_epsilon(0.05, DELTA)  # mu = q sqrt(steps) / sigma

    assert epsilon(faint, DELTA) == pytest.approx(central_limit, rel=0.02)
    assert epsilon(faint, DELTA) < rdp(faint, DELTA)


@settings(max_examples=10, deadline=None)
@given(
    sigma=st.floats(3.0, 1e4),
    steps=st.integers(1, 100_000),
    delta=st.sampled_from([1e-5, 1e-6, 1e-8]),
)
def test_without_sampling_neither_relation_is_below_the_closed_form(
    sigma: float, steps: int, delta: float
) -> None:
    history, mu = [GaussianEvent(q=1.0, sigma=sigma, steps=steps)], steps**0.5 / sigma

    for relation, scale in (("add_remove", 1), ("replace_one", 2)):
        spent = epsilon(history, delta, relation, 1e-3)  # type: ignore[arg-type]
        exact = gaussian_epsilon(scale * mu, delta)
        assert exact - 1e-9 <= spent <= exact + 0.01 * (1 + exact)


def test_a_loss_too_wide_for_any_grid_is_an_error() -> None:
    with pytest.raises(PrivacyError, match="epsilon is inf"):
        epsilon([GaussianEvent(q=1.0, sigma=0.01, steps=MOST_STEPS)], DELTA)


def test_hardly_any_noise_is_bounded_from_above_on_a_wider_grid() -> None:
    hardly = [GaussianEvent(q=1.0, sigma=0.1, steps=10)]

    exact = gaussian_epsilon(math.sqrt(10) / 0.1, DELTA)

    assert exact <= epsilon(hardly, DELTA) < exact + 0.01


def test_no_events_cost_nothing_by_any_accountant() -> None:
    assert cross_check([], DELTA) == {
        "pld": 0.0,
        "replace_one": 0.0,
        "rdp": 0.0,
        "prv": 0.0,
    }


KINDS = st.sampled_from([(0.2, 4.0), (0.05, 4.0), (1.0, 20.0), (0.2, 8.0)])
EVENTS = st.lists(
    st.builds(
        lambda kind, steps: GaussianEvent(q=kind[0], sigma=kind[1], steps=steps),
        KINDS,
        st.integers(1, 40),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(history=EVENTS, data=st.data())
def test_splitting_or_shuffling_events_never_changes_epsilon(
    history: list[GaussianEvent], data: st.DataObject
) -> None:
    parts = [
        GaussianEvent(q=whole.q, sigma=whole.sigma, steps=steps)
        for whole in history
        for cut in [data.draw(st.integers(0, whole.steps - 1))]
        for steps in (cut, whole.steps - cut)
        if steps
    ]

    shuffled = data.draw(st.permutations(parts))

    assert epsilon(shuffled, DELTA, interval=1e-3) == epsilon(
        history, DELTA, interval=1e-3
    )


def whole_numbers(history: list[GaussianEvent]) -> list[GaussianEvent]:
    """The same events, in which q and sigma are integers where they can be."""
    return [
        GaussianEvent(q=int(e.q), sigma=int(e.sigma), steps=e.steps) if e.q == 1 else e
        for e in history
    ]


def many_kinds(count: int) -> list[GaussianEvent]:
    """Rounds of which no two are alike, and which are quick to compose."""
    return [GaussianEvent(q=1.0, sigma=30.0 + i, steps=1 + i % 3) for i in range(count)]


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(many_kinds(20)))
def test_the_order_of_many_kinds_never_changes_epsilon(
    order: list[GaussianEvent],
) -> None:
    assert epsilon(order, DELTA) == epsilon(many_kinds(20), DELTA)
    assert epsilon(whole_numbers(order), DELTA) == epsilon(many_kinds(20), DELTA)


def forget(monkeypatch: pytest.MonkeyPatch, most: int) -> composition._Kept:
    """Nothing is kept from earlier calls; from now on at most ``most`` points."""
    fresh = composition._Kept(most)
    monkeypatch.setattr(composition, "_kept", fresh)
    composition.composed_epsilon.cache_clear()
    return fresh


def test_one_more_kind_makes_only_what_lies_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []
    compose = composition._compose

    def counted(kinds: Any, *rest: Any) -> Any:
        made.append(len(kinds))
        return compose(kinds, *rest)

    forget(monkeypatch, composition.MOST_KEPT)
    monkeypatch.setattr(composition, "_compose", counted)
    history = many_kinds(100)
    for before, after in pairwise(range(90, 101)):
        epsilon(history[:before], DELTA)
        made.clear()
        epsilon(history[:after], DELTA)

        assert max(made) == after
        assert len(made) <= 2 + 2 * math.log2(100)


def test_what_is_kept_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    grown = [epsilon(many_kinds(count), DELTA) for count in range(1, 10)]

    forget(monkeypatch, 0)

    assert grown == [epsilon(many_kinds(count), DELTA) for count in range(1, 10)]


def test_no_more_is_kept_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = forget(monkeypatch, 50_000)

    for count in range(1, 13):
        epsilon(many_kinds(count), DELTA)

        points = sum(map(composition._points, kept._found.values()))
        assert 0 < points == kept._points <= 50_000


def test_what_two_threads_make_at_once_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = forget(monkeypatch, 10**9)
    pld = composition._composed(((1.0, 30.0, 1),), "add_remove", 1e-3)
    points = kept._points

    kept.get("both", lambda: kept.get("both", lambda: pld))

    assert kept._points == points + composition._points(pld)


@settings(max_examples=25, deadline=None)
@given(history=EVENTS, extra=EVENTS)
def test_epsilon_never_falls_when_an_event_is_added(
    history: list[GaussianEvent], extra: list[GaussianEvent]
) -> None:
    before = epsilon(history, DELTA, interval=1e-3)

    assert epsilon([*history, extra[0]], DELTA, interval=1e-3) >= before - 1e-9


def test_the_cross_check_returns_every_account_of_one_history() -> None:
    accounts = cross_check([GaussianEvent(q=0.2, sigma=2.99, steps=100)], DELTA)

    assert accounts["pld"] == pytest.approx(2.98928, abs=1e-3)
    assert accounts["replace_one"] == pytest.approx(6.10492, abs=2e-3)
    assert accounts["prv"] == pytest.approx(2.99946, abs=6e-3)
    assert accounts["rdp"] == pytest.approx(3.26745, abs=1e-3)


def accounts_of(monkeypatch: pytest.MonkeyPatch, **answers: float) -> None:
    """Let accountants answer what the test says."""
    for name, answer in answers.items():
        monkeypatch.setattr(accounting, name, lambda *_, value=answer: value)


@pytest.mark.parametrize(
    "answers",
    [
        {"epsilon": 3.0, "rdp": 2.9, "prv": 3.01},
        {"epsilon": 3.0, "rdp": math.inf, "prv": 3.01},
        {"epsilon": 3.0, "rdp": math.nan, "prv": 3.01},
        {"epsilon": 3.0, "rdp": 3.3, "prv": 2.999},
        {"epsilon": 3.0, "rdp": 3.3, "prv": 3.0231},
    ],
)
def test_accountants_that_contradict_each_other_raise_the_alarm(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, float]
) -> None:
    accounts_of(monkeypatch, **answers)

    with pytest.raises(PrivacyError, match="accountants disagree"):
        cross_check([], DELTA)


@pytest.mark.parametrize(
    ("answers", "independent"),
    [
        ({"epsilon": 3.0, "rdp": 3.3, "prv": 3.0229}, 3.0229),
        ({"epsilon": 3.0, "rdp": 3.3, "prv": 3.0}, 3.0),
    ],
)
def test_accountants_that_agree_raise_no_alarm(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, float], independent: float
) -> None:
    accounts_of(monkeypatch, **answers)

    assert cross_check([], DELTA)["prv"] == independent


def test_prv_is_left_out_where_it_has_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> float:
        raise PrivacyError

    accounts_of(monkeypatch, epsilon=3.0, rdp=3.3)
    monkeypatch.setattr(accounting, "prv", fails)

    assert cross_check([], DELTA)["prv"] is None


LONG = [
    (0.2, 0.6, 10_000),
    (0.1, 0.3, 1000),
    (0.01, 1.0, MOST_STEPS),
    (0.5, 1e6, 1),
]


@pytest.mark.parametrize("row", LONG)
def test_prv_is_left_out_where_it_would_take_long(row: Any) -> None:
    assert accounting._prv_or_none([event(row)], DELTA) is None


def test_prv_is_left_out_where_its_own_error_is_large() -> None:
    steps = [GaussianEvent(q=1.0, sigma=11.5, steps=1771)]
    rounded = [GaussianEvent(q=0.387, sigma=62.3, steps=49_386)]

    assert accounting._prv_or_none(steps, 0.4) is not None
    assert accounting._prv_or_none(steps, 0.9) is None
    assert accounting._prv_or_none(rounded, 1e-10) is None


CORNERS = [
    pytest.param((0.5, 10.0, MOST_STEPS), id="long"),
    pytest.param((0.5, 0.3, 1000), id="wide"),
    pytest.param((1e-6, 0.05, MOST_STEPS), id="skewed"),
    pytest.param((0.5, 1e6, 1), id="rdp"),
    pytest.param((1e-9, 1e12, MOST_STEPS), id="nothing"),
]


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("row", CORNERS)
def test_the_slow_corners_take_seconds(row: Any) -> None:
    started = time.process_time()

    accounts = cross_check([event(row)], DELTA)

    assert time.process_time() - started < 20
    assert accounts["pld"] is not None
    assert math.isfinite(accounts["pld"])


@pytest.mark.timeout(60)
def test_rdp_takes_whole_orders_where_the_broken_ones_take_long() -> None:
    strong = GaussianEvent(q=0.5, sigma=1e6, steps=1)
    less = GaussianEvent(q=0.5, sigma=101.0, steps=100)
    broken = GaussianEvent(q=0.5, sigma=100.0, steps=100)

    assert rdp([strong], DELTA) < 0.2
    assert rdp([less], DELTA) < 1.1 * rdp([broken], DELTA)


def test_rdp_is_never_below_zero() -> None:
    assert rdp([GaussianEvent(q=0.2, sigma=30.0, steps=1)], 0.9) == 0.0


@pytest.mark.parametrize("account", [rdp, prv])
@pytest.mark.parametrize("sigma", [1e-200, 1e300])
def test_no_accountant_returns_what_is_no_number(account: Any, sigma: float) -> None:
    with pytest.raises(PrivacyError, match="epsilon is inf"):
        account([GaussianEvent(q=0.2, sigma=sigma, steps=1)], DELTA)


def test_the_cross_check_meets_the_closed_form_without_sampling() -> None:
    history = [
        GaussianEvent(q=1.0, sigma=20.0, steps=50),
        GaussianEvent(q=1.0, sigma=40.0, steps=200),
    ]

    accounts = cross_check(history, DELTA)

    exact = gaussian_epsilon(2 * math.sqrt(50 / 400 + 200 / 1600), DELTA)
    assert accounts["replace_one"] == within("pld_replace_one", exact)


@pytest.mark.parametrize(
    ("wrong", "q", "alarm"),
    [
        ({"add_remove": 1.8}, 1.0, "PLD 1.800000 misses the closed form 1.99"),
        ({"add_remove": 2.01}, 1.0, "PLD 2.010000 misses the closed form 1.99"),
        ({"replace_one": 4.0}, 1.0, "replace-one 4.000000 misses"),
        ({"replace_one": 1.9}, 0.9, "replace-one 1.900000 is below add/remove 1.99"),
    ],
)
def test_a_distribution_that_misses_its_anchor_raises_the_alarm(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, float], q: float, alarm: str
) -> None:
    right = {"add_remove": 1.9931, "replace_one": 4.3771}

    def answer(_: Any, __: float, relation: str = "add_remove") -> float:
        return {**right, **wrong}[relation]

    monkeypatch.setattr(accounting, "epsilon", answer)
    monkeypatch.setattr(accounting, "_prv_or_none", lambda *_: None)

    with pytest.raises(PrivacyError, match=alarm):
        cross_check([GaussianEvent(q=q, sigma=20.0, steps=100)], DELTA)


@pytest.mark.parametrize(
    ("limit", "sigma"),
    [
        (1.0, 7.63),
        (3.0, 2.99),
        pytest.param(8.0, 1.45, marks=pytest.mark.slow),
        (0.01, None),
    ],
)
def test_noise_is_the_smallest_hundredth_that_holds(
    limit: float, sigma: float | None
) -> None:
    found = noise_for(limit, DELTA, q=0.2, steps=100)
    less = GaussianEvent(q=0.2, sigma=round(found - 0.01, 2), steps=100)

    assert found == sigma or sigma is None
    assert epsilon([GaussianEvent(q=0.2, sigma=found, steps=100)], DELTA) <= limit
    assert epsilon([less], DELTA) > limit


@settings(max_examples=20, deadline=None)
@given(limit=st.floats(0.05, 20.0), delta=st.floats(1e-9, 1e-2))
def test_the_noise_of_one_release_is_the_smallest_hundredth_by_the_closed_form(
    limit: float, delta: float
) -> None:
    sigma = release_noise(limit, delta)

    assert gaussian_epsilon(1 / sigma, delta) <= limit
    assert gaussian_epsilon(1 / round(sigma - 0.01, 2), delta) > limit


def test_the_search_for_noise_begins_near_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, honest = list[float](), accounting._bound

    def bound(*args: Any) -> float:
        asked.append(args[-1])
        return honest(*args)

    monkeypatch.setattr(accounting, "_bound", bound)
    noise_for(1.0, DELTA, q=0.2, steps=100)

    assert asked.count(composition.COARSE) <= 10  # 20 and more from sigma = 1 on
    assert (
        asked.count(composition.FINE) == 3
    )  # what is spent, what holds, and what does not


@pytest.mark.slow
def test_noise_below_one_is_found_too() -> None:
    found = noise_for(60.0, DELTA, q=0.2, steps=100)

    assert epsilon([GaussianEvent(q=0.2, sigma=found, steps=100)], DELTA) <= 60
    assert found < 1


def test_noise_makes_room_for_what_is_charged_already() -> None:
    charged = [GaussianEvent(q=1.0, sigma=13.92, steps=80)]

    sigma = noise_for(3.0, DELTA, q=1.0, steps=20, others=charged)

    more = GaussianEvent(q=1.0, sigma=sigma, steps=20)
    assert 13.8 < sigma <= 13.92
    assert epsilon([*charged, more], DELTA) <= 3.0


def test_no_noise_holds_a_limit_that_is_passed_already() -> None:
    charged = [GaussianEvent(q=0.2, sigma=2.99, steps=100)]

    with pytest.raises(ConfigError, match=r"2\.9893 is spent.*limit 2\.5000"):
        noise_for(2.5, DELTA, q=0.2, steps=20, others=charged)


def test_no_noise_worth_naming_holds_a_tiny_limit() -> None:
    with pytest.raises(ConfigError, match="no sigma up to 1e\\+06"):
        noise_for(1e-6, 1e-9, q=0.2, steps=100)


@pytest.mark.slow
def test_the_smallest_noise_of_all_holds_a_limit_beyond_sense() -> None:
    assert noise_for(1e6, DELTA, q=1.0, steps=1) == 0.01


@pytest.mark.parametrize("limit", [0.0, -1.0, math.inf, math.nan])
def test_a_limit_that_is_no_limit_is_refused(limit: float) -> None:
    with pytest.raises(ConfigError, match="limit="):
        noise_for(limit, DELTA, q=0.2, steps=100)
    with pytest.raises(ConfigError, match="limit="):
        rounds_left(limit, DELTA, event=GaussianEvent(q=1.0, sigma=9.0, steps=1))


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(
    limit=st.floats(0.1, 10.0),
    sigma=st.floats(10.0, 200.0),
    steps=st.integers(1, 30),
    others=EVENTS,
)
def test_the_rounds_left_fit_and_one_more_does_not(
    limit: float, sigma: float, steps: int, others: list[GaussianEvent]
) -> None:
    round_ = GaussianEvent(q=1.0, sigma=sigma, steps=steps)

    left = rounds_left(limit, DELTA, event=round_, others=others)

    assert left == 0 or epsilon([*others, *[round_] * left], DELTA) <= limit
    if left < MOST_ROUNDS:
        assert epsilon([*others, *[round_] * (left + 1)], DELTA) > limit


def test_rounds_are_left_as_the_ledger_would_allow_them() -> None:
    round_ = event((0.2, 2.99, 20))

    left = [
        rounds_left(3.0, DELTA, event=round_, others=[round_] * spent)
        for spent in (0, 4, 5, 6)
    ]

    assert left == [5, 1, 0, 0]


def test_no_round_is_left_where_the_next_has_no_finite_epsilon() -> None:
    assert rounds_left(1e9, DELTA, event=event((0.2, 1e-6, 1))) == 0


def test_rounds_are_counted_up_to_a_stated_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whisper = GaussianEvent(q=1.0, sigma=1e5, steps=1)
    longer = GaussianEvent(q=1.0, sigma=1e5, steps=1000)

    assert rounds_left(8.0, DELTA, event=whisper) == MOST_ROUNDS
    monkeypatch.setattr(accounting, "MOST_STEPS", 3999)
    assert rounds_left(8.0, DELTA, event=longer) == 3


def test_the_accountant_is_imported_without_torch() -> None:
    heavy = {"torch", "opacus", "flwr", "numpy"}
    code = f"import sys, shared.ledger; print({heavy} & {{*sys.modules}})"

    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert loaded.stdout.strip() == "set()"
