"""How sure a mean over users is: bootstrap intervals and paired significance.

Users are exchangeable, so those with equal figures are drawn together, and a thousand
resamples are a few matrix products.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from shared.metrics import Floats, Ints

DRAWS = 1000  # resamples of users
EXPOSURE_DRAWS = 200  # the same for figures of whole catalogues, which cost more
FLIPS = 10_000  # random signs of a paired test
CELLS = 5_000_000  # numbers in memory at a time
MULTINOMIAL_COST = 16  # of drawing one group, in that of drawing one user
PERCENTILES = (2.5, 97.5)

Figure = dict[str, float]  # mean, low, high
OfExposure = Callable[[Floats, int], Floats]  # exposure [..., shown], items -> [...]


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The lists that one site's users were shown: [users, k] of so many ``items``."""

    top: Ints
    items: int


def intervals(values: Floats, rng: np.random.Generator) -> list[Figure]:
    """Return mean and 95 % bootstrap interval of each column of ``values``.

    Args:
        values: [users, figures], at least one user.
        rng: Draws the resamples; the same ones for every column.
    """
    users = len(values)
    rows, counts = np.unique(values, axis=0, return_counts=True)
    drawn = np.concatenate([part @ rows for part in _resamples(counts, DRAWS, rng)])
    low, high = np.percentile(drawn / users, PERCENTILES, axis=0)
    return [
        {"mean": float(m), "low": float(min(a, m)), "high": float(max(b, m))}
        for m, a, b in zip(values.mean(axis=0), low, high, strict=True)
    ]


def exposure_intervals(
    figures: Mapping[str, OfExposure], sites: Sequence[Shown], rng: np.random.Generator
) -> dict[str, Figure]:
    """Return figures of what is shown, as means over sites, with their intervals.

    A resample holds fewer distinct users, so it shows less of a catalogue: percentiles
    are moved by the bootstrap's own bias.
    """
    shown = [_exposures(site, rng) for site in sites]
    made = {}
    for name, figure in figures.items():
        found = [
            figure(each, site.items) for each, site in zip(shown, sites, strict=True)
        ]
        mean, *drawn = np.mean(found, axis=0)
        low, high = np.percentile(drawn, PERCENTILES) - (np.mean(drawn) - mean)
        made[name] = {"mean": float(mean), "low": float(low), "high": float(high)}
    return made


def _exposures(site: Shown, rng: np.random.Generator) -> Floats:
    """Return how often each item is shown: as it was, then in each resample."""
    users, k = site.top.shape
    places = np.unique(site.top, return_inverse=True)[1].reshape(-1)
    shape = (users, int(places.max()) + 1)
    starts = np.arange(0, users * k + 1, k)
    lists = sp.csr_matrix((np.ones(users * k), places, starts), shape)
    ones = np.ones(users, np.int64)
    drawn = [part @ lists for part in _resamples(ones, EXPOSURE_DRAWS, rng)]
    return np.concatenate([ones[None] @ lists, *drawn])


def _resamples(counts: Ints, draws: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Yield how often each of some groups of so many users is drawn, [part, groups].

    A multinomial draw costs time by groups, drawing users one by one by users.
    """
    users, groups = int(counts.sum()), len(counts)
    part = max(1, CELLS // users)
    owner = np.repeat(np.arange(groups), counts)
    for first in range(0, draws, part):
        size = min(part, draws - first)
        if groups * MULTINOMIAL_COST < users:
            yield rng.multinomial(users, counts / users, size)
        else:
            drawn = owner[rng.integers(0, users, (size, users))]
            drawn += groups * np.arange(size)[:, None]
            found = np.bincount(drawn.reshape(-1), minlength=size * groups)
            yield found.reshape(size, groups)


def significance(gain: Floats, rng: np.random.Generator) -> float:
    """Return the two-sided p of a paired difference by random flips of its signs.

    Without an effect each user's difference is as likely as its opposite, so the sum of
    n users with differences of one size v is v (2 Binomial(n, 1/2) - n).
    """
    size, users = np.unique(np.abs(gain[gain != 0]), return_counts=True)
    part = max(1, CELLS // max(1, len(size)))
    observed, extreme = abs(gain.sum()) - 1e-9, 0
    for first in range(0, FLIPS, part):
        flips = (min(part, FLIPS - first), len(size))
        sums = (2 * rng.binomial(users, 0.5, flips) - users) @ size
        extreme += int((np.abs(sums) >= observed).sum())
    return (1 + extreme) / (1 + FLIPS)
