"""Bounds from guesses, against recorded numbers, oracles and mechanisms that are known.

The recorded ones lie outside the repository and are skipped where they are missing.
"""

import json
import math
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from shared.accounting import gaussian_epsilon
from shared.errors import ConfigError
from simulations.audit.bounds import (
    Guesses,
    fdp_epsilon,
    fdp_mu,
    gaussian_delta,
    gaussian_mu,
    many_runs,
    s23_epsilon,
    s23_p_value,
)

FILE = Path(__file__).parents[3].parent / "shared" / "vectors" / "audit_vectors.json"
VECTORS: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
DELTA = 1e-5


def rows(*path: str) -> list[Any]:
    """Rows of the vectors file as parameters, or one skipped parameter without it."""
    found: Any = VECTORS
    for key in path:
        found = found.get(key, {})
    absent = pytest.mark.skip(reason=f"no vectors at {FILE}")
    return list(found) if found else [pytest.param(None, marks=absent)]


def guessed(row: dict[str, Any]) -> Guesses:
    """The guesses of a row of names."""
    return Guesses(canaries=row["m"], made=row["r"], right=row["v"])


def near(want: float) -> Any:
    """The file's rule for epsilon: ``|got - want| <= abs + rel * |want|``."""
    tolerance = VECTORS["tolerance"]
    allowed = tolerance["eps_abs"] + tolerance["eps_rel"] * abs(want)
    return pytest.approx(want, abs=allowed, rel=0)


def within(name: str, want: float) -> Any:
    """The file's absolute tolerance of that name."""
    return pytest.approx(want, abs=VECTORS["tolerance"][name], rel=0)


def test_the_vectors_are_all_there() -> None:
    if not VECTORS:
        pytest.skip(f"no vectors at {FILE}")

    groups = {
        name: len(group) for name, group in VECTORS.items() if isinstance(group, list)
    }
    assert groups == {
        "one_run": 14,
        "one_run_p_values": 3,
        "one_run_ceilings": 5,
        "published_checks": 4,
        "gaussian_eps": 3,
        "gaussian_delta": 3,
        "gaussian_mu": 3,
        "clopper_pearson": 3,
        "zero_cases": 2,
        "invalid_inputs": 6,
    }
    assert len(VECTORS["multi_threshold_checks"]["rows"]) == 4


@pytest.mark.parametrize("row", rows("one_run"))
def test_the_s23_bound_equals_the_recorded_one(row: dict[str, Any]) -> None:
    for at in row["s23_eps"]:
        assert s23_epsilon(guessed(row), at["delta"], at["beta"]) == near(at["eps"])


@pytest.mark.parametrize("row", rows("one_run"))
def test_the_fdp_bound_equals_the_recorded_one(row: dict[str, Any]) -> None:
    mu, eps = row["gdp_mu"], row["fdp_gaussian_eps"]

    assert fdp_mu(guessed(row), mu["beta"]) == within("mu_abs", mu["mu"])
    assert fdp_epsilon(guessed(row), eps["delta"], eps["beta"]) == near(eps["eps"])


@pytest.mark.parametrize("row", rows("one_run_p_values"))
def test_the_p_value_equals_the_recorded_one(row: dict[str, Any]) -> None:
    p = s23_p_value(guessed(row), row["eps"], row["delta"])

    assert p == within("p_abs", row["p"])


