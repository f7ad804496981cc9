"""Plain recommenders on the likes of all sites together: what learning has to beat.

They see every user's likes, so they are NOT PRIVATE. Each is fitted on training likes
alone; its hyper-parameters are those of a small grid that rank the validation events
best; whom it ranks for it knows by their likes before the event, without learning more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse as sp

from client.data import UserHistory
from shared.errors import ConfigError
from shared.metrics import Floats, ndcg
from shared.protocol import Array
from simulations.ranking import CUT, Ints, Score, rank_site
from simulations.split import Split

Setting = Mapping[str, float]
Fit = Callable[[Sequence[Ints], int, Setting, int], Score]

MOST_ITEMS = 20_000  # of which a dense matrix of items fits
ITERATIONS = 15  # of alternating least squares
EPOCHS = 100  # of BPR
FOLD_IN_STEPS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A baseline with the hyper-parameters that were chosen.

    Attributes:
        score: Fitted on all that may be trained on.
        tuned: Fitted on what comes before the validation events.
        chosen: The hyper-parameters.
    """

    score: Score
    tuned: Score
    chosen: Setting


def choose(arm: str, split: Split, items: int, seed: int) -> Fitted:
    """Fit each setting of an arm's grid; keep the one that ranks validation best."""
    fit = FITS[arm]
    known = [_likes(user.tuning) for user in split.users]
    tried = [(setting, fit(known, items, setting, seed)) for setting in GRIDS[arm]]
    found = [
        ndcg(rank_site(score, split, items, which="validation").rank, CUT).mean()
        for _, score in tried
    ]
    chosen, tuned = tried[int(np.argmax(found))]
    if split.validates:
        return Fitted(tuned, tuned, chosen)
    whole = [_likes(user.train) for user in split.users]
    return Fitted(fit(whole, items, chosen, seed), tuned, chosen)


def _likes(history: UserHistory) -> Ints:
    return history.items[history.likes]


def matrix(histories: Sequence[Ints], items: int) -> sp.csr_matrix:
    """Return who likes what, [users, items], ones and zeros."""
    lengths = [len(history) for history in histories]
    rows = np.repeat(np.arange(len(histories)), lengths)
    liked = np.concatenate([np.zeros(0, np.int64), *histories])
    ones = np.ones(len(liked), np.float32)
    made = sp.csr_matrix((ones, (rows, liked)), (len(histories), items))
    made.data[:] = 1.0  # an item that was liked twice
    return made


def item_knn(
    histories: Sequence[Ints], items: int, setting: Setting, _seed: int
) -> Score:
    """Return the sum of cosines to liked items, of each item's ``k`` nearest."""
    gram = _gram(histories, items)
    length = np.sqrt(np.maximum(np.diagonal(gram), 1.0))
    cosine = gram / np.outer(length, length)
    np.fill_diagonal(cosine, 0.0)
    k = min(int(setting["k"]), items - 1)
    bound = np.partition(cosine, items - k, axis=0)[items - k]
    return _linear(np.where(cosine >= bound, cosine, 0.0), items)


def ease(histories: Sequence[Ints], items: int, setting: Setting, _seed: int) -> Score:
    """Return the scores of EASE: a linear map of likes in closed form (Steck 2019)."""
    gram = _gram(histories, items)
    gram[np.diag_indices(items)] += setting["lambda"]
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diagonal(inverse)
    np.fill_diagonal(weights, 0.0)
    return _linear(weights, items)


def _gram(histories: Sequence[Ints], items: int) -> Floats:
    if items > MOST_ITEMS:
        raise ConfigError(
            f"item-knn and ease hold a matrix of {items} x {items} items, over "
            f"{MOST_ITEMS}: leave them out of --arms"
        )
    likes = matrix(histories, items).astype(np.float64)
    return np.asarray((likes.T @ likes).toarray(), np.float64)


def _linear(weights: Floats, items: int) -> Score:
    kept = weights.astype(np.float32)
    return lambda histories: np.asarray(matrix(histories, items) @ kept, np.float32)


