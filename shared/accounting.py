"""The one accountant: from noisy steps to epsilon, and from a wanted epsilon to noise.

The reported number is a pessimistic privacy loss distribution (PLD); Opacus' RDP and
PRV accountants and a closed form only cross-check it. A history that is invalid, or
whose epsilon is not a finite number, is refused. Heavy libraries are imported inside
the functions that need them, so this module may be imported where torch may not.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.composition import (
    COARSE,
    FINE,
    ROUNDING,
    Kind,
    Relation,
    affordable,
    composed_epsilon,
    merged,
)
from shared.errors import ConfigError, PrivacyError

LARGEST_SIGMA, MOST_STEPS, MOST_ROUNDS = 1e6, 1_000_000, 10_000  # beyond any plan
MOST = round(100 * LARGEST_SIGMA)  # hundredths that a search looks through
WEAKEST, STRONGEST = 1e-2, 1e12  # of sigma; beyond them no number means anything

# Points of a discretised loss: each MOST bounds the time of one call to some seconds.
MOST_PRV = 5e6  # times kinds, within PRV: 0.6 microseconds each
WHOLE_ORDERS = 100.0  # sigma above which RDP's series for broken orders take seconds


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
        interval: Discretisation of the privacy loss; changed if the history needs it.

    Raises:
        PrivacyError: If the epsilon is not a finite number.
    """
    return _finite(_bound(events, delta, relation, interval), delta)


def rdp(events: Iterable[GaussianEvent], delta: float) -> float:
    """Return epsilon by Opacus' RDP accountant: quick, 3 to 69 % looser.

    Raises:
        PrivacyError: If the epsilon is not a finite number.
    """
    from opacus.accountants import RDPAccountant  # noqa: PLC0415 - loads torch

    history, accountant = list(events), RDPAccountant()
    if _series_are_long(history):
        whole = [order for order in accountant.DEFAULT_ALPHAS if order % 1 == 0]
        return _by_opacus(accountant, history, delta, alphas=whole)
    return _by_opacus(accountant, history, delta)


def prv(events: Iterable[GaussianEvent], delta: float) -> float:
    """Return epsilon by Opacus' PRV accountant: independent, about 0.01 above PLD.

    It may take minutes, and fail, where epsilon is large or events are many.

    Raises:
        PrivacyError: If it has no answer that is a finite number.
    """
    from opacus.accountants import PRVAccountant  # noqa: PLC0415 - loads torch

    return _by_opacus(PRVAccountant(), events, delta)


def cross_check(
    events: Iterable[GaussianEvent], delta: float
) -> dict[str, float | None]:
    """Return epsilon by ``pld``, ``rdp`` and ``prv``, or raise where they contradict.

    ``replace_one`` is the PLD where neighbours differ by one user replaced: no other
    accountant gives it, so it is held against ``pld`` and, where every user is in every
    step, against the closed form. ``prv`` is None where it has no finite answer, or
    would take more than some seconds.

    Raises:
        PrivacyError: If an accountant that should be looser is below PLD, if PRV is
            further above PLD than its own error, if PLD misses the closed form, or if
            PLD or RDP is not finite.
    """
    history = list(events)
    pld, loose = epsilon(history, delta), rdp(history, delta)
    replaced = epsilon(history, delta, "replace_one")
    independent = _prv_or_none(history, delta)
    alarms = _misses(history, delta, pld, replaced)
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
    return {"pld": pld, "replace_one": replaced, "rdp": loose, "prv": independent}


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
    _check_limit(limit)
    spent = epsilon(others, delta)
    if spent >= limit:
        raise ConfigError(
            f"epsilon {spent:.4f} is spent already: no noise keeps it within the limit "
            f"{limit:.4f}; raise the limit"
        )

    def holds(hundredths: int, interval: float) -> bool:
        event = GaussianEvent(q=q, sigma=hundredths / 100, steps=steps)
        return _bound([*others, event], delta, "add_remove", interval) <= limit

    guess = _smallest(
        lambda k: _central(k / 100, delta, q=q, steps=steps, others=others) <= limit,
        start=100,
        most=MOST,
    )
    near = _smallest(lambda k: holds(k, COARSE), start=min(guess, MOST), most=MOST)
    return _sigma(_smallest(lambda k: holds(k, FINE), start=min(near, MOST), most=MOST))


