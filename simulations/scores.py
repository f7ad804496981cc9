"""How items are scored for a site's users: by counts, the encoder, or training."""

from collections.abc import Sequence

import numpy as np

from client.examples import make_examples
from client.head import FactorHead
from client.model import HybridModel
from client.noise import system_uniform
from client.prior import release_popularity
from client.site import Site, open_site
from client.workbench import popularity_prior, workbench
from shared.protocol import Adapter, AdapterSpec, Array, Recipe
from simulations.arms import Trained
from simulations.evaluate import Ints, Score
from simulations.world import World


def exact_popularity(world: World) -> list[Array]:
    """Return each site's popularity of its items, pooled over equal catalogues.

    NOT PRIVATE: exact counts of all sites together, as a strong plain baseline.
    """
    pooled: dict[tuple[str, ...], Array] = {}
    for data in world.training:
        votes = release_popularity(
            make_examples(data.histories), len(data.catalogue), 0.0, system_uniform
        )
        ids = data.catalogue.ids
        pooled[ids] = pooled[ids] + votes if ids in pooled else votes
    return [pooled[data.catalogue.ids] for data in world.training]


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
