"""Calibrated exploration: what the model cannot know yet is shown now and then.

Each place of a list goes to a fresh item with a given chance, for as long as one is
left; which one, the model's own softmax over the fresh items decides. The chance of
every choice is told, so that what is learnt from it can be weighed.
"""

import numpy as np
import numpy.typing as npt

from client.serving.model import Ints, Mask
from shared.protocol import Array


class Exploration:
    """Gives places to fresh items by chance."""

    def __init__(self, fresh: Ints, totals: Array, share: float) -> None:
        """Explore among ``fresh`` places with their ``totals`` for a share of all."""
        self._fresh, self._totals = fresh, totals.astype(np.float64)
        self._share = share if len(fresh) else 0.0

    def share(self, free: Mask) -> float:
        """Return the chance that the next place explores; ``free`` is of all items."""
        return self._share if self._share and free[self._fresh].any() else 0.0

    def drawn(self, free: Mask, coin: float) -> int:
        """Return the place of a free fresh item; ``coin`` from [0, 1) decides which."""
        chances = self._chances(free)
        at = int(np.searchsorted(chances.cumsum(), coin * chances.sum(), side="right"))
        return int(self._fresh[min(at, np.flatnonzero(chances)[-1])])

    def chance(self, free: Mask, place: int) -> float:
        """Return the chance that ``drawn`` gives the item at ``place``."""
        at = np.flatnonzero(self._fresh == place)
        return float(self._chances(free)[at].sum())

    def _chances(self, free: Mask) -> npt.NDArray[np.float64]:
        totals = np.where(free[self._fresh], self._totals, -np.inf)
        weights = np.exp(totals - totals.max())
        chances: npt.NDArray[np.float64] = weights / weights.sum()
        return chances
