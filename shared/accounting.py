"""The one accountant: from noisy steps to epsilon, and from a wanted epsilon to noise.

The reported number is a pessimistic privacy loss distribution (PLD); Opacus' RDP and
PRV accountants only cross-check it. A history that is invalid, or whose epsilon is not
a finite number, is refused. Heavy libraries are imported inside the functions that need
them, so this module may be imported where torch may not.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from shared.errors import ConfigError, PrivacyError

Relation = Literal["add_remove", "replace_one"]
Kinds = tuple[
    tuple[float, float, int], ...
]  # (q, sigma, steps), no two (q, sigma) equal

FINE, COARSE = 1e-4, 1e-3  # discretisation of the privacy loss: to report, to search
MANY_KINDS = 8  # above this many (q, sigma) the coarse one is reported (PRIVACY 3.2)
LARGEST_SIGMA, MOST_STEPS = (
    1e6,
    1_000_000,
)  # beyond any plan; keeps the accountant quick
LARGEST_PRV = 100.0  # above this RDP epsilon PRV takes minutes and proves nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianEvent:
    """Noisy steps of the Poisson-subsampled Gaussian mechanism, as they are charged.

    Attributes:
        q: Probability that a user is drawn in a step, in (0, 1].
        sigma: Noise standard deviation over the clipping norm, finite and above 0.
        steps: Number of steps, an integer from 1 to ``MOST_STEPS``.

    Raises:
        ConfigError: With one sentence for each value out of range.
    """

    q: float
    sigma: float
    steps: int

    def __post_init__(self) -> None:
        faults = []
        if not (_is_real(self.q) and 0 < self.q <= 1):
            faults.append(f"q={self.q!r} is not in (0, 1]")
        if not (_is_real(self.sigma) and 0 < self.sigma < math.inf):
            faults.append(f"sigma={self.sigma!r} is not a finite number above 0")
        if not (type(self.steps) is int and 1 <= self.steps <= MOST_STEPS):
            faults.append(f"steps={self.steps!r} is not an integer in 1..{MOST_STEPS}")
        if faults:
            raise ConfigError("privacy event: " + "; ".join(faults))


def epsilon(
    events: Iterable[GaussianEvent],
    delta: float,
    relation: Relation = "add_remove",
    interval: float = FINE,
) -> float:
    """Return an upper bound on the epsilon of all ``events`` together.

    Guarantee: never below the true epsilon of the composition, and the same however the
    same steps are split into events or ordered. No events cost nothing.

    Args:
        events: All that was charged, over the whole life of the site.
        delta: Target delta, in (0, 1).
        relation: Neighbours differ by one user added or removed, or by one replaced.
        interval: Discretisation of the privacy loss; widened if the history needs it.

    Raises:
        PrivacyError: If the epsilon is not a finite number.
    """
    _check_delta(delta)
    if relation not in {"add_remove", "replace_one"}:
        raise ConfigError(f"{relation=!r} is not add_remove or replace_one")
    kinds = _merged(events)
    spent = _pld(kinds, delta, relation, _affordable(kinds, interval)) if kinds else 0.0
    if not math.isfinite(spent):
        raise PrivacyError(
            f"epsilon is {spent} at {delta=}: this noise gives no guarantee that can "
            "be stated; raise sigma, or lower q or steps"
        )
    return spent


def rdp(events: Iterable[GaussianEvent], delta: float) -> float:
    """Return epsilon by Opacus' RDP accountant: quick, 3 to 69 % looser."""
    from opacus.accountants import RDPAccountant  # noqa: PLC0415 - loads torch

    return _by_opacus(RDPAccountant(), events, delta)


def prv(events: Iterable[GaussianEvent], delta: float) -> float:
    """Return epsilon by Opacus' PRV accountant: independent, about 0.01 above PLD.

    It may be infinite, raise or take minutes where epsilon is large.
    """
    from opacus.accountants import PRVAccountant  # noqa: PLC0415 - loads torch

    return _by_opacus(PRVAccountant(), events, delta)


