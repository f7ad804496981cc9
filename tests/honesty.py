"""The guard against figures that nobody can reach who has not seen what is held out.

On data where nothing can be learned every method is at chance, whatever it knows of the
past and of others. A method that is above it has seen the held-out items; that the
guard tells is shown where leaks are planted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from client.data import SiteData
from shared.metrics import hit
from simulations.split import Split

CUT = 10
TOLERANCE = 4.0  # standard deviations of a mean over users; 1 in 16,000 by chance
SURE = 0.9999  # that a share of hits is in its interval

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Standard deviations of a mean over users above what chance gives.

    Ties count against the item, so scores that say nothing at all are below chance.

    Attributes:
        place: Of the percentile of the held-out item.
        hits: Of its being among the first ten.
    """

    place: float
    hits: float

    @property
    def leaks(self) -> bool:
        """Whether this is better than anybody can be who has not seen the item."""
        return max(self.place, self.hits) > TOLERANCE

    @property
    def at_chance(self) -> bool:
        return max(abs(self.place), abs(self.hits)) < TOLERANCE


def found(rank: npt.NDArray[np.generic], among: npt.NDArray[np.generic]) -> Found:
    """Judge [users] ranks of held-out items among so many candidates each."""
    places, sizes = rank.astype(np.float64), among.astype(np.float64)
    percentile, spread = (sizes - places) / (sizes - 1), (sizes + 1) / (sizes - 1) / 12
    chance = CUT / sizes
    hits = hit(places.astype(np.int64), CUT)
    return Found(
        _deviations(percentile, 0.5, spread),
        _deviations(hits, chance, chance * (1 - chance)),
    )


def _deviations(value: Floats, expected: Floats | float, variance: Floats) -> float:
    return float((value - expected).sum() / np.sqrt(variance.sum()))


def hits_by_chance(users: int, share: float) -> tuple[float, float]:
    """Return the least and the largest hit rate of so many users by chance."""
    low, high = binom.interval(SURE, users, share)
    return float(low) / users, float(high) / users


def candidates(split: Split, items: int) -> Ints:
    """Return among how many items each user's test item is ranked."""
    return np.array([items - len({*u.test.seen.tolist()}) for u in split.users])


def unlearnable(data: SiteData, rng: np.random.Generator) -> SiteData:
    """Return the same users with items drawn at random, none twice for a user.

    When they did something and whether they liked it stays; of what they did next
    neither their past nor anybody else's data says anything.
    """
    size = len(data.catalogue)
    drawn = (
        replace(history, items=rng.permutation(size)[: len(history)])
        for history in data.histories
    )
    return replace(data, histories=tuple(drawn), people={})


def likes_of(split: Split) -> Sequence[Ints]:
    """Return each user's likes before the test, in order."""
    return [user.test.before.items[user.test.before.likes] for user in split.users]
