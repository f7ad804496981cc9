"""How popular an item is taken to be that training never saw: as its text lets expect.

It learns from the released popularity of the items that were trained on, and from their
public texts, so it costs no budget. It replaces no release: an item that has one keeps
it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.serving.model import Blocks, Mask
from shared.protocol import Array

RIDGE = 0.1  # added to the squares of unit vectors; chosen on validation events
BLOCK = 4096  # items read at a time

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Expectation:
    """A ridge regression of the prior on text vectors.

    Attributes:
        usual: Mean prior of the items that it learned from.
        middle: Their mean vector, [width].
        weights: Of the vector, [width].
        low, high: Bounds of what it answers: those that it has seen.
    """

    usual: float
    middle: Floats
    weights: Floats
    low: float
    high: float

    def of(self, vectors: Array) -> Array:
        """Return the prior to expect of items with these vectors [m, width], [m]."""
        made = self.usual + (vectors - self.middle) @ self.weights
        return np.clip(made, self.low, self.high).astype(np.float32)


def expectation(vectors: Blocks, prior: Array, known: Mask) -> Expectation:
    """Return what texts let expect of popularity.

    Args:
        vectors: Of all n items.
        prior: The log prior times its weight, [n].
        known: Which items were trained on, [n]; without any, 0 is expected.
    """
    places, width = np.flatnonzero(known), vectors.parts[0].shape[1]
    if not len(places):
        return Expectation(0.0, np.zeros(width), np.zeros(width), 0.0, 0.0)
    parts = np.array_split(places, 1 + len(places) // BLOCK)
    middle = sum(vectors.rows(part).sum(axis=0, dtype=np.float64) for part in parts)
    middle /= len(places)
    usual = float(prior[places].mean(dtype=np.float64))
    squares, pull = RIDGE * np.eye(width), np.zeros(width)
    for part in parts:
        rows = vectors.rows(part) - middle
        squares += rows.T @ rows
        pull += rows.T @ (prior[part] - usual)
    bounds = float(prior[places].min()), float(prior[places].max())
    return Expectation(usual, middle, np.linalg.solve(squares, pull), *bounds)
