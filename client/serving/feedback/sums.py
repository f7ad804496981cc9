"""All users' votes as one noised sum, and the tallies that it becomes.

What is exact here is an argument and never kept; what is returned as tallies is noised.
"""

import math
import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from client.noise import normal
from client.sampler import Uniform
from client.serving.feedback.tallies import SHAPE, Tallies
from client.serving.feedback.tastes import Tastes
from client.serving.feedback.thompson import Floats
from client.serving.feedback.votes import VOTE

KEPT: Final = 0.5  # of earlier votes, at every release
LIKED: Final = 0.5  # of a squared length, for tastes of groups where a site has groups
CELLS: Final = math.prod(SHAPE)


def summed(voted: Mapping[str, Floats], liked: Tastes | None) -> Floats:
    """Return the sum of all users' parts before noise, [cells]: votes, then tastes.

    Guarantee: adding or removing one user, with whatever they did, changes it by at
    most 1 in L2 norm.

    Args:
        voted: User -> vote of length 1 at most.
        liked: Who likes what, for votes of length 1 at most; None for a site without
            groups.
    """
    first: Floats = sum(voted.values(), np.zeros(SHAPE)).ravel()
    if liked is None:
        return first
    total = np.zeros(liked.cells)
    for vote in liked.votes():
        total += vote
    return np.concatenate([math.sqrt(1 - LIKED) * first, math.sqrt(LIKED) * total])


def noised(total: Floats, sigma: float, noise: Uniform) -> Floats:
    """Return the sum with Gaussian noise in every cell, whatever the sum is."""
    return total + sigma * normal(len(total), noise)


def tallies_of(
    released: Floats, sigma: float, number: int, layout: str, earlier: Tallies | None
) -> Tallies:
    """Return what serving reads of a noised sum, in votes; it costs no budget.

    Args:
        released: The noised sum.
        sigma: Of its noise.
        number: Of the release.
        layout: What its cells of groups stand for; empty without groups.
        earlier: The release before, if there was one.
    """
    unit = VOTE * (math.sqrt(1 - LIKED) if layout else 1.0)  # an entry of one vote
    fresh = released[:CELLS].reshape(SHAPE) / unit
    noise = (sigma / unit) ** 2
    if earlier is not None:
        fresh = fresh + KEPT * earlier.votes
        noise += KEPT**2 * earlier.noise
    return Tallies(
        number=number,
        time=int(time.time()),
        votes=fresh.astype(np.float32),
        noise=noise,
        groups=(released[CELLS:] / math.sqrt(LIKED)).astype(np.float32),
        groups_noise=sigma / math.sqrt(LIKED) if layout else 0.0,
        layout=layout,
    )