@pytest.mark.parametrize("row", rows("one_run_ceilings"))
def test_perfect_guessing_gives_the_recorded_ceiling(row: dict[str, Any]) -> None:
    half_right = Guesses(canaries=row["m"], made=row["r"], right=row["r"] // 2)

    best = half_right.perfect()

    assert best == guessed(row)
    assert s23_epsilon(best, row["delta"], row["beta"]) == near(row["eps"])


@pytest.mark.parametrize("row", rows("published_checks"))
def test_the_s23_bound_agrees_with_published_figures(row: dict[str, Any]) -> None:
    printed = len(str(row["published"]).partition(".")[2])

    bound = s23_epsilon(guessed(row), row["delta"], row["beta"])

    assert bound == near(row["eps"])
    assert bound == pytest.approx(row["published"], abs=max(1e-8, 0.5 * 10**-printed))


@pytest.mark.parametrize("row", rows("multi_threshold_checks", "rows"))
def test_both_bounds_agree_with_another_librarys_at_a_split_beta(
    row: dict[str, Any],
) -> None:
    bound = {"s23": s23_epsilon, "fdp": fdp_epsilon}[row["bound"]]

    got = bound(guessed(row), row["delta"], row["beta"])

    assert got == near(row["eps"])
    assert got == pytest.approx(row["published"], abs=1e-5)


@pytest.mark.parametrize("row", rows("zero_cases"))
def test_no_right_guess_proves_nothing(row: dict[str, Any]) -> None:
    for bound in (s23_epsilon, fdp_epsilon):
        assert bound(guessed(row), row["delta"], row["beta"]) == row["eps"]


def by_p_value(row: dict[str, Any]) -> float:
    return s23_p_value(guessed(row), row.get("eps", 1.0), row["delta"])


def by_s23(row: dict[str, Any]) -> float:
    return s23_epsilon(guessed(row), row["delta"])


def by_fdp(row: dict[str, Any]) -> float:
    return fdp_epsilon(guessed(row), row["delta"] or DELTA)  # it has no delta of 0


@pytest.mark.parametrize("row", rows("invalid_inputs"))
def test_an_impossible_input_is_refused(row: dict[str, Any]) -> None:
    """An impossible epsilon by the p-value, which alone is given one."""
    judges = [by_p_value] if "eps" in row else [by_p_value, by_s23, by_fdp]

    for judge in judges:
        with pytest.raises(ConfigError, match=r"is not in|must be integers"):
            judge(row)


@pytest.mark.parametrize("row", rows("gaussian_eps"))
def test_the_accountants_epsilon_of_a_gaussian_is_the_recorded_one(
    row: dict[str, Any],
) -> None:
    got = gaussian_epsilon(row["mu"], row["delta"])

    assert got == within("gaussian_abs", row["eps"])


@pytest.mark.parametrize("row", rows("gaussian_delta"))
def test_the_delta_of_a_gaussian_is_the_recorded_one(row: dict[str, Any]) -> None:
    got = gaussian_delta(row["mu"], row["eps"])

    assert got == within("gaussian_abs", row["delta"])


@pytest.mark.parametrize("row", rows("gaussian_mu"))
def test_the_mu_of_a_claim_is_the_recorded_one(row: dict[str, Any]) -> None:
    got = gaussian_mu(row["eps"], row["delta"])

    assert got == within("gaussian_abs", row["mu"])


@pytest.mark.parametrize("row", rows("clopper_pearson"))
def test_many_runs_give_the_recorded_limits_and_bounds(row: dict[str, Any]) -> None:
    counts = {name: row[name] for name in ("tp", "n_in", "fp", "n_out")}

    got = many_runs(**counts, delta=row["delta"], beta=row["beta"])

    assert got.tpr_lo == within("clopper_pearson_abs", row["tpr_lo"])
    assert got.fpr_hi == within("clopper_pearson_abs", row["fpr_hi"])
    assert got.epsilon == within("clopper_pearson_abs", row["eps"])
    assert got.mu == within("clopper_pearson_abs", row["mu"])


COUNTS = st.tuples(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60)).map(
    lambda three: dict(zip(("right", "made", "canaries"), sorted(three), strict=True))
)
GUESSES = COUNTS.filter(lambda counts: counts["canaries"] >= 1).map(
    lambda counts: Guesses(**counts)
)
BETAS = st.sampled_from([0.001, 0.01, 0.05, 0.3])
DELTAS = st.sampled_from([0.0, 1e-5, 1e-3])


@given(guesses=GUESSES, odds=st.integers(1, 50), delta=DELTAS)
def test_the_p_value_is_the_formula_in_exact_fractions(
    guesses: Guesses, odds: int, delta: float
) -> None:
    """e^eps is a whole number here, so every chance is a fraction."""
    r, v, q = guesses.made, guesses.right, Fraction(odds, odds + 1)
    chance = [math.comb(r, x) * q**x * (1 - q) ** (r - x) for x in range(r + 1)]
    below = [sum(chance[v - i : v], Fraction()) / i for i in range(1, v + 1)]
    slack = 2 * guesses.canaries * Fraction(delta) * max(below, default=Fraction())
    wanted = min(Fraction(1), sum(chance[v:], Fraction()) + slack)

    got = s23_p_value(guesses, math.log(odds), delta)

    assert got == pytest.approx(float(wanted), rel=1e-9, abs=1e-15)


@given(guesses=GUESSES, delta=DELTAS, beta=BETAS)
def test_the_s23_bound_is_the_edge_of_what_is_refuted(
    guesses: Guesses, delta: float, beta: float
) -> None:
    bound = s23_epsilon(guesses, delta, beta)

    assert s23_p_value(guesses, bound + 1e-8, delta) >= beta
    for part in (0.0, 0.3, 0.7, 1.0):
        assert bound == 0 or s23_p_value(guesses, part * bound, delta) < beta


