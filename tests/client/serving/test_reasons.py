"""Reasons are faithful: take the cause away, and the score falls by its amount."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.serving.ask import Cause, Reason
from client.serving.rank import Ranked, Wish, rank
from client.serving.reasons import Named, reasons
from client.serving.settings import Rule
from client.serving.taste import Past
from shared.protocol import Array
from tests.client.serving.served import WIDTH, served

MODEL = served()
EVERYTHING = np.ones(200, np.bool_)
RULES = (
    Rule(attribute="genres", value="comedy", add=1.5),
    Rule(attribute="maker", value="maker 3", add=-0.5),
)


def ranked(wish: Wish) -> Ranked:
    return rank(MODEL, wish, np.random.default_rng(0))


def score(wish: Wish, place: int) -> float:
    """What one item scores when a wish is ranked afresh."""
    alone = replace(wish, allowed=np.arange(200) == place, k=1, explore=0.0)
    return float(ranked(alone).scores.total[0])


def field(value: float, every: int) -> Array:
    made = np.zeros(200, np.float32)
    made[::every] = value
    return made


def bereft(wish: Wish, cause: Cause, named: list[Named]) -> Wish:
    """The same wish without one cause."""
    if cause.kind == "history":
        gone = MODEL.catalogue.position(cause.name)
        kept = wish.past.items != gone
        past = replace(
            wish.past, items=wish.past.items[kept], strengths=wish.past.strengths[kept]
        )
        return replace(wish, past=past)
    if cause.kind == "rule":
        rules = [r for r in wish.rules if f"{r.attribute}: {r.value}" != cause.name]
        return replace(wish, rules=tuple(rules))
    if cause.name == "meaning":
        return replace(wish, query=None)
    (each,) = (each for each in named if each.name == cause.name)
    assert not isinstance(each.amount, float)
    if cause.kind == "interest":
        assert wish.adjustment is not None
        return replace(wish, adjustment=wish.adjustment - each.amount)
    assert wish.leanings is not None
    return replace(wish, leanings=wish.leanings - each.amount)


@settings(max_examples=25, deadline=None)
@given(
    liked=st.lists(st.integers(0, 199), unique=True, max_size=60),
    strength=st.sampled_from([0.25, 1.0, 1.5]),
    against=st.lists(st.integers(0, 199), unique=True, max_size=3),
    alpha=st.none() | st.floats(0, 1),
    asked=st.booleans(),
)
def test_without_a_cause_the_score_is_lower_by_the_amount_that_was_told(
    liked: list[int],
    strength: float,
    against: list[int],
    alpha: float | None,
    *,
    asked: bool,
) -> None:
    items = np.array(liked, np.int64)
    pinned = Named(kind="interest", name="pin", text="space", amount=field(2, 3))
    muted = Named(kind="interest", name="mute", text="war", amount=field(-1, 2))
    newer = Named(kind="term", name="newer", text="newer", amount=field(0.7, 5))
    named = [pinned, muted, newer]
    wish = Wish(
        allowed=EVERYTHING,
        past=Past(
            items=items,
            strengths=np.full(len(items), strength, np.float32),
            against=np.array(against, np.int64),
        ),
        alpha=alpha,
        query=np.full(WIDTH, 0.25, np.float32) if asked else None,
        leanings=field(0.7, 5),
        adjustment=field(2, 3) + field(-1, 2),
        rules=RULES,
        k=6,
        explore=0.3,
    )
    list_ = ranked(wish)

    told = reasons(MODEL, wish, list_, named)

    assert len(told) == len(list_.places)
    for place, reason in zip(list_.places.tolist(), told, strict=True):
        for cause in reason.causes:
            fall = score(wish, place) - score(bereft(wish, cause, named), place)
            assert cause.amount == pytest.approx(fall, abs=1e-4)


def test_the_three_nearest_items_of_the_history_are_named() -> None:
    items = np.array([1, 5, 9, 2, 3])
    wish = Wish(
        allowed=np.arange(200) == 13,
        past=Past(items=items, strengths=np.ones(5, np.float32)),
    )

    (reason,) = reasons(MODEL, wish, ranked(wish))

    history = [cause.name for cause in reason.causes if cause.kind == "history"]
    assert sorted(history) == ["item-1", "item-5", "item-9"]


def reason_of(place: int, wish: Wish, *named: Named) -> Reason:
    only = replace(wish, allowed=np.arange(200) == place)
    (reason,) = reasons(MODEL, only, ranked(only), named)
    return reason


def test_a_sentence_names_what_raises_the_score_and_nothing_that_lowers_it() -> None:
    past = Past(items=np.array([5, 2]), strengths=np.array([1, 0.5], np.float32))
    adjustment = field(-3, 1)
    muted = Named(kind="interest", name="mute", text="war", amount=adjustment)
    term = Named(
        kind="term", name="genres", text="horror", holds=np.arange(200) % 4 == 1
    )
    rule = Rule(attribute="genres", value="horror", add=1.0)
    wish = Wish(allowed=EVERYTHING, past=past, adjustment=adjustment, rules=(rule,))

    sentence = reason_of(9, wish, muted, term).sentence

    assert sentence.startswith("Because you liked Title 5;")
    assert "Title 2" not in sentence
    assert "matches 'horror'" in sentence
    assert "favoured by this site" in sentence
    assert "war" not in sentence
    assert sentence.endswith(".")


def test_looking_at_an_item_is_not_called_liking_it() -> None:
    past = Past(items=np.array([5]), strengths=np.array([0.25], np.float32))

    sentence = reason_of(9, Wish(allowed=EVERYTHING, past=past)).sentence

    assert sentence.startswith("Because you looked at Title 5")
    assert "liked" not in sentence


def test_a_term_that_does_not_hold_of_an_item_is_no_cause() -> None:
    term = Named(
        kind="term", name="genres", text="horror", holds=np.arange(200) % 4 == 1
    )

    assert reason_of(2, Wish(allowed=EVERYTHING), term).causes == ()


def test_what_is_popular_is_called_so_and_nothing_else_is() -> None:
    order = np.argsort(-MODEL.prior)

    assert "Popular here" in reason_of(int(order[0]), Wish(allowed=EVERYTHING)).sentence
    assert "opular" not in reason_of(int(order[60]), Wish(allowed=EVERYTHING)).sentence


def test_an_explored_item_is_told_to_be_one() -> None:
    wish = Wish(allowed=MODEL.fresh, explore=1.0, k=1)

    (reason,) = reasons(MODEL, wish, ranked(wish))

    assert "new here, and shown to learn" in reason.sentence.lower()


def test_an_empty_list_needs_no_reasons() -> None:
    wish = Wish(allowed=~EVERYTHING)

    assert reasons(MODEL, wish, ranked(wish)) == ()
