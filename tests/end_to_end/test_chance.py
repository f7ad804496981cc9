"""What is not shared cannot be known: the guard against leaks of held-out items.

Every user is a site alone: no other user's likes, no text, no popularity. Such a site
knows nothing of what its user will do next, so held-out items must come out at chance;
anything better has seen them. That the guard can fail is tested beside it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from client.examples import make_examples
from client.head import FactorHead
from client.model import HybridModel
from client.noise import insecure_streams
from client.train import train_round
from shared.metrics import hit, ranks
from simulations.population import generate
from simulations.split import UserSplit, leave_two_out
from tests.factories import mechanism, small_recipe, tiny_encoder

USERS, ITEMS, ROUNDS, NEGATIVES = 120, 72, 3, 32
CUT = 10
TOLERANCE = 4.0  # standard deviations of a mean over users; 1 in 16,000 by chance

Floats = npt.NDArray[np.float64]


def trained_ranks(folder: Path) -> tuple[Floats, Floats]:
    """Rank every user's last like after that user's site trained alone, without noise.

    Returns [users] ranks and [users] numbers of candidates.
    """
    population = generate(np.random.default_rng(11), users=USERS, items=ITEMS)
    people = leave_two_out(population.data.histories).users
    encoder = tiny_encoder()
    activations = encoder.open_store(folder).open(population.data.catalogue.texts)
    centre, start = encoder.frozen_mean(activations), encoder.adapter()
    places = []
    for number, person in enumerate(people):
        recipe = small_recipe(
            alpha=0.0, prior_weight=0.0, negatives=NEGATIVES, seed=number
        )
        head = FactorHead(ITEMS, recipe.factors, recipe.seed)
        prior = np.zeros(ITEMS, np.float32)
        encoder.set_adapter(start)
        model = HybridModel(encoder, activations, centre, head, prior, recipe)
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
        places.append(rank_of(model, person))
    candidates = [ITEMS - len(person.test.seen) for person in people]
    return np.array(places, np.float64), np.array(candidates, np.float64)


def rank_of(model: HybridModel, person: UserSplit) -> int:
    likes = person.test.before.items[person.test.before.likes][::-1]
    scores = model.score([likes], alpha=0.0)
    return int(ranks(scores, np.array([person.test.item]), [person.test.seen])[0])


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


def deviations(value: Floats, expected: Floats | float, variance: Floats) -> float:
    """How many standard deviations the mean over users lies above chance."""
    return float((value - expected).sum() / np.sqrt(variance.sum()))


def mean_place(rank: Floats, among: Floats) -> float:
    """Deviation of the mean percentile: 0 last, 1 first, 1/2 by chance."""
    percentile = (among - rank) / (among - 1)
    return deviations(percentile, 0.5, (among + 1) / (among - 1) / 12)


def hits(rank: Floats, among: Floats) -> float:
    """Deviation of the hit rate: by chance the cut's share of the candidates."""
    chance = CUT / among
    return deviations(hit(rank.astype(np.int64), CUT), chance, chance * (1 - chance))


@pytest.mark.slow
def test_a_federation_that_shares_nothing_scores_at_chance(tmp_path: Path) -> None:
    rank, among = trained_ranks(tmp_path)

    assert len(rank) == USERS
    assert abs(mean_place(rank, among)) < TOLERANCE
    assert abs(hits(rank, among)) < TOLERANCE


@pytest.mark.slow
def test_the_guard_sees_negatives_that_avoid_what_is_withheld(tmp_path: Path) -> None:
    with negatives_avoid_what_is_withheld():
        rank, among = trained_ranks(tmp_path)

    assert mean_place(rank, among) > 1.5 * TOLERANCE
    assert hits(rank, among) > 1.5 * TOLERANCE