@given(guesses=GUESSES, beta=BETAS)
def test_a_bound_is_never_above_its_ceiling_nor_falls_with_one_more_right_guess(
    guesses: Guesses, beta: float
) -> None:
    best = guesses.perfect()
    right = min(guesses.right + 1, guesses.made)
    better = Guesses(canaries=guesses.canaries, made=guesses.made, right=right)

    for bound in (s23_epsilon, fdp_epsilon):
        low, more, most = (bound(g, DELTA, beta) for g in (guesses, better, best))
        assert 0 <= low <= more + 1e-8 <= most + 2e-8


@given(guesses=GUESSES, beta=BETAS)
def test_being_surer_or_having_more_canaries_unguessed_never_raises_a_bound(
    guesses: Guesses, beta: float
) -> None:
    among = Guesses(
        canaries=2 * guesses.canaries, made=guesses.made, right=guesses.right
    )

    for bound in (s23_epsilon, fdp_epsilon):
        assert bound(guesses, DELTA, beta / 2) <= bound(guesses, DELTA, beta) + 1e-7
        assert bound(among, DELTA, beta) <= bound(guesses, DELTA, beta) + 1e-7


@given(guesses=GUESSES, beta=BETAS)
def test_guesses_no_better_than_a_coin_prove_nothing(
    guesses: Guesses, beta: float
) -> None:
    right = min(guesses.right, guesses.made // 2)
    blind = Guesses(canaries=guesses.canaries, made=guesses.made, right=right)

    assert s23_epsilon(blind, DELTA, beta) == 0
    assert fdp_epsilon(blind, DELTA, beta) == 0


@pytest.mark.parametrize("made", [10, 62, 100, 1000])
@pytest.mark.parametrize("beta", [0.01, 0.05])
def test_the_ceiling_without_delta_has_a_closed_form(made: int, beta: float) -> None:
    best = Guesses(canaries=made, made=made, right=made)

    assert s23_epsilon(best, 0.0, beta) == pytest.approx(
        -math.log(beta ** (-1 / made) - 1), abs=1e-8
    )


@given(
    epsilon=st.floats(0.0, 50.0), exponent=st.floats(-12.0, -0.1), mu=st.floats(0.05, 9)
)
def test_the_conversions_between_mu_and_epsilon_are_inverse(
    epsilon: float, exponent: float, mu: float
) -> None:
    delta = 10**exponent

    found = gaussian_mu(epsilon, delta)

    assert gaussian_delta(found, epsilon) == pytest.approx(delta, rel=1e-6)
    assert gaussian_epsilon(found, delta) == pytest.approx(epsilon, abs=1e-6)
    exact = gaussian_epsilon(mu, delta)
    assert exact == 0 or gaussian_mu(exact, delta) == pytest.approx(mu, abs=1e-7)


@given(runs=st.integers(1, 400), data=st.data(), beta=BETAS)
def test_the_limits_of_rates_are_where_the_binomial_tail_is_half_of_beta(
    runs: int, data: st.DataObject, beta: float
) -> None:
    tp, fp = data.draw(st.integers(0, runs)), data.draw(st.integers(0, runs))

    got = many_runs(tp=tp, n_in=runs, fp=fp, n_out=runs, delta=DELTA, beta=beta)

    so_many = binom.sf(tp - 1, runs, got.tpr_lo)
    so_few = binom.cdf(fp, runs, got.fpr_hi)
    assert so_many == pytest.approx(beta / 2, rel=1e-6) or (tp, got.tpr_lo) == (0, 0)
    assert so_few == pytest.approx(beta / 2, rel=1e-6) or (fp, got.fpr_hi) == (runs, 1)


def test_many_runs_say_the_same_of_an_attack_and_of_its_opposite() -> None:
    """The second ratio: calling members non-members is as telling."""
    one = many_runs(tp=50, n_in=100, fp=0, n_out=100, delta=0.0)
    other = many_runs(tp=100, n_in=100, fp=50, n_out=100, delta=0.0)

    assert one.epsilon == pytest.approx(other.epsilon)
    assert one.mu == pytest.approx(other.mu)
    assert min(one.epsilon, one.mu) > 1


@pytest.mark.parametrize(
    "counts",
    [
        {"tp": 5, "n_in": 4, "fp": 0, "n_out": 4},
        {"tp": 1, "n_in": 4, "fp": -1, "n_out": 4},
        {"tp": 0, "n_in": 0, "fp": 0, "n_out": 4},
        {"tp": 1.0, "n_in": 4, "fp": 0, "n_out": 4},
    ],
)
def test_counts_of_runs_that_cannot_be_are_refused(counts: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not a count among"):
        many_runs(**counts, delta=DELTA)


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, math.nan])
def test_a_beta_that_is_no_chance_is_refused_by_every_bound(beta: float) -> None:
    guesses = Guesses(canaries=10, made=10, right=9)

    for bound in (s23_epsilon, fdp_epsilon):
        with pytest.raises(ConfigError, match="beta="):
            bound(guesses, DELTA, beta)
    with pytest.raises(ConfigError, match="beta="):
        fdp_mu(guesses, beta)
    with pytest.raises(ConfigError, match="beta="):
        many_runs(tp=1, n_in=2, fp=1, n_out=2, delta=DELTA, beta=beta)


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_a_mu_or_an_epsilon_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="mu="):
        gaussian_delta(value, 1.0)
    with pytest.raises(ConfigError, match="epsilon="):
        gaussian_delta(1.0, value)
    with pytest.raises(ConfigError, match="epsilon="):
        gaussian_mu(value, DELTA)
    with pytest.raises(ConfigError, match="delta="):
        gaussian_mu(1.0, 0.0)


