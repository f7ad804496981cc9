"""What guesses about canaries prove: lower bounds on epsilon, as pure maths.

A bound can refute a claim and never prove one. Counts that cannot be, and a delta, beta
or epsilon out of range, are refused. All bounds hold with probability ``1 - beta``, for
a number of guesses that was chosen before the run (PRIVACY 7.1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.special import (
    betaincc,
    betainccinv,
    betaincinv,
    expit,
    gammaln,
    log_expit,
    log_ndtr,
    ndtr,
    ndtri,
)

from shared.accounting import gaussian_epsilon
from shared.errors import ConfigError

STRIDE = 0.05  # of the scan for the first value that is not refuted
PRECISION = 1e-9  # of the bisection that follows


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses:
    """How many canaries were guessed about, and how often rightly.

    Attributes:
        canaries: Canaries, each included by a fair coin of the auditor, m.
        made: Guesses made, r; the auditor abstains on the others.
        right: Right guesses, v.

    Raises:
        ConfigError: If the counts cannot be.
    """

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        right, made, canaries = self.right, self.made, self.canaries
        whole = all(_is_count(n) for n in (right, made, canaries))
        if not (whole and 0 <= right <= made <= canaries and canaries >= 1):
            raise ConfigError(
                f"guesses: {right=!r}, {made=!r}, {canaries=!r} must be integers with "
                "0 <= right <= made <= canaries, and at least one canary"
            )

    def perfect(self) -> "Guesses":
        """Return as many guesses, all of them right: what gives the ceiling."""
        return replace(self, right=self.made)


def s23_p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Return the greatest chance of so many right guesses under (epsilon, delta)-DP.

    With ``X ~ Bin(r, e^eps / (1 + e^eps))`` it is
    ``P[X >= v] + 2 m delta max_i P[v - i <= X < v] / i`` over i in 1..v, at most 1
    (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846, Theorem 5.2).

    Raises:
        ConfigError: If epsilon or delta is out of range.
    """
    _check_from_zero(math.inf, epsilon=epsilon)
    _check_from_zero(1.0, delta=delta)
    made, right = guesses.made, guesses.right
    if right == 0:
        return 1.0
    tail = float(betaincc(made - right + 1, right, expit(-epsilon)))
    fewer = np.arange(right - 1, -1, -1)
    ways = gammaln(made + 1) - gammaln(fewer + 1) - gammaln(made - fewer + 1)
    chance = fewer * log_expit(epsilon) + (made - fewer) * log_expit(-epsilon)
    just_below = np.exp(ways + chance).cumsum() / np.arange(1, right + 1)
    return min(1.0, tail + 2 * guesses.canaries * delta * float(just_below.max()))


def s23_epsilon(guesses: Guesses, delta: float, beta: float = 0.05) -> float:
    """Return the lower bound on epsilon of one run (arXiv 2305.08846, Cor. 5.4).

    The p-value need not rise with epsilon when delta is above 0, so the bound is the
    first epsilon, from 0 up, that is not refuted: never above the greatest one.

    Raises:
        ConfigError: If delta or beta is out of range.
    """
    _check_from_zero(1.0, delta=delta)
    _check_inside(1.0, beta=beta)
    return _first_kept(lambda eps: s23_p_value(guesses, eps, delta) < beta)


def fdp_mu(guesses: Guesses, beta: float = 0.05) -> float:
    """Return the lower bound on mu of one run, if the mechanism is mu-Gaussian-DP.

    The recursion of arXiv 2410.22235 for one of two values, with the trade-off curve
    ``Phi(Phi^-1(1 - a) - mu)``. It speaks of the Gaussian family alone: to test a claim
    of (epsilon, delta), compare with ``gaussian_mu(epsilon, delta)``.

    Raises:
        ConfigError: If beta is out of range.
    """
    _check_inside(1.0, beta=beta)
    return _first_kept(lambda mu: _refuted(guesses, mu, beta))


