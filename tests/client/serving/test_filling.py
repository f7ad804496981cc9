"""A list is filled from what was scored first, then from what comes after it."""

from collections.abc import Iterator

import numpy as np

from client.serving.filling import Filling, Scored
from client.serving.model import Ints
from client.serving.score import Scores
from client.serving.settings import Rule
from tests.client.serving.served import served

MODEL = served()
EVERYTHING = np.ones(200, np.bool_)
ZEROS = np.zeros(200, np.float32)
TOTAL = np.random.default_rng(0).normal(size=200).astype(np.float32)
SCORES = Scores(
    text=TOTAL,
    query=ZEROS,
    cf=ZEROS,
    prior=ZEROS,
    interests=ZEROS,
    rules=ZEROS,
    total=TOTAL,
)
BEST = np.argsort(-TOTAL)
RNG = np.random.default_rng(1)


def first(places: Ints) -> Iterator[Scored]:
    """Some items first, then all."""
    yield Scored(places, SCORES.at(places))
    yield Scored(None, SCORES)


def test_the_first_items_come_by_score_and_then_all_others() -> None:
    some = np.arange(0, 200, 20)
    filling = Filling(MODEL, EVERYTHING, first(some))

    places = np.array([row.place for row in filling.rows(200, RNG)])

    np.testing.assert_array_equal(places[:10], BEST[np.isin(BEST, some)])
    np.testing.assert_array_equal(places[10:], BEST[~np.isin(BEST, some)])
    np.testing.assert_array_equal(filling.scores(places).total, TOTAL[places])


def test_it_ends_when_caps_leave_nothing() -> None:
    rule = Rule(attribute="genres", most=2)
    filling = Filling(MODEL, EVERYTHING, first(BEST[:5]), rules=(rule,))

    places = [row.place for row in filling.rows(200, RNG)]

    assert sorted(place % 4 for place in places) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_what_may_be_shown_stays_as_it_was_given() -> None:
    allowed = EVERYTHING.copy()

    Filling(MODEL, allowed, first(BEST[:5])).rows(3, RNG)

    assert allowed.all()


def test_no_row_shows_in_what_is_printed() -> None:
    [row] = Filling(MODEL, EVERYTHING, first(BEST[:5])).rows(1, RNG)

    assert repr(row) == "Row(not shown)"
