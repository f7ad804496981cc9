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


def log_prior(popularity: Array, sigma: float) -> Array:
    """Return log(1 + popularity) after the noise was shrunk out of it.

    The counts are drawn towards their mean by the positive-part James-Stein factor
    1 - n sigma^2 / |c - mean|^2 (Efron and Morris 1973): where noise drowns the counts,
    the prior is flat. It sees released values only, so it costs no budget.

    Args:
        popularity: Released popularity, [items].
        sigma: Standard deviation of its noise; 0 leaves exact counts as they are.
    """
    mean = float(popularity.mean())
    power = float(np.square(popularity - mean).sum())
    kept = (
        max(0.0, 1.0 - len(popularity) * sigma**2 / max(power, 1e-12)) if sigma else 1.0
    )
    shrunk = np.maximum(mean + kept * (popularity - mean), 0.0)
    return np.asarray(np.log1p(shrunk), np.float32)
