"""What each arm recommends to the same users for the same held-out events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.metrics import coverage, hit, interval, ndcg, ranks, top_items
from shared.protocol import Array
from simulations.split import HeldOut, Split

Ints = npt.NDArray[np.int64]
Score = Callable[[Sequence[Ints]], Array]  # histories, newest first -> [users, items]

COVERAGE = "coverage@10"
CUT = 10  # length of a list of recommendations
CHUNK = 512  # users scored at a time


@dataclass(frozen=True, slots=True)
class Ranking:
    """How one arm ranked the held-out items of one site's users.

    Attributes:
        rank: [users] place of the held-out item, from 1.
        top: [users, 10] recommended items.
        items: Size of the site's catalogue.
    """

    rank: Ints
    top: Ints
    items: int


def rank_site(
    score: Score, split: Split, items: int, *, which: str = "test"
) -> Ranking:
    """Rank every user's held-out item among all items they have not met."""
    held = [getattr(user, which) for user in split.users]
    parts = [
        _rank(score, held[first : first + CHUNK])
        for first in range(0, len(held), CHUNK)
    ]
    return Ranking(
        np.concatenate([rank for rank, _ in parts]),
        np.concatenate([top for _, top in parts]),
        items,
    )


def _rank(score: Score, held: Sequence[HeldOut]) -> tuple[Ints, Ints]:
    scores = score([event.before.items[event.before.likes][::-1] for event in held])
    seen = [event.seen for event in held]
    targets = np.array([event.item for event in held])
    return ranks(scores, targets, seen), top_items(
        scores, seen, min(CUT, scores.shape[1])
    )


def constant(popular: Array) -> Score:
    """Return scores that are the same for every user."""
    return lambda histories: np.tile(popular, (len(histories), 1))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One arm's rankings of all sites.

    Attributes:
        arm: Its name.
        epsilon: What its sites spent on it at most, recomputed from their ledgers;
            infinite where nothing is promised.
        sites: Site -> ranking.
    """

    arm: str
    epsilon: float
    sites: dict[str, Ranking]

    def rank(self) -> Ints:
        """Return the places of all users' held-out items, site after site."""
        return np.concatenate([ranking.rank for ranking in self.sites.values()])


def summary(outcome: Outcome, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Return mean, low and high (95 % bootstrap over users) of each metric."""
    rank = outcome.rank()
    owner = np.concatenate(
        [np.full(len(r.rank), n) for n, r in enumerate(outcome.sites.values())]
    )
    tops = np.concatenate([r.top for r in outcome.sites.values()])
    sizes = [r.items for r in outcome.sites.values()]

    def covered(users: Ints) -> float:
        per_site = [
            coverage(tops[users[owner[users] == n]], size)
            for n, size in enumerate(sizes)
        ]
        return float(np.mean(per_site))

    every = np.arange(len(rank))
    figures = {
        "ndcg@10": lambda users: float(ndcg(rank[users], CUT).mean()),
        "hr@10": lambda users: float(hit(rank[users], CUT).mean()),
        COVERAGE: covered,
    }
    result = {}
    for name, figure in figures.items():
        low, high = interval(figure, len(rank), rng, centred=name == COVERAGE)
        result[name] = {"mean": figure(every), "low": low, "high": high}
    return result


def difference(
    one: Outcome, other: Outcome, rng: np.random.Generator
) -> dict[str, float]:
    """Return NDCG@10 of ``one`` minus ``other`` with a paired 95 % interval."""
    gain = ndcg(one.rank(), CUT) - ndcg(other.rank(), CUT)
    low, high = interval(lambda users: float(gain[users].mean()), len(gain), rng)
    return {"mean": float(gain.mean()), "low": low, "high": high}
