"""What audits train: the real model over generated texts, with users made to measure.

The encoder is the tiny random BERT; everything above it is what a site runs. No user's
data is read: an audit needs none.
"""

from pathlib import Path

import numpy as np

from client.examples import UserExample
from client.head import FactorHead
from client.model import HybridModel
from shared.encoder import TextEncoder, base_digest, load_base
from shared.protocol import AdapterSpec, Array, Recipe
from simulations.population import generate

RANK, TOKENS = 4, 16


def make_model(
    cache: Path,
    *,
    items: int,
    recipe: Recipe,
    prior: Array | None = None,
    training: str = "float32",
) -> HybridModel:
    """Return a fresh model over ``items`` generated texts; its adapter is not zero.

    Args:
        cache: Folder of the activations, shared by all models of an audit.
        items: Size of the catalogue.
        recipe: How it learns.
        prior: Log prior [items]; flat by default.
        training: In which precision frozen products are taken.
    """
    spec = AdapterSpec(base=base_digest("tiny"), rank=RANK, max_tokens=TOKENS)
    encoder = TextEncoder(load_base("tiny"), spec, training=training)
    rng = np.random.default_rng(2026)
    start = {
        name: rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in encoder.shapes().items()
    }
    encoder.set_adapter(start)
    texts = generate(rng, users=3, items=items).data.catalogue.texts
    activations = encoder.open_store(cache).open(texts)
    return HybridModel(
        encoder,
        activations,
        encoder.frozen_mean(activations),
        FactorHead(items, recipe.factors, recipe.seed),
        np.zeros(items, np.float32) if prior is None else prior,
        recipe,
    )


def make_users(
    count: int, *, items: int, likes: int, rng: np.random.Generator
) -> list[UserExample]:
    """Return users with ``likes`` different likes each, drawn uniformly."""
    return [UserExample(1000 + n, rng.permutation(items)[:likes]) for n in range(count)]