def cross_check(
    events: Iterable[GaussianEvent], delta: float
) -> dict[str, float | None]:
    """Return epsilon by ``pld``, ``rdp`` and ``prv``, or raise where they contradict.

    ``prv`` is None where it has no finite answer, or where ``rdp`` shows that it would
    take minutes.

    Raises:
        PrivacyError: If an accountant that should be looser is below PLD, if PRV is
            further above PLD than its own error, or if PLD or RDP is not finite.
    """
    history = list(events)
    pld, loose = epsilon(history, delta), rdp(history, delta)
    independent = _prv_or_none(history, delta) if loose <= LARGEST_PRV else None
    alarms = []
    if not pld <= loose < math.inf:
        alarms.append(f"RDP {loose:.6f} is not finite or below PLD {pld:.6f}")
    if independent is not None and not pld <= independent <= pld + 0.02 + 0.001 * pld:
        alarms.append(
            f"PRV {independent:.6f} is not within PLD {pld:.6f} + 0.02 + 0.1 %"
        )
    if alarms:
        raise PrivacyError(
            f"accountants disagree: {'; '.join(alarms)}; "
            "trust none of them and report this"
        )
    return {"pld": pld, "rdp": loose, "prv": independent}


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the exact epsilon of mu-Gaussian-DP (Balle & Wang 2018, eq. 6).

    The anchor for q = 1: ``steps`` steps have ``mu = sqrt(steps) / sigma`` (add/remove)
    or twice that (replace-one).
    """
    from scipy.optimize import brentq  # noqa: PLC0415
    from scipy.special import log_ndtr  # noqa: PLC0415

    _check_delta(delta)
    if not (_is_real(mu) and 0 < mu < math.inf):
        raise ConfigError(f"{mu=!r} is not a finite number above 0")

    def excess(eps: float) -> float:
        inside = math.exp(log_ndtr(mu / 2 - eps / mu))
        return float(inside - math.exp(eps + log_ndtr(-mu / 2 - eps / mu)) - delta)

    if excess(0.0) <= 0:
        return 0.0
    highest = mu * mu / 2 + mu * math.sqrt(-2 * math.log(delta)) + 1  # the tail bound
    return float(brentq(excess, 0.0, highest, xtol=1e-13))


def noise_for(
    limit: float,
    delta: float,
    *,
    q: float,
    steps: int,
    others: Sequence[GaussianEvent] = (),
) -> float:
    """Return the smallest sigma, in hundredths, that keeps everything within ``limit``.

    Guarantee: the reported epsilon of ``others`` and the new steps is at most that.

    Args:
        limit: Epsilon that must not be passed, finite and above 0.
        delta: Target delta.
        q: Probability that a user is drawn in a step.
        steps: Number of new steps.
        others: What is charged already.

    Raises:
        ConfigError: If the limit is out of range or cannot be held by any sigma.
    """
    if not (_is_real(limit) and 0 < limit < math.inf):
        raise ConfigError(f"{limit=!r} is not a finite number above 0")
    spent = epsilon(others, delta)
    if spent >= limit:
        raise ConfigError(
            f"epsilon {spent:.4f} is spent already: no noise keeps it within the limit "
            f"{limit:.4f}; raise the limit"
        )

    def holds(hundredths: int, interval: float) -> bool:
        event = GaussianEvent(q=q, sigma=hundredths / 100, steps=steps)
        return epsilon([*others, event], delta, interval=interval) <= limit

    near = _smallest(lambda k: holds(k, COARSE), start=100)
    return _smallest(lambda k: holds(k, FINE), start=near) / 100


def _smallest(holds: Callable[[int], bool], start: int) -> int:
    """Gallop away from ``start``, then bisect; ``holds`` is false, then true."""
    low, high, stride = start - 1, start, 1
    while low > 0 and holds(low):
        stride *= 2
        low, high = max(0, low - stride), low
    while not holds(high):
        if high > 100 * LARGEST_SIGMA:
            raise ConfigError(
                f"no sigma up to {LARGEST_SIGMA:g} holds the limit on epsilon; raise "
                "the limit, or lower q or steps"
            )
        stride *= 2
        low, high = high, high + stride
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _merged(events: Iterable[GaussianEvent]) -> Kinds:
    """Add up the steps of equal (q, sigma): splitting and order then cannot matter."""
    steps: Counter[tuple[float, float]] = Counter()
    for event in events:
        steps[event.q, event.sigma] += event.steps
    return tuple((q, sigma, steps[q, sigma]) for q, sigma in sorted(steps))


def _affordable(kinds: Kinds, interval: float) -> float:
    """Widen the interval for varied, long or hardly noised histories: never unsound."""
    if len(kinds) > MANY_KINDS:
        interval = max(interval, COARSE)
    losses = [(q * steps, 0.5 / sigma / sigma) for q, sigma, steps in kinds]
    widest = max((loss for _, loss in losses), default=0.0)
    total = sum(draws * loss for draws, loss in losses)
    return max(interval, widest / 1e5, total / 3e7)  # about 10 s at most for each kind


@lru_cache(maxsize=1024)
def _pld(kinds: Kinds, delta: float, relation: Relation, interval: float) -> float:
    """Compose with dp-accounting, rounding every loss up; inf where it overflows."""
    import numpy as np  # noqa: PLC0415
    from dp_accounting import (  # noqa: PLC0415
        GaussianDpEvent,
        NeighboringRelation,
        PoissonSampledDpEvent,
    )
    from dp_accounting.pld import PLDAccountant  # noqa: PLC0415

    neighbours = {
        "add_remove": NeighboringRelation.ADD_OR_REMOVE_ONE,
        "replace_one": NeighboringRelation.REPLACE_ONE,
    }
    accountant = PLDAccountant(neighbours[relation], interval)
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            for q, sigma, steps in kinds:
                accountant.compose(
                    PoissonSampledDpEvent(q, GaussianDpEvent(sigma)), steps
                )
            return float(accountant.get_epsilon(delta))
    except ArithmeticError:
        return math.inf


def _by_opacus(accountant: Any, events: Iterable[GaussianEvent], delta: float) -> float:
    """Give Opacus a history of our own making; it accepts an invalid or empty one."""
    _check_delta(delta)
    accountant.history = [(sigma, q, steps) for q, sigma, steps in _merged(events)]
    with warnings.catch_warnings():
        # RDP: another order might be tighter. PRV: log(1 - q) at q = 1. Both are sound.
        warnings.filterwarnings("ignore", "Optimal order is the", UserWarning)
        warnings.filterwarnings("ignore", "divide by zero .* log", RuntimeWarning)
        return float(accountant.get_epsilon(delta)) if accountant.history else 0.0


def _prv_or_none(events: Sequence[GaussianEvent], delta: float) -> float | None:
    """Return PRV's epsilon, or None where it has no finite answer."""
    try:
        answer = prv(events, delta)
    except (ArithmeticError, RuntimeError, ValueError):
        return None
    return answer if math.isfinite(answer) else None


def _check_delta(delta: float) -> None:
    if not (_is_real(delta) and 0 < delta < 1):
        raise ConfigError(f"{delta=!r} is not in (0, 1)")


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
