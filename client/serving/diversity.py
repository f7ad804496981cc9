"""Maximal marginal relevance: the next item is good, and unlike those before it.

``(1 - diversity) score / T - diversity max cos(item, item before)`` (Carbonell and
Goldstein 1998). The model's fixed scale T brings scores to the size of a cosine, so
that one setting means the same for every user and request.
"""

import numpy as np

from client.serving.model import Ints, Mask, Served
from shared.protocol import Array


class Spread:
    """Picks from a few good items, best first, with an eye on those already taken."""

    def __init__(self, model: Served, diversity: float) -> None:
        self._model, self._diversity = model, np.float32(diversity)
        self._taken: list[int] = []
        self._worth = np.zeros(0, np.float32)
        self._vectors = np.zeros((0, model.width), np.float32)
        self._nearest = np.zeros(0, np.float32)

    def over(self, places: Ints, totals: Array) -> None:
        """Pick from ``places`` from now on, which come by ``totals``, best first."""
        if not self._diversity:
            return
        scale = np.float32(self._model.recipe.temperature)
        self._worth = (1 - self._diversity) * totals / scale
        self._vectors = self._model.vectors.rows(places)
        self._nearest = np.zeros(len(places), np.float32)
        if self._taken:
            before = self._model.vectors.rows(np.array(self._taken))
            self._nearest = (self._vectors @ before.T).max(axis=1)

    def best(self, free: Mask) -> int:
        """Return which of the places is best among those that are ``free``."""
        if not self._diversity:
            return int(free.argmax())
        worth = self._worth - self._diversity * self._nearest
        return int(np.where(free, worth, -np.inf).argmax())

    def take(self, place: int) -> None:
        """Remember that an item of the catalogue was taken."""
        if not self._diversity:
            return
        vector = self._model.vectors.rows(np.array([place]))[0]
        near = self._vectors @ vector
        self._nearest = np.maximum(self._nearest, near) if self._taken else near
        self._taken.append(place)


def spread(model: Served, places: Ints) -> float:
    """Return the mean distance 1 - cosine between items; 0 for fewer than two."""
    count = len(places)
    if count < 2:
        return 0.0
    summed = model.vectors.rows(places).sum(axis=0, dtype=np.float64)
    pairs = (summed @ summed - count) / (count * (count - 1))
    return float(1 - pairs)
