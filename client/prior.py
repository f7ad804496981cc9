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


def log_prior(popularity: Array) -> Array:
    """Return log(1 + popularity), with what noise pushed below zero at zero."""
    return np.log1p(np.maximum(popularity, 0.0)).astype(np.float32)
