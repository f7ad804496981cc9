"""What is believed of each level, from released tallies alone, and drawing from it.

The chance that a level wins a vote has, before anything is known, the mean and the
variance of a uniform one. A released tally moves it as far as its votes and its noise
allow: with few votes under much noise nearly nothing is learned, and nearly nothing
changes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MEAN, VARIANCE = 1 / 2, 1 / 12  # of a uniform chance
OF_A_VOTE = 1 / 4  # the largest variance of won or lost


@dataclass(frozen=True, slots=True)
class Belief:
    """Mean and variance of each level's chance to win a vote, [levels] each."""

    mean: Floats
    variance: Floats

    def __getitem__(self, places: slice) -> "Belief":
        return Belief(self.mean[places], self.variance[places])

    def drawn(self, rng: np.random.Generator) -> Floats:
        """Return one draw for each level (Thompson 1933)."""
        return rng.normal(self.mean, np.sqrt(self.variance))

    def two(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return two different levels to compare: the best of one draw each.

        As double Thompson sampling for duels does (Wu and Liu, NIPS 2016), without its
        pruning.
        """
        first = int(np.argmax(self.drawn(rng)))
        others = self.drawn(rng)
        others[first] = -np.inf
        return first, int(np.argmax(others))

    def best(self, usual: int) -> int:
        """Return the level to serve: the usual one until another is surely better.

        Surely: ahead by a standard deviation of the difference.
        """
        ahead = self.mean - self.mean[usual]
        needed = np.sqrt(self.variance + self.variance[usual])
        needed[usual] = 0.0
        sure = np.where(ahead >= needed, self.mean, -np.inf)
        return int(np.argmax(sure))


def belief(votes: Floats, noise: float) -> Belief:
    """Return what released votes say of the levels.

    Args:
        votes: Won and lost by each level, noised, [levels, 2].
        noise: Variance of the noise in each cell.
    """
    count = np.maximum(votes.sum(axis=1), 0.0)
    known = count > 0
    sure = np.where(known, count, 1.0)
    share = MEAN + (votes[:, 0] - votes[:, 1]) / (2 * sure)
    spread = OF_A_VOTE / sure + noise / (2 * sure**2)
    weight = np.where(known, 1 / spread, 0.0)
    total = 1 / VARIANCE + weight
    mean = (MEAN / VARIANCE + np.clip(share, 0.0, 1.0) * weight) / total
    return Belief(mean, 1 / total)
