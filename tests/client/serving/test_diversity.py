"""Maximal marginal relevance against the slow and obvious version."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.serving.diversity import Spread, spread
from client.serving.model import Ints
from shared.protocol import Array
from tests.client.serving.served import served

MODEL = served(60)
VECTORS = MODEL.vectors.parts[0]


def slow_order(totals: Array, diversity: float, count: int) -> list[int]:
    """The formula of Carbonell and Goldstein, read aloud."""
    taken: list[int] = []
    while len(taken) < count:
        worth = {
            n: (1 - diversity) * totals[n] / MODEL.recipe.temperature
            - diversity * max((VECTORS[n] @ VECTORS[m] for m in taken), default=0.0)
            for n in range(len(MODEL))
            if n not in taken
        }
        taken.append(max(worth, key=lambda n: (worth[n], totals[n])))
    return taken


def order(places: Ints, totals: Array, diversity: float, count: int) -> list[int]:
    picking, free = Spread(MODEL, diversity), np.ones(len(places), np.bool_)
    picking.over(places, totals)
    taken = []
    for _ in range(count):
        best = picking.best(free)
        free[best] = False
        picking.take(int(places[best]))
        taken.append(int(places[best]))
    return taken


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), diversity=st.floats(0.01, 1))
def test_items_are_picked_as_the_formula_says(seed: int, diversity: float) -> None:
    totals = np.random.default_rng(seed).normal(0, 3, 60).astype(np.float32)
    best_first = np.argsort(-totals)

    got = order(best_first, totals[best_first], diversity, 8)

    assert got == slow_order(totals, diversity, 8)


def test_picking_goes_on_over_other_items_with_those_taken_in_mind() -> None:
    """Items 0 and 1 are of two genres; 4 and 5 are too, 6 is of neither."""
    picking = Spread(MODEL, 0.5)
    picking.over(np.array([0, 1]), np.ones(2, np.float32))
    for place in (0, 1):
        picking.take(place)

    picking.over(np.array([4, 5, 6]), np.ones(3, np.float32))

    assert picking.best(np.ones(3, np.bool_)) == 2


def test_spread_is_the_mean_distance_of_pairs() -> None:
    places = np.array([3, 14, 15, 9])
    pairs = [(a, b) for a in places for b in places if a < b]
    wanted = np.mean([1 - VECTORS[a] @ VECTORS[b] for a, b in pairs])

    assert spread(MODEL, places) == pytest.approx(wanted, abs=1e-5)


def test_fewer_than_two_items_have_no_spread() -> None:
    assert spread(MODEL, np.array([3])) == 0.0
    assert spread(MODEL, np.zeros(0, np.int64)) == 0.0