def release_noise(limit: float, delta: float) -> float:
    """Return the smallest sigma, in hundredths, of one release of all users.

    By the closed form: quick, and no bound on what the accountant will report.

    Raises:
        ConfigError: If the limit is out of range or cannot be held by any sigma.
    """
    _check_limit(limit)
    return _sigma(
        _smallest(
            lambda k: gaussian_epsilon(100 / k, delta) <= limit, start=100, most=MOST
        )
    )


def rounds_left(
    limit: float,
    delta: float,
    *,
    event: GaussianEvent,
    others: Sequence[GaussianEvent] = (),
) -> int:
    """Return how many rounds like ``event`` fit within ``limit`` on top of ``others``.

    Guarantee: the reported epsilon of ``others`` and that many rounds is at most the
    limit, and of one round more is not; 0 if not even one fits. Counted up to
    ``MOST_ROUNDS`` rounds, or to ``MOST_STEPS`` steps if that is fewer.

    Args:
        limit: Epsilon that must not be passed, finite and above 0.
        delta: Target delta.
        event: The noisy steps of one round.
        others: What is charged already.
    """
    _check_limit(limit)

    def passes(rounds: int, interval: float) -> bool:
        more = GaussianEvent(q=event.q, sigma=event.sigma, steps=event.steps * rounds)
        return _bound([*others, more], delta, "add_remove", interval) > limit

    most = min(MOST_ROUNDS, MOST_STEPS // event.steps)
    near = _smallest(lambda k: passes(k, COARSE), start=1, most=most)
    return _smallest(lambda k: passes(k, FINE), start=near, most=most) - 1


def _central(
    sigma: float, delta: float, *, q: float, steps: int, others: Sequence[GaussianEvent]
) -> float:
    """Return about the epsilon of many steps: no bound, only where to look first.

    By the central limit theorem of Gaussian DP (Bu et al. 2020, section 4) ``steps``
    steps have ``mu = q sqrt(steps (exp(1 / sigma**2) - 1))``; with q = 1 it is exact.
    """
    square = sum(
        event.steps * event.q**2 * math.expm1(min(event.sigma**-2, 500.0))
        if event.q < 1
        else event.steps / event.sigma**2
        for event in [*others, GaussianEvent(q=q, sigma=sigma, steps=steps)]
    )
    return gaussian_epsilon(math.sqrt(square), delta)


def _sigma(hundredths: int) -> float:
    """Return what a search found.

    Raises:
        ConfigError: If it found nothing.
    """
    if hundredths > MOST:
        raise ConfigError(
            f"no sigma up to {LARGEST_SIGMA:g} holds the limit on epsilon; raise "
            "the limit, or lower q or steps"
        )
    return hundredths / 100


def _smallest(holds: Callable[[int], bool], *, start: int, most: int) -> int:
    """Return the first of 1..``most`` that holds, else ``most + 1``: gallop, bisect.

    ``holds`` is false, then true; the search begins at ``start``.
    """
    low, high, stride = start - 1, start, 1
    while low > 0 and holds(low):
        stride *= 2
        low, high = max(0, low - stride), low
    while high <= most and not holds(high):
        stride *= 2
        low, high = high, min(high + stride, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _bound(
    events: Iterable[GaussianEvent], delta: float, relation: Relation, interval: float
) -> float:
    """Return epsilon's upper bound, inf where there is none."""
    _check_delta(delta)
    if relation not in {"add_remove", "replace_one"}:
        raise ConfigError(f"{relation=!r} is not add_remove or replace_one")
    kinds = merged(map(_kind, events))
    if not all(WEAKEST <= sigma <= STRONGEST for _, sigma, _ in kinds):
        return math.inf
    return (
        composed_epsilon(kinds, delta, relation, affordable(kinds, interval))
        if kinds
        else 0.0
    )


def _kind(event: GaussianEvent) -> Kind:
    return event.q, event.sigma, event.steps


def _finite(spent: float, delta: float) -> float:
    """Return an epsilon that is a number.

    Raises:
        PrivacyError: If it is not.
    """
    if not math.isfinite(spent):
        raise PrivacyError(
            f"epsilon is {spent} at {delta=}: this noise gives no guarantee that can "
            "be stated; raise sigma, or lower q or steps"
        )
    return spent


def _by_opacus(
    accountant: Any, events: Iterable[GaussianEvent], delta: float, **orders: Any
) -> float:
    """Give Opacus a history of our own making; it accepts an invalid or empty one."""
    _check_delta(delta)
    accountant.history = [
        (sigma, q, steps) for q, sigma, steps in merged(map(_kind, events))
    ]
    if not accountant.history:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is not a number is refused below
        try:
            spent = float(accountant.get_epsilon(delta, **orders))
        except (ArithmeticError, RuntimeError, ValueError):
            spent = math.inf
    return _finite(max(spent, 0.0), delta)


def _prv_or_none(events: Sequence[GaussianEvent], delta: float) -> float | None:
    """Return PRV's epsilon, or None where it has none or would take long."""
    try:
        return prv(events, delta) if _prv_can(events, delta) else None
    except PrivacyError:
        return None


def _series_are_long(events: Iterable[GaussianEvent]) -> bool:
    """Whether Opacus' RDP at broken orders would sum thousands of terms for a kind."""
    return any(event.q < 1 and event.sigma > WHOLE_ORDERS for event in events)


def _prv_can(events: Sequence[GaussianEvent], delta: float) -> bool:
    """Whether PRV is quick, and exact enough to be held against PLD.

    Its points are what its ``domain.py`` will choose, by RDP at all orders. It errs by
    a thousandth of delta, and by what FFT rounds away.
    """
    if _series_are_long(events) or not delta <= 0.5:
        return False
    kinds = merged(map(_kind, events))
    steps = sum(steps for _, _, steps in kinds) or 1
    reach = 2 * rdp(events, delta / 8000 / steps) + 6
    mesh = 0.01 / math.sqrt(steps / 2 * math.log(12_000 / delta))
    exact = 100 * ROUNDING * steps <= delta
    return exact and len(kinds) * reach / mesh <= MOST_PRV


def _misses(
    events: Sequence[GaussianEvent], delta: float, pld: float, replaced: float
) -> list[str]:
    """Say where PLD contradicts what holds at any q, or the closed form at q = 1.

    PLD is never below the closed form, and above it by what its interval costs, which
    is wider the larger epsilon is.
    """
    alarms = []
    if replaced < pld * (1 - 1e-9):
        alarms.append(f"replace-one {replaced:.6f} is below add/remove {pld:.6f}")
    if events and all(event.q == 1 for event in events):
        mu = math.sqrt(sum(event.steps / event.sigma**2 for event in events))
        for name, told, scale in (("PLD", pld, 1), ("replace-one", replaced, 2)):
            exact = gaussian_epsilon(scale * mu, delta)
            above = (told - exact) / (1 + exact)
            if not -1e-9 <= above <= 0.002 + 1e-9 * exact:
                alarms.append(f"{name} {told:.6f} misses the closed form {exact:.6f}")
    return alarms


def _check_delta(delta: float) -> None:
    if not (_is_real(delta) and 0 < delta < 1):
        raise ConfigError(f"{delta=!r} is not in (0, 1)")


def _check_limit(limit: float) -> None:
    if not (_is_real(limit) and 0 < limit < math.inf):
        raise ConfigError(f"{limit=!r} is not a finite number above 0")


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
