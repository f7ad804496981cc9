"""Intervals for ratios of sums over users: what chance alone would let them vary by.

A user may have many lists that are alike, so users are resampled and never lists.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DRAWS, SEED = 500, 2026
LEVEL = 0.95
Z = 1.959964  # of that level, two-sided
BLOCK = 4_000_000  # weights drawn at a time


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the interval of ``LEVEL`` around it."""

    value: float
    low: float
    high: float


def ratio(sums: Floats) -> Estimate | None:
    """Return the ratio of two sums over users, None if nothing is to divide by.

    Where all users are alike a bootstrap has no width; a share has Wilson's then.

    Args:
        sums: Numerator and denominator of each user, [users, 2].
    """
    if not sums[:, 1].sum() > 0:
        return None
    found = _estimate(sums, lambda total: total[..., 0] / total[..., 1])
    is_share = bool(np.all((sums[:, 0] >= 0) & (sums[:, 0] <= sums[:, 1])))
    if found.low == found.high and is_share:
        return wilson(found.value * len(sums), len(sums))
    return found


def difference(first: Floats, second: Floats) -> Estimate | None:
    """Return the second ratio minus the first, of the same users in the same order.

    Args:
        first: Numerator and denominator of each user, [users, 2]; zeros for a user who
            has no part in it.
        second: The same of the other side.
    """
    if not (first[:, 1].sum() > 0 and second[:, 1].sum() > 0):
        return None
    both = np.hstack([first, second])
    return _estimate(both, lambda t: t[..., 2] / t[..., 3] - t[..., 0] / t[..., 1])


def wilson(count: float, of: float) -> Estimate:
    """Return a share of ``of`` independent trials with Wilson's interval (1927)."""
    share, spread = count / of, Z**2 / of
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * np.sqrt(share * (1 - share) / of + spread / (4 * of))
    return Estimate(
        share, float(max(0.0, middle - half)), float(min(1.0, middle + half))
    )


def _estimate(sums: Floats, figure: Callable[[Floats], Floats]) -> Estimate:
    """Return a figure of all users' sums, with its bootstrap percentiles.

    Each user's weight is an independent Poisson draw: the bootstrap for large samples
    (Chamandy et al. 2012), which needs one pass.
    """
    rng, users = np.random.default_rng(SEED), len(sums)
    at_once = max(1, BLOCK // users)
    parts = [
        rng.poisson(1.0, (min(at_once, DRAWS - begin), users)).astype(float) @ sums
        for begin in range(0, DRAWS, at_once)
    ]
    totals = np.concatenate(parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = figure(totals)
        value = float(figure(sums.sum(axis=0)))
    drawn = drawn[np.isfinite(drawn)]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (value, value)
    return Estimate(value, float(low), float(high))
