"""Full-ranking metrics for one held-out item per user (TARGETS.md section 3).

Nothing here knows who a user is, or loops over users but to leave out what each met.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

BLOCK = 1024  # lists whose vectors are in memory at a time


def ranks(scores: Scores, targets: Ints, seen: Sequence[Ints]) -> Ints:
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


def sampled_ranks(scores: Scores, targets: Ints, negatives: Ints) -> Ints:
    """Return the rank, from 1, of each held-out item among ``negatives`` [users, n].

    It tells much less than the full ranking, and may order methods otherwise (Krichene
    and Rendle 2020): whoever shows it says that it is sampled.
    """
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    others = np.take_along_axis(scores, negatives, axis=1)
    return 1 + np.asarray((others >= own).sum(axis=1), np.int64)


def top_items(scores: Scores, seen: Sequence[Ints], k: int) -> Ints:
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


def mrr(rank: Ints, k: int) -> Floats:
    """Return the reciprocal rank of each user's item, or 0 below place ``k``."""
    return np.where(rank <= k, 1.0 / rank, 0.0)


def coverage(exposure: Floats, items: int) -> Floats:
    """Return the share of a catalogue of ``items`` that is shown to anybody.

    Args:
        exposure: [..., shown] how often each item is shown; items that never are may
            be left out.
        items: Size of the catalogue.
    """
    return np.asarray((exposure > 0).sum(axis=-1) / items, np.float64)


def gini(exposure: Floats, items: int) -> Floats:
    """Return how unevenly a catalogue is shown: 0 for all alike, towards 1 for one.

    The Gini coefficient of ``exposure``, as ``coverage`` takes it.
    """
    ordered = np.sort(exposure, axis=-1)
    place = np.arange(items - ordered.shape[-1] + 1, items + 1)
    total = np.maximum(ordered.sum(axis=-1), 1e-12)
    weighted = (ordered * place).sum(axis=-1)
    return np.asarray(2 * weighted / (items * total) - (items + 1) / items, np.float64)


def novelty(top: Ints, likers: Ints, users: int) -> Floats:
    """Return the mean self-information of each list, in bits: -log2 of popularity.

    Args:
        top: [users, k] recommended items.
        likers: [items] how many of those who were trained on like each item.
        users: How many were trained on. One more user, who likes everything, keeps
            what nobody likes finite (Vargas and Castells 2011, section 4).
    """
    information = -np.log2((likers + 1.0) / (users + 1.0))
    return np.asarray(information[top].mean(axis=1), np.float64)


def diversity(top: Ints, vectors: Scores) -> Floats:
    """Return 1 minus the mean cosine between the items of each list (Ziegler 2005).

    Args:
        top: [users, k] recommended items; a list of one item is 0.
        vectors: [items, width], each of length 1.
    """
    k = top.shape[1]
    if k < 2:
        return np.zeros(len(top))
    alike = [
        np.square(vectors[part].sum(axis=1)).sum(axis=1) - k
        for part in np.array_split(top, len(top) // BLOCK + 1)
    ]
    return np.asarray(1.0 - np.concatenate(alike) / (k * (k - 1)), np.float64)


def rating_errors(predicted: Floats, truth: Floats) -> dict[str, float]:
    """Return MAE and RMSE of predicted ratings."""
    error = predicted - truth
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
    }


def decisions(
    predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Return accuracy, precision, recall and F1 of yes or no; 0 where there is none."""
    right = float((predicted & truth).sum())
    precision = right / max(1.0, float(predicted.sum()))
    recall = right / max(1.0, float(truth.sum()))
    both = precision + recall
    return {
        "accuracy": float((predicted == truth).mean()),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / both if both else 0.0,
    }
