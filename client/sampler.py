"""Who trains in a step: every user by an independent secret coin (Poisson sampling).

The accountant assumes exactly this. Shuffled or fixed batches accounted as Poisson
under-report epsilon up to fourfold (Annamalai et al. 2024, arXiv 2411.10614).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Uniform = Callable[[int], npt.NDArray[np.float64]]  # n -> n draws in [0, 1)


def poisson_draw(users: int, q: float, uniform: Uniform) -> npt.NDArray[np.int64]:
    """Return the users of one step, possibly none.

    Guarantee: each user is in with probability ``q``, whatever the others do; nothing
    about one user changes another user's chance.

    Args:
        users: How many users the site has; secret, so neither it nor the result's
            length may reach anything public.
        q: Public inclusion probability per user and step.
        uniform: The secret stream of the coins.
    """
    return np.flatnonzero(uniform(users) < q)
