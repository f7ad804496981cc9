"""What each arm recommends to the same users for the same held-out events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.examples import make_examples
from client.head import FactorHead
from client.model import HybridModel
from client.noise import system_uniform
from client.prior import release_popularity
from client.site import Site, open_site
from client.workbench import popularity_prior, workbench
from shared.metrics import coverage, hit, interval, ndcg, ranks, top_items
from shared.protocol import Adapter, AdapterSpec, Array, Recipe
from simulations.arms import Trained
from simulations.split import HeldOut, Split
from simulations.world import World

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


def popularity_scores(world: World) -> list[Score]:
    """Return each site's scores by exact popularity, pooled over equal catalogues.

    NOT PRIVATE: exact counts of all sites together, as a strong plain baseline.
    """
    pooled: dict[tuple[str, ...], Array] = {}
    for data in world.training:
        votes = release_popularity(
            make_examples(data.histories), len(data.catalogue), 0.0, system_uniform
        )
        ids = data.catalogue.ids
        pooled[ids] = pooled[ids] + votes if ids in pooled else votes
    return [_constant(pooled[data.catalogue.ids]) for data in world.training]


def _constant(popular: Array) -> Score:
    return lambda histories: np.tile(popular, (len(histories), 1))


def frozen_score(trained: Trained, spec: AdapterSpec, recipe: Recipe) -> Score:
    """Return the scores of the frozen encoder with the site's released popularity."""
    site = open_site(trained.folder)
    bench = workbench(site, spec)
    zero = {
        name: np.zeros(shape, np.float32)
        for name, shape in bench.encoder.shapes().items()
    }
    head = FactorHead(len(bench.data.catalogue), recipe.factors, recipe.seed)
    head.load({name: np.zeros_like(array) for name, array in head.state().items()})
    return _hybrid(trained, spec, recipe, zero, head, alpha=recipe.alpha)


def trained_score(
    trained: Trained, spec: AdapterSpec, recipe: Recipe, adapter: Adapter, number: int
) -> Score:
    """Return the scores of the adapter with the site's newest head and popularity."""
    site = open_site(trained.folder)
    head = FactorHead(
        len(workbench(site, spec).data.catalogue), recipe.factors, recipe.seed
    )
    newest = site.newest_head("run", number)
    if newest is not None:
        head.load(newest)
    return _hybrid(trained, spec, recipe, adapter, head)


def _hybrid(
    trained: Trained,
    spec: AdapterSpec,
    recipe: Recipe,
    adapter: Adapter,
    head: FactorHead,
    alpha: float | None = None,
) -> Score:
    site = open_site(trained.folder)
    bench = workbench(site, spec)
    prior = _prior(site, len(bench.data.catalogue))
    model = HybridModel(
        bench.encoder, bench.activations, bench.centre, head, prior, recipe
    )

    def score(histories: Sequence[Ints]) -> Array:
        bench.encoder.set_adapter(adapter)  # sites share one encoder in this process
        return model.score(histories, alpha)

    return score


def _prior(site: Site, items: int) -> Array:
    """Return the released prior; flat where the budget did not allow a release."""
    if any(entry.state == "planned" for entry in site.open_ledger().entries()):
        return popularity_prior(site, "run")
    return np.zeros(items, np.float32)


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