@pytest.mark.parametrize("counts", [(10.0, 5, 5), (10, 5, True), (0, 0, 0)])
def test_counts_of_guesses_are_whole_numbers_of_at_least_one_canary(
    counts: tuple[Any, ...],
) -> None:
    canaries, made, right = counts

    with pytest.raises(ConfigError, match="must be integers"):
        Guesses(canaries=canaries, made=made, right=right)


@pytest.mark.parametrize("right", [0, 1, 750, 1000, 1499, 1500])
def test_a_bound_of_5000_canaries_is_finite_and_takes_less_than_half_a_second(
    right: int,
) -> None:
    guesses = Guesses(canaries=5000, made=1500, right=right)

    for bound in (s23_epsilon, fdp_epsilon):
        start = time.process_time()
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            got = bound(guesses, DELTA)
        assert time.process_time() - start < 0.5
        assert 0 <= got < 12
    for epsilon in (0.0, 1.0, 50.0, 700.0):
        assert 0 <= s23_p_value(guesses, epsilon, DELTA) <= 1


def least_refuting(canaries: int, made: int, beyond: float, bound: Any) -> int:
    """The least number of right guesses whose bound is above the truth."""
    low, high = 0, made
    while high - low > 1:
        middle = (low + high) // 2
        above = bound(Guesses(canaries=canaries, made=made, right=middle)) > beyond
        low, high = (low, middle) if above else (middle, high)
    return high


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_on_randomised_response_the_s23_bound_is_wrong_in_about_one_run_of_twenty(
    epsilon: float,
) -> None:
    """Each canary's bit is told truly with chance e^eps / (1 + e^eps)."""
    runs, m = 4000, 1000
    rng = np.random.default_rng(2026)
    told = rng.random((runs, m), np.float32) < 1 / (1 + math.exp(-epsilon))
    right = told.sum(1)

    least = least_refuting(m, m, epsilon, lambda g: s23_epsilon(g, 0.0))

    wrong = float((right >= least).mean())
    assert 0.035 < wrong < 0.06  # 0.05 less what whole counts cost; 3 deviations 0.01


@pytest.mark.parametrize("mu", [0.27, 0.72])
def test_on_gaussian_mechanisms_both_bounds_are_wrong_in_fewer_runs(mu: float) -> None:
    """Each canary adds mu to noise of deviation 1; 100 extreme scores are guessed."""
    runs, m, r = 3000, 1000, 100
    rng = np.random.default_rng(2026)
    included = rng.random((runs, m)) < 0.5
    order = np.argsort(rng.normal(size=(runs, m)) + mu * included, axis=1)
    ordered = np.take_along_axis(included, order, axis=1)
    right = ordered[:, -r // 2 :].sum(1) + (~ordered[:, : r // 2]).sum(1)
    epsilon = gaussian_epsilon(mu, DELTA)

    least = least_refuting(m, r, mu, fdp_mu)
    more = least_refuting(m, r, epsilon, lambda g: s23_epsilon(g, DELTA))

    assert float((right >= least).mean()) < 0.05
    assert float((right >= more).mean()) < 0.01
    assert least < more


@settings(max_examples=20)
@given(made=st.integers(1, 60), odds=st.integers(1, 30), beta=BETAS)
def test_the_chance_that_the_s23_bound_is_wrong_is_at_most_beta(
    made: int, odds: int, beta: float
) -> None:
    """Exactly, on randomised response: the sum over all counts that would mislead."""
    epsilon, q = math.log(odds), odds / (odds + 1)

    misleading = [
        right
        for right in range(made + 1)
        if s23_epsilon(Guesses(canaries=made, made=made, right=right), 0.0, beta)
        > epsilon
    ]

    assert sum(binom.pmf(right, made, q) for right in misleading) <= beta