def fdp_epsilon(guesses: Guesses, delta: float, beta: float = 0.05) -> float:
    """Return the lower bound on epsilon that ``fdp_mu`` gives at ``delta``.

    Raises:
        ConfigError: If delta is not in (0, 1), or beta is out of range.
    """
    _check_inside(1.0, delta=delta, beta=beta)
    mu = fdp_mu(guesses, beta)
    return gaussian_epsilon(mu, delta) if mu > 0 else 0.0


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return the exact delta of mu-Gaussian-DP at ``epsilon``.

    ``Phi(-eps/mu + mu/2) - e^eps Phi(-eps/mu - mu/2)`` (Dong, Roth and Su 2019, arXiv
    1905.02383, Corollary 2.13), in logarithms, so that nothing overflows or cancels.

    Raises:
        ConfigError: If mu or epsilon is out of range.
    """
    _check_inside(math.inf, mu=mu)
    _check_from_zero(math.inf, epsilon=epsilon)
    above = float(log_ndtr(mu / 2 - epsilon / mu))
    below = float(log_ndtr(-mu / 2 - epsilon / mu))
    if math.isinf(above):
        return 0.0
    return -math.exp(above) * math.expm1(min(0.0, epsilon + below - above))


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the mu whose exact epsilon at ``delta`` is ``epsilon``.

    The inverse of ``shared.accounting.gaussian_epsilon``, and of ``gaussian_delta``.

    Raises:
        ConfigError: If epsilon or delta is out of range.
    """
    _check_from_zero(math.inf, epsilon=epsilon)
    _check_inside(1.0, delta=delta)

    def excess(mu: float) -> float:
        return gaussian_delta(mu, epsilon) - delta if mu > 0 else -delta

    highest = 1.0
    while excess(highest) < 0:
        highest *= 2
    return float(brentq(excess, 0.0, highest, xtol=1e-13))


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyRuns:
    """What many runs prove: limits of the two rates, and lower bounds from both.

    Attributes:
        tpr_lo: Lower limit of the chance that a member is called one.
        fpr_hi: Upper limit of the chance that a non-member is called a member.
        epsilon: Lower bound on epsilon at the given delta.
        mu: Lower bound on mu, if the mechanism is mu-Gaussian-DP.
    """

    tpr_lo: float
    fpr_hi: float
    epsilon: float
    mu: float


def many_runs(
    *, tp: int, n_in: int, fp: int, n_out: int, delta: float, beta: float = 0.05
) -> ManyRuns:
    """Return the bounds of an attack with one threshold, fixed before the runs.

    Both rates get a one-sided limit at ``beta / 2`` (Clopper and Pearson 1934); several
    thresholds need a split of ``beta`` between them.

    Args:
        tp: Runs with the canary in which the attack said so.
        n_in: Runs with the canary.
        fp: Runs without the canary in which the attack said it was there.
        n_out: Runs without the canary.
        delta: Delta at which epsilon is bounded.
        beta: Chance that a bound is wrong.

    Raises:
        ConfigError: If a count cannot be, or delta or beta is out of range.
    """
    _check_from_zero(1.0, delta=delta)
    _check_inside(1.0, beta=beta)
    for name, hits, runs in (("tp", tp, n_in), ("fp", fp, n_out)):
        if not (_is_count(hits) and _is_count(runs) and 0 <= hits <= runs >= 1):
            raise ConfigError(f"{name}={hits!r} is not a count among {runs!r} runs")
    tpr_lo = float(betaincinv(tp, n_in - tp + 1, beta / 2)) if tp else 0.0
    fpr_hi = float(betainccinv(fp + 1, n_out - fp, beta / 2)) if fp < n_out else 1.0
    ratios = ((tpr_lo - delta) / fpr_hi, (1 - fpr_hi - delta) / (1 - tpr_lo))
    return ManyRuns(
        tpr_lo=tpr_lo,
        fpr_hi=fpr_hi,
        epsilon=math.log(max(1.0, *ratios)),
        mu=max(0.0, float(ndtri(1 - fpr_hi) - ndtri(1 - tpr_lo))),
    )


def _refuted(guesses: Guesses, mu: float, beta: float) -> bool:
    """Whether so many right guesses are too many for mu-Gaussian-DP.

    ``right`` and ``wrong`` are R and H of the recursion; both only grow, so it may stop
    as soon as their sum is beyond the limit.
    """
    canaries, made = guesses.canaries, guesses.made
    right = beta * guesses.right / canaries
    wrong = beta * (made - guesses.right) / canaries
    for i in range(guesses.right - 1, -1, -1):
        least = max(wrong, float(ndtr(ndtri(right) - mu)))
        right += i / (made - i) * (least - wrong)
        wrong = least
        if right + wrong > made / canaries:
            return True
    return False


def _first_kept(refuted: Callable[[float], bool]) -> float:
    """Return the least value from 0 up that is not refuted, from below."""
    if not refuted(0.0):
        return 0.0
    low, high = 0.0, STRIDE
    while refuted(high):
        low, high = high, high + STRIDE
    while high - low > PRECISION:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _check_inside(limit: float, **values: float) -> None:
    """Refuse numbers that are not above 0 and below ``limit``."""
    for name, value in values.items():
        if not 0 < value < limit:
            raise ConfigError(f"{name}={value!r} is not in (0, {limit:g})")


def _check_from_zero(limit: float, **values: float) -> None:
    """Refuse numbers that are neither 0 nor above it, below ``limit``."""
    for name, value in values.items():
        if not 0 <= value < limit:
            raise ConfigError(f"{name}={value!r} is not in [0, {limit:g})")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
