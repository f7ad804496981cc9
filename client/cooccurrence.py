"""A CF head from one release: which popular items are liked by the same people.

Where users are few, one well-shaped release says more than many noisy steps. It is
about the items that the site's released popularity puts first. It never leaves the
site; it is charged all the same, because it shapes what is served.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.examples import UserExample
from client.noise import normal
from client.sampler import Uniform
from shared.protocol import Array

STRENGTH = 300.0  # of the CF part beside text and prior; chosen on validation events
SPREAD = 3.0  # users for each item and sigma; chosen on validation events
SAFE = 2.0  # noise alone goes that far beyond its edge once in a thousand releases
CHUNK = 4096  # users whose likes are laid out at a time

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Cooccurrence:
    """A noised matrix of second moments over the most popular items.

    Attributes:
        items: Which they are, int64[L], the most popular first.
        gram: Sum over users of ``y y^T``, float32[L, L], symmetric.
        sigma: Noise multiplier; 0 is exact and NOT PRIVATE.
    """

    items: Ints
    gram: Array
    sigma: float


def looked_at(users: int, sigma: float, most: int) -> int:
    """Return how many items a release should be about; from public values alone.

    The more items, the more noise every direction of taste has: the edge grows with
    ``sigma sqrt(L)``, while what users share is spread over more values.

    Args:
        users: The site's declared number of users.
        sigma: Noise multiplier of the release.
        most: The recipe's limit.
    """
    return most if sigma == 0 else min(most, max(2, int(users / (SPREAD * sigma))))


def release_cooccurrence(
    examples: Sequence[UserExample],
    popularity: Array,
    count: int,
    sigma: float,
    noise: Uniform,
) -> Cooccurrence:
    """Return the noised co-occurrence of the ``count`` most popular items.

    A user's ``y`` says by how much more than the average user they like each of these
    items, scaled to length 1. Guarantee: one user changes the sum of ``y y^T`` by at
    most 1 in Frobenius norm. Its upper triangle, with what is off the diagonal times
    the root of 2, is a vector of that length; noise of standard deviation ``sigma`` on
    it is the Gaussian mechanism of multiplier ``sigma`` for whole users (Dwork et al.
    2014, "Analyze Gauss", algorithm 1).

    Args:
        examples: One per user of the site.
        popularity: The site's released popularity, [items].
        count: L, at most the items there are.
        sigma: Noise multiplier.
        noise: Secret stream.
    """
    items = np.argsort(-popularity, kind="stable")[:count].astype(np.int64)
    usual = np.maximum(popularity, 0.0).astype(np.float64)
    usual = (usual / max(float(usual.sum()), 1e-9))[items]
    place = np.full(len(popularity), len(items))  # of those that are not looked at
    place[items] = np.arange(len(items))
    gram = np.zeros((len(items), len(items)))
    for first in range(0, len(examples), CHUNK):
        y = _tilts(examples[first : first + CHUNK], place, usual)
        gram += y.T @ y
    if sigma > 0:
        gram += sigma * _symmetric(len(items), noise)
    return Cooccurrence(items, gram.astype(np.float32), sigma)


def _tilts(
    examples: Sequence[UserExample], place: Ints, usual: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return each user's unit ``y``, [users, L]; 0 for a user without likes."""
    shares = np.zeros((len(examples), len(usual) + 1))
    for row, example in enumerate(examples):
        liked = np.unique(example.likes)
        shares[row, place[liked]] = 1.0 / max(1, len(liked))
    some = np.array([len(example.likes) > 0 for example in examples])
    tilts = (shares[:, :-1] - usual) * some[:, None]
    lengths = np.linalg.norm(tilts, axis=1, keepdims=True)
    return np.asarray(tilts / np.maximum(lengths, 1e-12))


def _symmetric(size: int, noise: Uniform) -> npt.NDArray[np.float64]:
    """Return symmetric noise: variance 1 on the diagonal and 1/2 beside it."""
    rows, columns = np.triu_indices(size)
    drawn = normal(len(rows), noise) / np.where(rows == columns, 1.0, np.sqrt(2.0))
    made = np.zeros((size, size))
    made[rows, columns] = made[columns, rows] = drawn
    return made


def factors(
    released: Cooccurrence, items: int, width: int, users: int
) -> dict[str, Array]:
    """Return the state of a ``FactorHead`` that scores by a release.

    Only directions that stand out of noise and chance are kept, shrunk by what these
    add to them: a symmetric noise matrix has eigenvalues up to ``sigma sqrt(2 L)``, and
    beyond by a share of the order of ``L**(-2/3)`` (Tracy and Widom 1996); users
    without a taste have those of ``by_chance``. A direction counts by the root of its
    lift, what it holds against an even share and what chance adds to that: by the lift
    itself the first few outweigh all others. It sees a release and public values, so it
    costs no budget.

    Args:
        released: Of this site.
        items: Size of the catalogue; other items get factors 0.
        width: Most directions kept.
        users: The site's declared, public number of users, which sets the scale.
    """
    size = len(released.items)
    made = np.zeros((items, width), np.float32)
    state = {"factors.weight": made, "biases.weight": np.zeros((items, 1), np.float32)}
    if size == 0:
        return state
    values, vectors = np.linalg.eigh(released.gram.astype(np.float64))
    raised = values - np.median(values)  # what all directions have is no taste
    edge = released.sigma * np.sqrt(2.0 * size)
    stands_out = raised > edge * (1 + SAFE * size ** (-2 / 3))
    chance = by_chance(size, users)
    left = np.square(raised) - edge**2 - chance**2
    left = np.sqrt(np.maximum(left, 0.0)) * stands_out
    best = np.argsort(-left)[: min(width, size)]
    lifts = left[best] / (users / size + chance)
    scale = np.sqrt(STRENGTH * np.sqrt(lifts))
    made[released.items, : len(best)] = vectors[:, best] * scale
    return state


def by_chance(size: int, users: int) -> float:
    """Return how far the sum over users without any taste reaches above its median.

    Random unit vectors of ``size`` values have eigenvalues up to ``users / size`` times
    ``(1 + sqrt(ratio))**2``, with ``ratio = size / users``, and a median of ``1 -
    ratio / 3`` times that share, or 0 where users are few (Marchenko and Pastur
    1967; the median is ours, within .005 for ratios up to 1).
    """
    ratio = size / users
    median = 1 - ratio / 3 if ratio <= 1 else 0.0
    return float((1 + ratio**0.5) ** 2 - median) / ratio
