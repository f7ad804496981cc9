"""What is not shared cannot be known: the guard against leaks of held-out items.

Every user is a site alone: no other user's likes, no text, no popularity. Such a site
knows nothing of what its user will do next, so held-out items must come out at chance;
anything better has seen them. That the guard can fail is tested beside it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.examples import make_examples
from client.head import FactorHead
from client.model import HybridModel
from client.noise import insecure_streams
from client.train import train_round
from shared.encoder import TextEncoder
from simulations.population import generate
from simulations.ranking import Ranking, rank_site
from simulations.split import Split, UserSplit, leave_one_out, with_negatives
from tests.factories import mechanism, small_recipe, tiny_encoder
from tests.honesty import Found, Ints, candidates, found, hits_by_chance

USERS, ITEMS, ROUNDS, DRAWN = 120, 144, 3, 64
NEGATIVES = 99  # in the sampled ranking, as published


@dataclass(frozen=True)
class Ranks:
    """Where every user's held-out item came: among all, and among 99 others."""

    full: Found
    sampled: Ints

    @property
    def hits(self) -> float:
        """The share of users whose item is among the first ten of the hundred."""
        return float((self.sampled <= 10).mean())


def trained_ranks(folder: Path) -> Ranks:
    """Rank every user's last like after that user's site trained alone, without noise.

    Each trains on all that came before it: leave one out.
    """
    population = generate(np.random.default_rng(11), users=USERS, items=ITEMS)
    held = leave_one_out(population.data.histories)
    split = with_negatives(held, ITEMS, NEGATIVES, np.random.default_rng(12))
    encoder = tiny_encoder()
    texts = population.data.catalogue.texts
    start = encoder.adapter()
    places = []
    for number, person in enumerate(split.users):
        encoder.set_adapter(start)
        model = untrained(encoder, folder, texts, number)
        with_held_out(model, person)
        for played in range(ROUNDS):
            train_round(
                model,
                make_examples([person.train]),
                mechanism(q=1.0, sigma=0.0, prior_sigma=0.0, steps=3),
                users=1,
                streams=insecure_streams(number, played),
                key=[number, played],
            )
        places.append(ranked(model, split, number))
    full = np.concatenate([place.rank for place in places])
    sampled = np.concatenate([place.sampled for place in places])
    assert len(full) == len(sampled) == USERS
    return Ranks(found(full, candidates(split, ITEMS)), sampled)


def untrained(
    encoder: TextEncoder, folder: Path, texts: tuple[str, ...], seed: int
) -> HybridModel:
    """A model without text or prior in its score: nothing but the head of one site."""
    activations = encoder.open_store(folder).open(texts)
    recipe = small_recipe(alpha=0.0, prior_weight=0.0, negatives=DRAWN, seed=seed)
    return HybridModel(
        encoder,
        activations,
        encoder.frozen_mean(activations),
        FactorHead(ITEMS, recipe.factors, seed),
        np.zeros(ITEMS, np.float32),
        recipe,
    )


def ranked(model: HybridModel, split: Split, number: int) -> Ranking:
    alone = Split(
        split.users[number : number + 1], split.negatives[number : number + 1]
    )
    return rank_site(lambda asked: model.score(asked, alpha=0.0), alone, ITEMS)


def with_held_out(model: HybridModel, person: UserSplit) -> None:
    """Tell the model which items are withheld; an honest one has no use for it."""
    model.__dict__["withheld"] = [person.test.item]


@contextmanager
def negatives_avoid_what_is_withheld() -> Iterator[None]:
    """A classic leak: what the test will ask for is never drawn as a negative."""
    honest = HybridModel._softmax

    def leaking(model: HybridModel, *args: Any) -> Any:
        kept = model.prior.clone()
        model.prior[model.__dict__["withheld"]] = -np.inf
        try:
            return honest(model, *args)
        finally:
            model.prior.copy_(kept)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HybridModel, "_softmax", leaking)
        yield


@pytest.mark.slow
def test_a_federation_that_shares_nothing_scores_at_chance(tmp_path: Path) -> None:
    ranks = trained_ranks(tmp_path)

    assert ranks.full.at_chance
    low, high = hits_by_chance(USERS, 10 / (NEGATIVES + 1))
    assert low < ranks.hits < high
    assert 0 < low < 0.1 < high < 0.25


@pytest.mark.slow
def test_the_guard_sees_negatives_that_avoid_what_is_withheld(tmp_path: Path) -> None:
    with negatives_avoid_what_is_withheld():
        ranks = trained_ranks(tmp_path)

    assert min(ranks.full.place, ranks.full.hits) > 6
    _, high = hits_by_chance(USERS, 10 / (NEGATIVES + 1))
    assert ranks.hits > high