def als(histories: Sequence[Ints], items: int, setting: Setting, seed: int) -> Score:
    """Return the scores of implicit ALS (Hu et al. 2008)."""
    model = _fitted(
        _implicit("als").AlternatingLeastSquares,
        matrix(histories, items),
        factors=int(setting["factors"]),
        regularization=setting["regularization"],
        alpha=setting["alpha"],
        iterations=ITERATIONS,
        random_state=seed,
    )

    def score(asked: Sequence[Ints]) -> Array:
        users = model.recalculate_user(np.arange(len(asked)), matrix(asked, items))
        return np.asarray(users @ model.item_factors.T, np.float32)

    return score


def bpr(histories: Sequence[Ints], items: int, setting: Setting, seed: int) -> Score:
    """Return the scores of BPR (Rendle et al. 2009).

    A user's vector for a history is found by BPR's own loss, with the items held.
    """
    model = _fitted(
        _implicit("bpr").BayesianPersonalizedRanking,
        matrix(histories, items),
        factors=int(setting["factors"]),
        learning_rate=setting["rate"],
        regularization=setting["regularization"],
        iterations=EPOCHS,
        random_state=seed,
    )
    factors, biases = model.item_factors[:, :-1], model.item_factors[:, -1]

    def score(asked: Sequence[Ints]) -> Array:
        rng = np.random.default_rng([seed, len(asked)])
        users = _bpr_users(asked, factors, biases, setting["regularization"], rng)
        return np.asarray(users @ factors.T + biases, np.float32)

    return score


def _bpr_users(
    histories: Sequence[Ints],
    factors: Array,
    biases: Array,
    regularization: float,
    rng: np.random.Generator,
) -> Array:
    """Return the vectors that rank each user's likes above items drawn at random.

    Plain gradient steps on the mean over a user's likes of -log sigmoid of the
    difference, one random item against each like in each step.
    """
    likes = matrix(histories, len(factors))
    own = likes.multiply(1.0 / np.maximum(likes.sum(axis=1), 1.0)).tocsr()
    rows, liked = own.nonzero()
    share = own.data
    users = np.zeros((len(histories), factors.shape[1]), np.float32)
    for _ in range(FOLD_IN_STEPS):
        against = rng.integers(0, len(factors), len(liked))
        apart = factors[liked] - factors[against]
        margin = (users[rows] * apart).sum(axis=1) + biases[liked] - biases[against]
        pull = sp.csr_matrix(
            (share / (1.0 + np.exp(margin)), own.indices, own.indptr), own.shape
        )
        places = sp.csr_matrix(
            (pull.data, np.arange(len(liked)), own.indptr), (len(users), len(liked))
        )
        users += places @ apart - regularization * users
    return users


def _implicit(module: str) -> ModuleType:
    """Return a module of ``implicit``, which is installed for development alone."""
    try:
        return import_module(f"implicit.cpu.{module}")
    except ImportError:
        raise ConfigError(
            "the arms als and bpr need the package implicit: "
            'pip install "tacit[dev]", or leave them out of --arms'
        ) from None


def _fitted(kind: Callable[..., Any], likes: sp.csr_matrix, **options: float) -> Any:
    """Make and fit a model of ``implicit`` in one thread: a seed gives one result."""
    with import_module("threadpoolctl").threadpool_limits(1, "blas"):  # it brings that
        model = kind(num_threads=1, **options)
        model.fit(likes, show_progress=False)
    return model


def _grid(**values: Sequence[float]) -> tuple[Setting, ...]:
    names = tuple(values)
    return tuple(
        dict(zip(names, each, strict=True)) for each in product(*values.values())
    )


FITS: Mapping[str, Fit] = {"item-knn": item_knn, "ease": ease, "als": als, "bpr": bpr}
GRIDS: Mapping[str, tuple[Setting, ...]] = {
    "item-knn": _grid(k=(50, 100, 200, 400)),
    "ease": _grid(**{"lambda": (50, 100, 200, 500, 1000)}),
    "als": _grid(factors=(32, 64), regularization=(0.1, 10), alpha=(1, 5)),
    "bpr": _grid(factors=(32, 64), rate=(0.02,), regularization=(0.001, 0.01)),
}
