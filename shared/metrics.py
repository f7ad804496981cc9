"""Full-ranking metrics for one held-out item per user (TARGETS.md section 3)."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DRAWS = 1000  # bootstrap samples


def ranks(scores: npt.NDArray[np.float32], targets: Ints, seen: Sequence[Ints]) -> Ints:
    """Return the rank, from 1, of each user's held-out item among items not met.

    Ties count against the item: it stands behind every item of equal score.

    Args:
        scores: [users, items].
        targets: [users] the held-out item of each.
        seen: For each user the items left out of the ranking; never the target.
    """
    rows = np.arange(len(targets))
    own = scores[rows, targets]
    ahead = (scores >= own[:, None]).sum(axis=1)
    met = [
        int((scores[row, items] >= own[row]).sum()) for row, items in enumerate(seen)
    ]
    return np.asarray(ahead - np.array(met, np.int64), np.int64).reshape(-1)


def top_items(scores: npt.NDArray[np.float32], seen: Sequence[Ints], k: int) -> Ints:
    """Return the ``k`` best unseen items of each user, best first, [users, k]."""
    open_scores = scores.copy()
    for row, items in enumerate(seen):
        open_scores[row, items] = -np.inf
    best = np.argpartition(-open_scores, k - 1, axis=1)[:, :k]
    order = np.argsort(
        -np.take_along_axis(open_scores, best, axis=1), axis=1, kind="stable"
    )
    return np.take_along_axis(best, order, axis=1)


def ndcg(rank: Ints, k: int) -> Floats:
    """Return NDCG@k of each user: 1 / log2(1 + rank), or 0 below place ``k``.

    With one relevant item the ideal gain is 1 (Jarvelin and Kekalainen 2002).
    """
    return np.where(rank <= k, 1.0 / np.log2(1.0 + rank), 0.0)


def hit(rank: Ints, k: int) -> Floats:
    """Return HR@k of each user: 1 where the item is among the first ``k``."""
    return (rank <= k).astype(np.float64)


def coverage(top: Ints, catalogue: int) -> float:
    """Return the share of the catalogue that appears in anybody's list."""
    return len(np.unique(top)) / catalogue


def interval(
    statistic: Callable[[Ints], float],
    users: int,
    rng: np.random.Generator,
    *,
    centred: bool = False,
) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a statistic of users.

    Args:
        statistic: Takes user positions, with repetition, and returns a number.
        users: How many users there are.
        rng: Draws the resamples.
        centred: Move the percentiles by the bootstrap's own bias. Not for a mean, which
            has none; a resample holds fewer distinct users, so it covers less of a
            catalogue.
    """
    drawn = [statistic(rng.integers(0, users, users)) for _ in range(DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    bias = np.mean(drawn) - statistic(np.arange(users)) if centred else 0.0
    return float(low - bias), float(high - bias)
