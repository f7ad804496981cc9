"""How the updates of one round look beside each other; refuses copies, flags the odd.

Noise hides most of what a dishonest site can do in one round: under a budget that
protects anyone, honest updates hardly agree more than chance, and one whose sign was
turned looks like all others. What bounds such a site is ``max_norm`` and the rule.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from server.spool import Row, Spool

SAME = 0.99  # |cosine| from which two noised updates are one and the same
SAME_BARE = 1 - 2e-4  # the same without noise: they differ by 2 % of their length
FACTOR = 2.0  # from the median length of a round
FALSE_ALARM = 1e-6  # how often an honest site may be said to point away, at most
FEWEST = 3  # updates among which one can stand out

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What can be said of each update of a round beside the others; all of it public.

    Attributes:
        norms: Site -> joint L2 norm.
        cosines: Site -> cosine to the mean direction of the other sites.
        outliers: Site -> ``norm`` or ``cosine``, for a site that stands out by it.
    """

    norms: Mapping[str, float]
    cosines: Mapping[str, float]
    outliers: Mapping[str, str]


def copied(spool: Spool, rows: Sequence[Row], *, noised: bool) -> set[str]:
    """Return the sites whose updates are one and the same, save length and sign.

    The noise of two sites is independent, so honest updates hardly agree; without noise
    full steps of 20,000 users each do, above 0.99. Which of two copies was first, no
    one can say. What is all zeros is nobody's copy.

    Args:
        spool: Where the updates lie.
        rows: Those of the round.
        noised: Whether the round's plan asks for noise.
    """
    lengths = _lengths(rows)
    near = np.abs(spool.products(rows) / lengths / lengths.T)
    np.fill_diagonal(near, 0.0)
    found: list[int] = np.flatnonzero(
        (near >= (SAME if noised else SAME_BARE)).any(axis=1)
    ).tolist()
    return {rows[i].site for i in found}


def figures(spool: Spool, rows: Sequence[Row]) -> Figures:
    """Return lengths and directions, and who stands out by them.

    A site stands out by its norm if that is more than ``FACTOR`` from the median, and
    by its cosine if it points away from the others further than noise would. An
    outlier still counts: honest sites may differ.

    Guarantee: a site whose update is noise, with signs that are independent of each
    other and of the other sites, stands out by its cosine in at most one round of a
    million (Hoeffding 1963, theorem 2, over the signs).
    """
    norms = {row.site: row.norm for row in rows}
    lengths = _lengths(rows)
    agreements, squares, rests = np.zeros((3, len(rows)))
    for block in spool.wide_blocks(rows):
        directions = block / lengths
        rest = directions.sum(axis=0) - directions
        rests += np.einsum("ij,ij->i", rest, rest)
        rest *= directions  # from here on the products
        agreements += rest.sum(axis=1)
        squares += np.einsum("ij,ij->i", rest, rest)
    cosines = {
        row.site: float(agreement / math.sqrt(length)) if length else 0.0
        for row, agreement, length in zip(rows, agreements, rests, strict=True)
    }
    opposed = agreements < -_chance(squares)
    away = {row.site for row, turned in zip(rows, opposed, strict=True) if turned}
    return Figures(norms=norms, cosines=cosines, outliers=_outliers(norms, away))


def _chance(squares: Matrix) -> Matrix:
    """Return how far sums of products with random signs stray, but for a false alarm.

    P(sum <= -t) <= exp(-t^2 / (2 sum of squares)) for independent fair signs.
    """
    return np.sqrt(-2 * math.log(FALSE_ALARM) * squares)


def _outliers(norms: Mapping[str, float], away: set[str]) -> dict[str, str]:
    """Return who stands out, by the norm first; among two, no one can say which."""
    if len(norms) < FEWEST:
        return {}
    middle = float(np.median(list(norms.values())))
    far = {
        site
        for site, length in norms.items()
        if not middle / FACTOR <= length <= middle * FACTOR
    }
    return dict.fromkeys(sorted(away), "cosine") | dict.fromkeys(sorted(far), "norm")


def _lengths(rows: Sequence[Row]) -> Matrix:
    """Return the length of each update as a column; one for what is all zeros."""
    return np.array([[row.norm or 1.0] for row in rows]).reshape(-1, 1)
