"""How items are scored for a site's users: by counts, the encoder, or training."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch.nn.functional import normalize

from client.examples import make_examples
from client.head import FactorHead
from client.model import HybridModel
from client.noise import system_uniform
from client.prior import release_popularity
from client.site import PLAN, Site, open_site
from client.workbench import (
    Texts,
    device_of,
    grown,
    open_texts,
    popularity_prior,
)
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


def opened(scenario: Scenario, spec: AdapterSpec, texts: Sequence[str]) -> Texts:
    """Return texts under the encoder as sites open it, read once for all sites."""
    asked = scenario.simulation
    return _read(asked.base, asked.precision, spec, tuple(texts), cache_folder())


@lru_cache(maxsize=4)
def _read(
    base: str, precision: str, spec: AdapterSpec, texts: tuple[str, ...], cache: Path
) -> Texts:
    """Read a catalogue once, however many sites have it."""
    encoder = open_encoder(base, spec, device_of("auto"), precision)
    return open_texts(encoder, cache, texts)


def frozen_score(trained: Trained, texts: Texts, recipe: Recipe) -> Score:
    """Return the scores of the frozen encoder with the site's released popularity."""
    nothing, head = _no_adapter(texts.encoder), _no_head(texts, recipe)
    return _hybrid(trained, texts, recipe, nothing, head, recipe.alpha)


def trained_score(
    trained: Trained,
    texts: Texts,
    recipe: Recipe,
    adapter: Adapter,
    number: int,
    alpha: float | None = None,
) -> Score:
    """Return the scores of the adapter with the site's newest head and popularity.

    Args:
        trained: The site.
        texts: Of the items to score: those that the site trained with, then late ones.
        recipe: Of the model.
        adapter: The version after round ``number``.
        number: Up to which round the site's head is taken.
        alpha: Weight of text against CF; by default that of each user's history.
    """
    head = FactorHead(len(texts.activations), recipe.factors, recipe.seed)
    newest = open_site(trained.folder).newest_head("run", number)
    if newest is not None:
        head.load(grown(newest, head.state()))
    return _hybrid(trained, texts, recipe, adapter, head, alpha)


def text_score(texts: Texts, recipe: Recipe, adapter: Adapter | None = None) -> Score:
    """Return the cosine of texts alone: no popularity, no head, and nobody's data.

    Args:
        texts: Of the catalogue.
        recipe: Of the model.
        adapter: What was trained elsewhere; by default nothing, a frozen encoder.
    """
    flat = np.zeros(len(texts.activations), np.float32)
    chosen = adapter or _no_adapter(texts.encoder)
    return _scored(texts, recipe, chosen, _no_head(texts, recipe), flat, 1.0)


def text_vectors(texts: Texts) -> Array:
    """Return the frozen vector of each text, of length 1, [texts, width]."""
    texts.encoder.set_adapter(_no_adapter(texts.encoder))
    sums = texts.encoder.passed(texts.activations).sums
    return np.asarray(normalize(sums, dim=-1).detach().cpu().numpy(), np.float32)


def _no_adapter(encoder: TextEncoder) -> dict[str, Array]:
    return {
        name: np.zeros(shape, np.float32) for name, shape in encoder.shapes().items()
    }


def _no_head(texts: Texts, recipe: Recipe) -> FactorHead:
    head = FactorHead(len(texts.activations), recipe.factors, recipe.seed)
    head.load({name: np.zeros_like(array) for name, array in head.state().items()})
    return head


def _hybrid(
    trained: Trained,
    texts: Texts,
    recipe: Recipe,
    adapter: Adapter,
    head: FactorHead,
    alpha: float | None,
) -> Score:
    prior = _prior(open_site(trained.folder), len(texts.activations), adapter)
    return _scored(texts, recipe, adapter, head, prior, alpha)


def _scored(
    texts: Texts,
    recipe: Recipe,
    adapter: Adapter,
    head: FactorHead,
    prior: Array,
    alpha: float | None,
) -> Score:
    encoder = texts.encoder
    model = HybridModel(encoder, texts.activations, texts.centre, head, prior, recipe)

    def score(histories: Sequence[Ints]) -> Array:
        encoder.set_adapter(adapter)  # everybody shares one encoder in this process
        return model.score(histories, alpha)

    return score


def _prior(site: Site, items: int, adapter: Adapter) -> Array:
    """Return the released prior [items], the usual one for late items; 0 without."""
    plan = site.kept_bytes("run", PLAN)
    if plan is None or site.kept("run", "popularity") is None:
        return np.zeros(items, np.float32)
    prior = popularity_prior(site, kept_plan(plan.decode()), adapter)
    return np.pad(prior, (0, items - len(prior)), constant_values=prior.mean())
