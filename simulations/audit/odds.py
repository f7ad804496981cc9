"""What an epsilon means: the odds that it leaves to the best of attackers.

Pure maths on (epsilon, delta) and on charged events; values that no promise can have
are refused. The curve of delta is made here from the events alone, so that it stands
beside the epsilon that was reported and does not follow from it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from shared.accounting import GaussianEvent
from shared.composition import COARSE, FINE, MANY_KINDS, ROUNDING, Relation
from shared.errors import ConfigError
from simulations.audit.bounds import gaussian_mu

LOW_FPR = 1e-3  # wrongly accused, at which the most that can be found is told
MOST_POINTS = 2e6  # of a discretised loss: some seconds


def posterior(epsilon: float) -> float:
    """Return how sure an attacker can become from even odds, ``1 / (1 + e^-epsilon)``.

    It leaves delta aside (Kasiviswanathan and Smith 2014, arXiv 0803.3946).

    Raises:
        ConfigError: If epsilon is not a finite number from 0 up.
    """
    _check(epsilon)
    return 1.0 / (1.0 + math.exp(-epsilon))


def best_tpr(epsilon: float, delta: float, fpr: float) -> float:
    """Return the greatest share of members found when ``fpr`` are wrongly accused.

    On the Gaussian curve through (epsilon, delta), ``Phi(Phi^-1(fpr) + mu)`` (Dong,
    Roth and Su 2019, arXiv 1905.02383, eq. 6). It is the exact curve where every user
    is in every step.

    Raises:
        ConfigError: If epsilon, delta or ``fpr`` is out of range.
    """
    from scipy.special import ndtr, ndtri  # noqa: PLC0415

    if not 0 <= fpr <= 1:
        raise ConfigError(f"{fpr=!r} is not in [0, 1]")
    return float(ndtr(ndtri(fpr) + gaussian_mu(epsilon, delta)))


def delta_curve(
    events: Iterable[GaussianEvent],
    epsilons: Sequence[float],
    relation: Relation = "add_remove",
) -> list[float]:
    """Return the delta that holds at each of ``epsilons``, by a pessimistic PLD.

    Guarantee: never below the true delta of the composition. It is 1 where the noise is
    so small that nothing can be stated, and 0 everywhere without events.

    Args:
        events: All that was charged.
        epsilons: Where to look, each from 0 up.
        relation: Neighbours differ by one user added or removed, or by one replaced.

    Raises:
        ConfigError: If an epsilon or the relation is out of range.
    """
    for epsilon in epsilons:
        _check(epsilon)
    if relation not in {"add_remove", "replace_one"}:
        raise ConfigError(f"{relation=!r} is not add_remove or replace_one")
    steps: Counter[tuple[float, float]] = Counter()
    for event in events:
        steps[event.q, event.sigma] += event.steps
    if not steps:
        return [0.0 for _ in epsilons]
    rounded = ROUNDING * steps.total()
    return [min(1.0, delta + rounded) for delta in _deltas(steps, epsilons, relation)]


def in_words(epsilon: float, delta: float) -> str:
    """Return what (epsilon, delta) promises one person, as a sentence.

    Raises:
        ConfigError: If epsilon or delta is out of range.
    """
    sure, found = posterior(epsilon), best_tpr(epsilon, delta, LOW_FPR)
    return (
        f"With epsilon {epsilon:.2f}, whoever sees everything that a site sends, and "
        "thinks it even odds that a person's account was used, can become at most "
        f"{sure:.2%} sure of it, but for a chance of {delta:g}; one who wrongly "
        f"accuses {LOW_FPR:.1%} of the others finds at most {found:.2%} of those whose "
        "account was used."
    )


def _deltas(
    steps: Counter[tuple[float, float]], epsilons: Sequence[float], relation: Relation
) -> list[float]:
    """Compose with dp-accounting; 1 everywhere where it overflows."""
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
    accountant = PLDAccountant(neighbours[relation], _interval(steps))
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            for (q, sigma), count in sorted(steps.items()):
                sampled = PoissonSampledDpEvent(q, GaussianDpEvent(sigma))
                accountant.compose(sampled, count)
            return [float(accountant.get_delta(epsilon)) for epsilon in epsilons]
    except ArithmeticError:
        return [1.0 for _ in epsilons]


def _interval(steps: Counter[tuple[float, float]]) -> float:
    """Return the discretisation of the loss.

    Any one is sound. It is narrower where a step's loss is faint, and wider where kinds
    are many or losses are large, so that a history takes some 10 s at most.
    """
    finest = FINE if len(steps) <= MANY_KINDS else COARSE
    squares = sum(count * (q / sigma) ** 2 for (q, sigma), count in steps.items())
    faint = math.sqrt(squares / steps.total()) / 8  # of a step's standard deviation
    span = sum((20 + 1 / sigma) / sigma for _, sigma in steps)
    total = sum(count * q * 0.5 / sigma**2 for (q, sigma), count in steps.items())
    return max(min(finest, faint), span / MOST_POINTS, total / MOST_POINTS)


def _check(epsilon: float) -> None:
    if not 0 <= epsilon < math.inf:
        raise ConfigError(f"{epsilon=!r} is not a finite number from 0 up")
