"""How items are scored for a site's users: by counts, the encoder, or training."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

from client.examples import make_examples
from client.head import FactorHead
from client.model import HybridModel
from client.noise import system_uniform
from client.prior import release_popularity
from client.site import PLAN, Site, open_site
from client.workbench import device_of, popularity_prior, workbench
from shared.activations import Activations
from shared.encoder import TextEncoder, open_encoder
from shared.protocol import Adapter, AdapterSpec, Array, Recipe, kept_plan
from simulations.arms import Trained
from simulations.ranking import Ints, Score, constant
from simulations.scenario import Scenario
from simulations.world import World, cache_folder


def exact_popularity(world: World) -> list[Array]:
    """Return each site's popularity of its items, pooled over equal catalogues.

    NOT PRIVATE: exact counts of all sites that train, as a strong plain baseline.
    """
    pooled: dict[tuple[str, ...], Array] = {}
    for name in world.trains:
        data = world.data(name)
        votes = release_popularity(
            make_examples(data.histories), len(data.catalogue), 0.0, system_uniform
        )
        ids = data.catalogue.ids
        pooled[ids] = pooled[ids] + votes if ids in pooled else votes
    return [
        pooled.get(data.catalogue.ids, np.zeros(len(data.catalogue), np.float32))
        for data in world.training
    ]


def released_score(trained: Trained, items: int) -> Score:
    """Return the popularity that a site released, the same for every user."""
    return constant(_prior(open_site(trained.folder), items, {}))


def frozen_score(trained: Trained, spec: AdapterSpec, recipe: Recipe) -> Score:
    """Return the scores of the frozen encoder with the site's released popularity."""
    bench = workbench(open_site(trained.folder), spec)
    nothing = _no_adapter(bench.encoder)
    head = _no_head(len(bench.data.catalogue), recipe)
    return _hybrid(trained, spec, recipe, nothing, head, alpha=recipe.alpha)


def trained_score(
    trained: Trained,
    spec: AdapterSpec,
    recipe: Recipe,
    adapter: Adapter,
    number: int,
    alpha: float | None = None,
) -> Score:
    """Return the scores of the adapter with the site's newest head and popularity.

    Args:
        trained: The site.
        spec: Of the adapter.
        recipe: Of the model.
        adapter: The version after round ``number``.
        number: Up to which round the site's head is taken.
        alpha: Weight of text against CF; by default that of each user's history.
    """
    site = open_site(trained.folder)
    head = FactorHead(
        len(workbench(site, spec).data.catalogue), recipe.factors, recipe.seed
    )
    newest = site.newest_head("run", number)
    if newest is not None:
        head.load(newest)
    return _hybrid(trained, spec, recipe, adapter, head, alpha=alpha)


def text_score(
    scenario: Scenario,
    spec: AdapterSpec,
    texts: Sequence[str],
    adapter: Adapter | None = None,
) -> Score:
    """Return the cosine of texts alone: no popularity, no head, and nobody's data.

    Args:
        scenario: Says which encoder.
        spec: Of the adapter.
        texts: Of the catalogue.
        adapter: What was trained elsewhere; by default nothing, a frozen encoder.
    """
    encoder, activations, centre = _encoded(scenario, spec, texts)
    recipe, chosen = scenario.recipe(), adapter or _no_adapter(encoder)
    model = HybridModel(
        encoder,
        activations,
        centre,
        _no_head(len(texts), recipe),
        np.zeros(len(texts), np.float32),
        recipe,
    )

    def score(histories: Sequence[Ints]) -> Array:
        encoder.set_adapter(chosen)  # everybody shares one encoder in this process
        return model.score(histories, 1.0)

    return score


def text_vectors(scenario: Scenario, spec: AdapterSpec, texts: Sequence[str]) -> Array:
    """Return the frozen vector of each text, of length 1, [texts, width]."""
    encoder, activations, _ = _encoded(scenario, spec, texts)
    encoder.set_adapter(_no_adapter(encoder))
    sums = encoder.passed(activations).sums
    return np.asarray(normalize(sums, dim=-1).detach().cpu().numpy(), np.float32)


def _encoded(
    scenario: Scenario, spec: AdapterSpec, texts: Sequence[str]
) -> tuple[TextEncoder, Activations, Tensor]:
    """Return the encoder as sites open it, its activations of texts and their centre.

    The centre is the texts' frozen mean vector.
    """
    asked = scenario.simulation
    return _read(asked.base, asked.precision, spec, tuple(texts), cache_folder())


@lru_cache(maxsize=4)
def _read(
    base: str, precision: str, spec: AdapterSpec, texts: tuple[str, ...], cache: Path
) -> tuple[TextEncoder, Activations, Tensor]:
    """Read a catalogue once, however many sites have it."""
    encoder = open_encoder(base, spec, device_of("auto"), precision)
    activations = encoder.open_store(cache).open(texts).to(encoder.device)
    return encoder, activations, encoder.frozen_mean(activations)


def _no_adapter(encoder: TextEncoder) -> dict[str, Array]:
    return {
        name: np.zeros(shape, np.float32) for name, shape in encoder.shapes().items()
    }


def _no_head(items: int, recipe: Recipe) -> FactorHead:
    head = FactorHead(items, recipe.factors, recipe.seed)
    head.load({name: np.zeros_like(array) for name, array in head.state().items()})
    return head


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
    prior = _prior(site, len(bench.data.catalogue), adapter)
    model = HybridModel(
        bench.encoder, bench.activations, bench.centre, head, prior, recipe
    )

    def score(histories: Sequence[Ints]) -> Array:
        bench.encoder.set_adapter(adapter)  # sites share one encoder in this process
        return model.score(histories, alpha)

    return score


def _prior(site: Site, items: int, adapter: Adapter) -> Array:
    """Return the released prior; flat where the budget did not allow a release."""
    plan = site.kept_bytes("run", PLAN)
    if plan is not None and site.kept("run", "popularity") is not None:
        return popularity_prior(site, kept_plan(plan.decode()), adapter)
    return np.zeros(items, np.float32)
