"""The score in parts: they add up, and each weighs what it is documented to weigh."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.serving.score import QUERY, Extra, Scores, blend, products_of
from client.serving.taste import NOBODY, Past, taste_of
from shared.protocol import Array
from tests.client.serving.served import served

MODEL = served()
PARTS = ("text", "query", "cf", "prior", "interests", "rules")
FAN = Past(items=np.array([0, 4, 9]), strengths=np.ones(3, np.float32))


def direction(seed: int) -> Array:
    made = np.random.default_rng(seed).normal(size=MODEL.width)
    return (made / np.linalg.norm(made)).astype(np.float32)


def extra(seed: int) -> Extra:
    made = np.random.default_rng(seed).normal(size=(3, len(MODEL))).astype(np.float32)
    return Extra(leanings=made[0], interests=made[1], rules=made[2])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    alpha=st.floats(0, 1),
    known=st.booleans(),
    asked=st.booleans(),
    added=st.booleans(),
)
def test_the_parts_add_up_to_the_total(
    seed: int, alpha: float, *, known: bool, asked: bool, added: bool
) -> None:
    taste = taste_of(MODEL, FAN if known else NOBODY)
    made = products_of(MODEL, taste, direction(seed) if asked else None)

    scores = blend(made, alpha, extra(seed) if added else Extra())

    total = np.zeros(len(MODEL), np.float32)
    for name in PARTS:
        total += getattr(scores, name)
    np.testing.assert_array_equal(scores.total, total)


@settings(max_examples=20, deadline=None)
@given(places=st.lists(st.integers(0, len(MODEL) - 1), unique=True, max_size=30))
def test_the_scores_of_some_items_are_those_they_have_among_all(
    places: list[int],
) -> None:
    where, taste = np.array(places, np.int64), taste_of(MODEL, FAN)
    asked, added = direction(1), extra(1)
    whole = blend(products_of(MODEL, taste, asked), 0.4, added)

    some = blend(products_of(MODEL, taste, asked, where), 0.4, added.at(where))

    for name in Scores.__slots__:
        np.testing.assert_allclose(
            getattr(some, name), getattr(whole.at(where), name), atol=1e-5
        )


def test_the_same_products_serve_every_alpha() -> None:
    taste = taste_of(MODEL, FAN)
    made, scale = products_of(MODEL, taste, None), MODEL.recipe.temperature
    text = scale * (MODEL.vectors @ taste.text)
    cf = MODEL.recipe.cf_scale * (MODEL.factors @ taste.likes)

    for alpha in (0.0, 0.3, 1.0):
        wanted = alpha * text + (1 - alpha) * cf + MODEL.prior

        np.testing.assert_allclose(blend(made, alpha, Extra()).total, wanted, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_request_counts_whatever_alpha_is(alpha: float) -> None:
    asked, scale = direction(5), MODEL.recipe.temperature
    cosines = MODEL.vectors @ asked

    beside = blend(products_of(MODEL, taste_of(MODEL, FAN), asked), alpha, Extra())
    alone = blend(products_of(MODEL, taste_of(MODEL, NOBODY), asked), alpha, Extra())

    np.testing.assert_allclose(beside.query, QUERY * scale * cosines, atol=1e-4)
    np.testing.assert_allclose(alone.query, scale * cosines, atol=1e-4)


def test_leanings_are_part_of_what_was_asked() -> None:
    added = extra(2)
    made = products_of(MODEL, taste_of(MODEL, NOBODY), None)

    scores = blend(made, 1.0, Extra(leanings=added.leanings))

    assert added.leanings is not None
    np.testing.assert_array_equal(scores.query, added.leanings)
