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

from shared.adapter import norm
from shared.protocol import AdapterUpdate

SAME = 0.99  # |cosine| from which two updates are one and the same
FACTOR = 2.0  # from the median length of a round
FALSE_ALARM = 1e-6  # how often an honest site may be said to point away, at most
FEWEST = 3  # updates among which one can stand out

Rows = npt.NDArray[np.float64]


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


def copied(updates: Sequence[AdapterUpdate]) -> set[str]:
    """Return the sites whose updates are one and the same, save length and sign.

    The noise of two sites is independent, so honest updates never agree so far; which
    of them was first, no one can say. What is all zeros is nobody's copy.
    """
    directions = _directions(updates)
    near = np.abs(directions @ directions.T)
    np.fill_diagonal(near, 0.0)
    found: list[int] = np.flatnonzero((near >= SAME).any(axis=1)).tolist()
    return {updates[i].site for i in found}


def figures(updates: Sequence[AdapterUpdate]) -> Figures:
    """Return lengths and directions, and who stands out by them.

    A site stands out by its norm if that is more than ``FACTOR`` from the median, and
    by its cosine if it points away from the others further than noise would. An
    outlier still counts: honest sites may differ.

    Guarantee: a site whose update is noise, with signs that are independent of each
    other and of the other sites, stands out by its cosine in at most one round of a
    million (Hoeffding 1963, theorem 2, over the signs).
    """
    norms = {update.site: norm(update.delta) for update in updates}
    directions = _directions(updates)
    others = directions.sum(axis=0) - directions
    cosines, away = {}, set()
    for update, direction, rest in zip(updates, directions, others, strict=True):
        products = direction * rest
        agreement, length = products.sum(), math.sqrt(np.square(rest).sum())
        cosines[update.site] = float(agreement / length) if length else 0.0
        if agreement < -_chance(products):
            away.add(update.site)
    return Figures(norms=norms, cosines=cosines, outliers=_outliers(norms, away))


def _chance(products: Rows) -> float:
    """Return how far a sum of products with random signs strays, but for a false alarm.

    P(sum <= -t) <= exp(-t^2 / (2 sum of squares)) for independent fair signs.
    """
    return math.sqrt(-2 * math.log(FALSE_ALARM) * np.square(products).sum())


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


def _directions(updates: Sequence[AdapterUpdate]) -> Rows:
    """Return a row of length one for each update: its tensors in the order of names."""
    if not updates:
        return np.zeros((0, 0))
    rows = np.stack(
        [
            np.concatenate([array.ravel() for _, array in sorted(update.delta.items())])
            for update in updates
        ]
    ).astype(np.float64)
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    directions: Rows = rows / np.where(lengths > 0, lengths, 1.0)
    return directions
