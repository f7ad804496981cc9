"""Ranking as a whole: what may never happen, and what must."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.serving import pool
from client.serving.model import Ints, Mask, Served
from client.serving.pool import Index, best_of
from client.serving.rank import Prepared, Ranked, Wish, prepare, rank, similar
from client.serving.settings import Rule
from client.serving.taste import Past
from shared.errors import ConfigError
from shared.protocol import Array
from tests.client.serving.served import WIDTH, served

ITEMS = 6000
SMALL = served(200)
EVERYTHING = np.ones(200, np.bool_)
FAN = Past(items=np.array([0, 4, 9]), strengths=np.ones(3, np.float32))


@pytest.fixture(scope="module")
def large() -> Served:
    return served(ITEMS)


@pytest.fixture(scope="module")
def index(large: Served) -> Index:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "EXACT", 1000)
        made = Index.of(large)
    assert made is not None
    return made


def direction(seed: int) -> Array:
    made = np.random.default_rng(seed).normal(size=WIDTH)
    return (made / np.linalg.norm(made)).astype(np.float32)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def wishes(draw: st.DrawFn, items: int) -> Wish:
    """Anything that can be asked of a catalogue of so many items."""
    seed = draw(st.integers(0, 10_000))
    chance = rng(seed)
    liked = chance.permutation(items)[: draw(st.integers(0, 30))]
    caps = st.builds(Rule, attribute=st.just("maker"), most=st.integers(1, 4))
    boosts = st.builds(
        Rule,
        attribute=st.just("genres"),
        value=st.sampled_from(["comedy", "horror"]),
        add=st.sampled_from([-1000.0, -1.0, 3.0]),
    )
    some = chance.normal(size=items).astype(np.float32)
    return Wish(
        allowed=chance.random(items) < draw(st.sampled_from([0.0, 0.02, 0.4, 0.95])),
        past=Past(items=liked, strengths=np.ones(len(liked), np.float32)),
        query=direction(seed) if draw(st.booleans()) else None,
        leanings=some if draw(st.booleans()) else None,
        alpha=draw(st.none() | st.floats(0, 1)),
        adjustment=some if draw(st.booleans()) else None,
        rules=tuple(draw(st.lists(caps | boosts, max_size=3))),
        k=draw(st.integers(1, 60)),
        diversity=draw(st.sampled_from([0.0, 0.3, 1.0])),
        explore=draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])),
    )


def room(model: Served, wish: Wish, places: Ints) -> Mask:
    """What is allowed, not in the list, and would pass no cap: the slow version."""
    free = wish.allowed.copy()
    free[places] = False
    for rule in wish.rules:
        if rule.most:
            values = model.catalogue.attributes[rule.attribute]
            counts = Counter(value for place in places for value in values[place])
            assert max(counts.values(), default=0) <= rule.most
            full = {value for value, count in counts.items() if count >= rule.most}
            for place in np.flatnonzero(free):
                free[place] &= not full.intersection(values[place])
    return free


def assert_lawful(model: Served, wish: Wish, got: Ranked) -> None:
    assert wish.allowed[got.places].all()
    assert len(set(got.places.tolist())) == len(got.places) <= wish.k
    left = room(model, wish, got.places)
    assert len(got.places) == wish.k or not left.any()
    assert model.fresh[got.places[got.explored]].all()
    assert ((got.propensity > 0) & (got.propensity <= 1 + 1e-6)).all()
    assert np.isfinite(got.scores.total).all()


@settings(max_examples=150, deadline=None)
@given(wish=wishes(200), seed=st.integers(0, 1000))
def test_only_what_is_allowed_comes_once_each_within_caps_and_the_list_is_full(
    wish: Wish, seed: int
) -> None:
    assert_lawful(SMALL, wish, rank(SMALL, wish, rng(seed)))


@settings(max_examples=25, deadline=None)
@given(wish=wishes(ITEMS), seed=st.integers(0, 1000))
def test_the_same_holds_where_a_pool_stands_for_a_large_catalogue(
    large: Served, index: Index, wish: Wish, seed: int
) -> None:
    assert_lawful(large, wish, rank(large, wish, rng(seed), index=index))


@settings(max_examples=40, deadline=None)
@given(wish=wishes(200))
def test_without_diversity_caps_and_exploration_a_list_is_in_the_order_of_scores(
    wish: Wish,
) -> None:
    plain = replace(wish, diversity=0.0, explore=0.0)
    plain = replace(plain, rules=tuple(r for r in wish.rules if r.add))
    whole = rank(SMALL, replace(plain, allowed=EVERYTHING, k=200), rng())
    kept = plain.allowed[whole.places]

    got = rank(SMALL, plain, rng())

    np.testing.assert_allclose(
        got.scores.total, whole.scores.total[kept][: plain.k], atol=1e-5
    )
    assert (np.diff(got.scores.total) <= 0).all()


def test_who_likes_a_genre_gets_that_genre() -> None:
    fan = Past(items=np.array([1, 5]), strengths=np.ones(2, np.float32))

    got = rank(SMALL, Wish(allowed=EVERYTHING, past=fan, alpha=1.0), rng())

    assert (got.places % 4 == 1).all()


def test_a_request_brings_its_genre_to_anybody() -> None:
    query = np.eye(WIDTH, dtype=np.float32)[2]

    got = rank(SMALL, Wish(allowed=EVERYTHING, past=FAN, query=query), rng())

    assert (got.places % 4 == 2).all()


def test_nobody_gets_what_is_popular() -> None:
    got = rank(SMALL, Wish(allowed=EVERYTHING), rng())

    np.testing.assert_array_equal(got.places, np.argsort(-SMALL.prior)[:10])


def test_diversity_spreads_a_list_over_genres() -> None:
    wish = Wish(allowed=EVERYTHING, past=FAN, alpha=1.0)
    alike, spread = (
        len(set(rank(SMALL, replace(wish, diversity=d), rng()).places % 4))
        for d in (0.0, 0.7)
    )

    assert alike < spread == 4


def test_a_cap_is_filled_up_from_beyond_the_pool(large: Served, index: Index) -> None:
    """All that either list of the pool finds is comedy; three of it may come."""
    comedy = np.arange(ITEMS) % 4 == 0
    model = replace(large, prior=large.prior + 100 * comedy.astype(np.float32))
    wish = Wish(
        allowed=np.ones(ITEMS, np.bool_),
        query=np.eye(WIDTH, dtype=np.float32)[0],
        rules=(Rule(attribute="genres", value="comedy", most=3),),
    )
    pooled = prepare(model, wish, index=index).products.places
    assert pooled is not None
    assert comedy[pooled].all()

    got = rank(model, wish, rng(), index=index)

    exact = rank(model, wish, rng())
    assert comedy[got.places].sum() == 3
    assert len(got.places) == 10
    np.testing.assert_array_equal(got.places, exact.places)


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_places_go_to_fresh_items_as_often_as_was_asked(share: float) -> None:
    wish, chance = Wish(allowed=EVERYTHING, past=FAN, explore=share), rng(1)

    explored = [rank(SMALL, wish, chance).explored.mean() for _ in range(800)]

    error = np.sqrt(share * (1 - share) / 8000)
    assert np.mean(explored) == pytest.approx(share, abs=4 * error)


def test_the_told_chance_of_an_item_is_how_often_it_comes_first() -> None:
    fan = Past(items=np.array([196]), strengths=np.ones(1, np.float32))
    wish, chance = Wish(allowed=EVERYTHING, past=fan, explore=0.5, k=1), rng(2)
    first: Counter[int] = Counter()
    told: dict[int, float] = {}
    for _ in range(3000):
        got = rank(SMALL, wish, chance)
        first[int(got.places[0])] += 1
        told[int(got.places[0])] = float(got.propensity[0])

    assert len(told) > 3
    for place, chance_of_it in told.items():
        error = np.sqrt(chance_of_it / 3000)
        assert first[place] / 3000 == pytest.approx(chance_of_it, abs=4.5 * error)


def test_without_exploration_everything_was_certain() -> None:
    got = rank(SMALL, Wish(allowed=EVERYTHING, past=FAN, diversity=0.4), rng())

    assert (got.propensity == 1).all()
    assert not got.explored.any()


@pytest.mark.parametrize("alpha", [None, 0.1, 0.9])
def test_one_preparation_serves_several_alphas(alpha: float | None) -> None:
    wish = Wish(allowed=EVERYTHING, past=FAN, query=direction(3), explore=0.2)
    made = prepare(SMALL, wish)
    other = replace(wish, alpha=alpha)

    got = rank(SMALL, other, rng(5), prepared=made)

    wanted = rank(SMALL, other, rng(5))
    assert got.alpha == pytest.approx(wanted.alpha)
    np.testing.assert_array_equal(got.places, wanted.places)
    np.testing.assert_allclose(got.scores.total, wanted.scores.total, atol=1e-5)


def test_a_pool_for_several_alphas_holds_the_best_of_each(
    large: Served, index: Index
) -> None:
    everything = np.ones(ITEMS, np.bool_)
    made = prepare(
        large,
        Wish(allowed=everything, past=FAN),
        index=index,
        alphas=(0.0, 1.0),
    )
    cf = large.recipe.cf_scale * (large.factors @ made.taste.likes)

    places = made.products.places

    assert places is not None
    assert len(places) < ITEMS
    assert np.isin(best_of(large.prior, everything, 500), places).all()
    assert np.isin(best_of(cf + large.prior, everything, 500), places).all()


def test_who_liked_one_item_is_ranked_by_text_above_all() -> None:
    lone = Past(items=np.array([3]), strengths=np.ones(1, np.float32))

    got = rank(SMALL, Wish(allowed=EVERYTHING, past=lone), rng())

    assert got.alpha == pytest.approx(0.5 + 0.5 * 5 / 6)


def test_no_item_allowed_makes_an_empty_list() -> None:
    got = rank(SMALL, Wish(allowed=~EVERYTHING, past=FAN, explore=0.5), rng())

    assert len(got.places) == len(got.scores.total) == len(got.propensity) == 0


def test_a_rule_on_an_unknown_attribute_is_refused() -> None:
    wish = Wish(allowed=EVERYTHING, rules=(Rule(attribute="colour", most=1),))

    with pytest.raises(ConfigError, match="colour"):
        rank(SMALL, wish, rng())


def test_the_nearest_items_are_those_of_an_exact_scan(
    large: Served, index: Index
) -> None:
    for place in (0, 17, 4321):
        cosines = large.vectors @ large.vectors.parts[0][place]
        wanted = [n for n in np.argsort(-cosines) if n != place][:10]

        exact, quick = similar(large, place, 10), similar(large, place, 10, index)

        assert exact[0].tolist() == quick[0].tolist() == wanted
        np.testing.assert_allclose(quick[1], cosines[wanted], atol=1e-5)


def test_no_user_data_shows_in_what_is_printed() -> None:
    wish = Wish(allowed=EVERYTHING, past=FAN)
    made: list[Wish | Prepared | Ranked] = [
        wish,
        prepare(SMALL, wish),
        rank(SMALL, wish, rng()),
    ]

    assert all(repr(each).endswith("(not shown)") for each in made)
