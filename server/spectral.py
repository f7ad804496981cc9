"""The rule ``spectral``: what stands out of the noise of all rounds so far, no more.

Each site adds its full noise, and training moves an adapter in few directions. So the
updates of a run are averaged and summed, and the adapter is what is left of that sum
after its singular values are shrunk as far as noise alone would have raised them. It
sees noised updates only: post-processing, which costs no budget.

That is dual averaging (Xiao 2010) with optimal shrinkage of singular values (Gavish and
Donoho 2017, eq. 7) in the place of a proximal step.
"""

from functools import lru_cache

import numpy as np
from flwr.serverapp.strategy import FedAvg

from shared.adapter import add, subtract
from shared.protocol import Adapter, Array

SAFE = 1.0  # how far beyond its edge noise alone goes, as a share of the usual
GRID = 4096  # places at which the density of singular values of noise is taken


class Spectral(FedAvg):
    """FedAvg whose adapter is the shrunk sum of all averages.

    What is no matrix, a shared popularity, is averaged and left as it is.

    Attributes:
        total: The sum of all rounds' averages; empty before the first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total: Adapter = {}

    def moved(self, mean: Adapter) -> dict[str, Array]:
        """Take in the average of a round; return by how much the adapter moves."""
        before = self.total or {n: np.zeros_like(array) for n, array in mean.items()}
        self.total = add(before, mean)
        return subtract(_all_shrunk(self.total), _all_shrunk(before))


def _all_shrunk(total: Adapter) -> dict[str, Array]:
    return {
        name: shrunk(array) if array.ndim == 2 else array
        for name, array in total.items()
    }


def shrunk(seen: Array) -> Array:
    """Return the matrix [m, n] of least expected squared error behind a noised one.

    The noise is white; its level is told by the median singular value, which few
    directions of signal hardly move. What does not pass the edge of the noise is 0.

    Args:
        seen: Signal of low rank plus noise.
    """
    left, values, right = np.linalg.svd(seen.astype(np.float64), full_matrices=False)
    longest = max(seen.shape)
    ratio = min(seen.shape) / longest
    level = np.median(values) / np.sqrt(_median_of_noise(ratio))
    if level == 0:  # no noise to be taken out
        return seen
    y = values / level
    inside = np.square(np.square(y) - ratio - 1) - 4 * ratio
    above = y > (1 + np.sqrt(ratio)) * (1 + SAFE * longest ** (-2 / 3))
    kept = np.where(above, np.sqrt(np.maximum(inside, 0)) / np.maximum(y, 1e-12), 0.0)
    return np.asarray((left * (level * kept)) @ right, np.float32)


@lru_cache
def _median_of_noise(ratio: float) -> float:
    """Return the median of the Marchenko-Pastur law of squared singular values.

    Args:
        ratio: Of the shorter to the longer side, in (0, 1]; noise of variance one over
            the longer side.
    """
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    edges = np.linspace(low, high, GRID + 1)
    at = (edges[1:] + edges[:-1]) / 2
    mass = np.cumsum(np.sqrt((high - at) * (at - low)) / at)
    return float(at[np.searchsorted(mass, mass[-1] / 2)])
