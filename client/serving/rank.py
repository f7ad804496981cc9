"""Ranks a catalogue for one user: the best items that may be shown, and how they came.

It refuses nothing that is asked, and never shows what the mask of a wish leaves out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from client.serving.filling import Filling, Scored
from client.serving.model import Ints, Mask, Served
from client.serving.pool import Index, best_of, pool_of
from client.serving.rules import rule_scores
from client.serving.score import (
    Extra,
    Products,
    Scores,
    blend,
    products_of,
    text_shares,
)
from client.serving.settings import Rule
from client.serving.taste import NOBODY, Past, Taste, taste_of
from shared.protocol import Array

FRESH = 32  # items of each list of a large catalogue that are added to explore among


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Wish:
    """What is to be ranked for whom; n is the catalogue's length.

    Attributes:
        allowed: Which items may be shown at all, [n]; see client/serving/allowed.py.
        past: Of the user.
        query: Centred unit vector of a request, [width]; None without one.
        leanings: What a request adds by degree, [n]; None for nothing.
        alpha: Weight of text against CF; None for the history's own.
        adjustment: What interests and declared attributes add, [n]; None for nothing.
        rules: Of the site.
        k: Number of places.
        diversity: From 0 (by score alone) to 1.
        explore: Chance that a place is given to a fresh item whatever its score.
    """

    allowed: Mask
    past: Past = NOBODY
    query: Array | None = None
    leanings: Array | None = None
    alpha: float | None = None
    adjustment: Array | None = None
    rules: tuple[Rule, ...] = ()
    k: int = 10
    diversity: float = 0.0
    explore: float = 0.0

    def __repr__(self) -> str:
        return "Wish(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Ranked:
    """A list of m <= k items, best first.

    Attributes:
        places: Of the items, [m].
        scores: Of the items.
        explored: Which took a place that was kept for fresh items, [m].
        propensity: Chance of each item at its place, given those before it, [m]; in
            this ranking alone: where two are interleaved, the coins of the draft are
            no part of it.
        alpha: Weight of text against CF that was used.
    """

    places: Ints
    scores: Scores
    explored: Mask
    propensity: Array
    alpha: float

    def __repr__(self) -> str:
        return "Ranked(not shown)"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prepared:
    """What rankings of one wish share, whatever their alpha and exploration.

    Attributes:
        taste: Of the user; its alpha is what the wish or the history asks for.
        products: Over the items that may come.
        extra: What is added to all items, [n].
    """

    taste: Taste
    products: Products
    extra: Extra

    def __repr__(self) -> str:
        return "Prepared(not shown)"


def prepare(
    model: Served,
    wish: Wish,
    *,
    index: Index | None = None,
    alphas: tuple[float, ...] = (),
) -> Prepared:
    """Return the costly half of ranking a wish, once for several alphas.

    Args:
        model: What is served.
        wish: Its k, diversity and alpha may change afterwards.
        index: Of the model, where its catalogue is large.
        alphas: That rankings will ask for beside the wish's own.

    Raises:
        ConfigError: If a rule is on an attribute that the catalogue lacks.
    """
    taste = taste_of(model, wish.past, wish.alpha)
    extra = Extra(
        leanings=wish.leanings,
        interests=wish.adjustment,
        rules=rule_scores(model, wish.rules) if wish.rules else None,
    )
    places = None
    if index is not None and (taste.text.any() or wish.query is not None):
        pools = [
            _pool(model, wish, taste, extra, index, alpha)
            for alpha in dict.fromkeys((taste.alpha, *alphas))
        ]
        places = np.unique(np.concatenate(pools))
    return Prepared(taste, products_of(model, taste, wish.query, places), extra)


def rank(
    model: Served,
    wish: Wish,
    rng: np.random.Generator,
    *,
    index: Index | None = None,
    prepared: Prepared | None = None,
) -> Ranked:
    """Return the list for a wish.

    Guarantee: every item in it is allowed, none comes twice, no cap is passed, and it
    holds k items if the caps leave as many.

    Args:
        model: What is served.
        wish: What is asked for.
        rng: Decides exploration.
        index: Of the model, where its catalogue is large.
        prepared: From ``prepare`` of the same wish; made here otherwise.
    """
    made = prepare(model, wish, index=index) if prepared is None else prepared
    alpha = made.taste.alpha if wish.alpha is None else wish.alpha
    scored = _scored(model, wish, made, alpha)
    filling = Filling(
        model,
        wish.allowed,
        scored,
        rules=wish.rules,
        diversity=wish.diversity,
        explore=wish.explore,
    )
    rows = filling.rows(wish.k, rng)
    places = np.array([row.place for row in rows], np.int64)
    return Ranked(
        places=places,
        scores=filling.scores(places),
        explored=np.array([row.explored for row in rows], np.bool_),
        propensity=np.array([row.propensity for row in rows], np.float32),
        alpha=alpha,
    )


def similar(
    model: Served, place: int, k: int, index: Index | None = None
) -> tuple[Ints, Array]:
    """Return the k items whose texts are nearest to an item's, and their cosines."""
    vector = model.vectors.rows(np.array([place]))[0]
    others = np.ones(len(model), np.bool_)
    others[place] = False
    if index is None:
        cosines = model.vectors @ vector
        best = best_of(cosines, others, k)
        return best, cosines[best]
    rest = np.zeros(len(model), np.float32)
    places = pool_of(model, index, vector, rest, others)
    cosines = model.vectors.rows(places) @ vector
    best = best_of(cosines, np.ones(len(places), np.bool_), k)
    return places[best], cosines[best]


def _scored(
    model: Served, wish: Wish, made: Prepared, alpha: float
) -> Iterator[Scored]:
    """Yield the pool with its scores, then, if it was not, the whole catalogue."""
    places = made.products.places
    yield Scored(places, blend(made.products, alpha, made.extra.at(places)))
    if places is not None:
        products = products_of(model, made.taste, wish.query)
        yield Scored(None, blend(products, alpha, made.extra))


def _pool(
    model: Served, wish: Wish, taste: Taste, extra: Extra, index: Index, alpha: float
) -> Ints:
    """Return the places of a large catalogue that are worth an exact score."""
    recipe = model.recipe
    known, asked = bool(taste.text.any()), wish.query is not None
    mine, theirs = text_shares(alpha, known=known, asked=asked)
    direction = mine * taste.text
    if wish.query is not None:
        direction = direction + theirs * wish.query
    likes = taste.likes * np.float32((1 - alpha) * recipe.cf_scale)
    rest = model.factors @ likes + model.prior
    for added in (extra.leanings, extra.interests, extra.rules):
        if added is not None:
            rest += added
    towards = (
        (direction * recipe.temperature).astype(np.float32) if direction.any() else None
    )
    found = pool_of(model, index, towards, rest, wish.allowed)
    if wish.explore and np.count_nonzero(model.fresh[found]) < FRESH:
        fresh = wish.allowed & model.fresh
        more = pool_of(model, index, towards, rest, fresh, depth=FRESH)
        found = np.concatenate([found, more])
    return found
