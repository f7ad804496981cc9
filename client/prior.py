"""The site's popularity, released once per run through the Gaussian mechanism.

Each user spreads one vote of L2 length 1 over the distinct items they like. The prior
never leaves the site; it is charged all the same, because it shapes what is trained and
what is served (DESIGN D4).
"""

from collections.abc import Sequence

import numpy as np

from client.examples import UserExample
from client.noise import normal
from client.sampler import Uniform
from shared.protocol import Array

GRID = 1024  # places at which the density of released counts is taken


def release_popularity(
    examples: Sequence[UserExample], items: int, sigma: float, noise: Uniform
) -> Array:
    """Return the noised popularity of every item, [items].

    Guarantee: one user changes the sum before noise by at most 1 in L2 norm, so with
    noise of standard deviation ``sigma`` this is the Gaussian mechanism of multiplier
    ``sigma`` for whole users. With sigma 0 the sums are exact and NOT PRIVATE.
    """
    votes = np.zeros(items)
    for example in examples:
        liked = np.unique(example.likes)
        votes[liked] += 1.0 / np.sqrt(max(1, len(liked)))
    if sigma > 0:
        votes += sigma * normal(items, noise)
    return votes.astype(np.float32)


def log_prior(popularity: Array, sigma: float) -> Array:
    """Return log(1 + popularity) after noise was taken out where it can be.

    A released count becomes what counts like it were on average before the noise, by
    Tweedie's formula ``x + sigma^2 (log f)'(x)`` (Efron 2011, eq. 1.4). With Gaussian
    kernels of width sigma as the density f of all released values, that is their mean
    around x: a crowd of small counts shrinks together, one that stands alone stays. It
    sees released values only, so it costs no budget.

    Args:
        popularity: Released popularity, [items].
        sigma: Standard deviation of its noise; 0 leaves exact counts as they are.
    """
    if sigma > 0:
        low, high = float(popularity.min()), float(popularity.max())
        widest = max(high, low + sigma / GRID)  # equal counts have no width
        found, edges = np.histogram(popularity.astype(float), GRID, (low, widest))
        at = (edges[1:] + edges[:-1]) / 2
        near = np.exp(-np.square((at[:, None] - at) / sigma) / 2) * found
        crowd = near.sum(axis=1)
        mean = np.where(crowd > 0, near @ at / np.maximum(crowd, 1e-300), at)
        popularity = np.interp(popularity, at, mean).astype(np.float32)
    return np.log1p(np.maximum(popularity, 0.0)).astype(np.float32)
