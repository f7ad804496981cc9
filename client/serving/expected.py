"""How popular an item is taken to be that training never saw: as its text lets expect.

It learns from the released popularity of the items that were trained on, and from their
public texts, so it costs no budget. It replaces no release: an item that has one keeps
it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.protocol import Array

RIDGE = 0.1  # added to the squares of unit vectors; chosen on validation events
BLOCK = 4096  # items read at a time

Mask = npt.NDArray[np.bool_]
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


def expectation(parts: Sequence[Array], prior: Array, known: Mask) -> Expectation:
    """Return what texts let expect of popularity.

    Args:
        parts: Vectors of all n items in blocks of rows.
        prior: The log prior times its weight, [n].
        known: Which items were trained on, [n]; without any, 0 is expected.
    """
    width = parts[0].shape[1]
    if not known.any():
        return Expectation(0.0, np.zeros(width), np.zeros(width), 0.0, 0.0)
    middle, usual = np.zeros(width), float(prior[known].mean(dtype=np.float64))
    for rows, _ in _blocks(parts, prior, known):
        middle += rows.sum(axis=0) / np.count_nonzero(known)
    squares, pull = RIDGE * np.eye(width), np.zeros(width)
    for rows, wanted in _blocks(parts, prior, known):
        squares += (rows - middle).T @ (rows - middle)
        pull += (rows - middle).T @ (wanted - usual)
    bounds = float(prior[known].min()), float(prior[known].max())
    weights = np.linalg.solve(squares, pull).astype(np.float64)
    return Expectation(usual, middle, weights, *bounds)


def _blocks(
    parts: Sequence[Array], prior: Array, known: Mask
) -> Iterator[tuple[Floats, Array]]:
    """Yield vectors and prior of known items, some at a time."""
    begin = 0
    for part in parts:
        for first in range(0, len(part), BLOCK):
            end = min(first + BLOCK, len(part))
            of = known[begin + first : begin + end]
            wanted = prior[begin + first : begin + end]
            yield part[first:end][of].astype(np.float64), wanted[of]
        begin += len(part)
