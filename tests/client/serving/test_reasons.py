"""Reasons are faithful: take the cause away, and the score falls by its amount."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.serving.ask import Cause, Reason
from client.serving.model import Blocks, Served
from client.serving.rank import Ranked, Wish, rank
from client.serving.reasons import GROUPS, Named, reasons
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
    strengths = np.array([1, 1, 1, 1, 0.5], np.float32)
    past = Past(items=np.array([5, 13, 17, 21, 2]), strengths=strengths)
    adjustment = field(-3, 1)
    muted = Named(kind="interest", name="mute", text="war", amount=adjustment)
    term = Named(
        kind="term", name="genres", text="horror", holds=np.arange(200) % 4 == 1
    )
    rule = Rule(attribute="genres", value="horror", add=1.0)
    wish = Wish(allowed=EVERYTHING, past=past, adjustment=adjustment, rules=(rule,))

    sentence = reason_of(9, wish, muted, term).sentence

    assert sentence.startswith("Because you liked Title ")
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


FAN = Past(items=np.array([5, 1, 9]), strengths=np.ones(3, np.float32))


def sentence_of(model: Served, place: int, wish: Wish, *named: Named) -> str:
    only = replace(wish, allowed=np.arange(len(model)) == place)
    list_ = rank(model, only, np.random.default_rng(0))
    (reason,) = reasons(model, only, list_, named)
    return reason.sentence


def headed(factor: float, bias: float) -> Served:
    """A model whose head knows one factor, the same for all items, and a bias."""
    factors = np.zeros_like(MODEL.factors.parts[0])
    factors[:, 0], factors[:, -1] = factor, bias
    return replace(MODEL, factors=Blocks((factors,)))


def titled(text: str) -> Served:
    """A model whose item 5 has another text."""
    texts = list(MODEL.catalogue.texts)
    texts[5] = text
    return replace(MODEL, catalogue=replace(MODEL.catalogue, texts=tuple(texts)))


def test_an_item_that_everybody_chooses_is_not_told_to_be_chosen_by_taste() -> None:
    wish, told = Wish(allowed=EVERYTHING, past=FAN), "people with your taste choose it"

    assert told not in sentence_of(headed(0, 1), 13, wish)
    assert told in sentence_of(headed(1, 0), 13, wish)
    assert told in sentence_of(headed(1, -5), 13, wish)


def test_a_sentence_names_two_items_of_the_history_at_most() -> None:
    reason = reason_of(13, Wish(allowed=EVERYTHING, past=FAN))

    assert sum(cause.kind == "history" for cause in reason.causes) == 3
    assert sum(f"Title {n}" in reason.sentence for n in (1, 5, 9)) == 2


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("Mrs. Doubtfire (1993). Comedy", "Mrs. Doubtfire (1993)"),
        ("Dr. Strangelove. War, comedy", "Dr. Strangelove"),
        ("E.T. the Extra-Terrestrial (1982). Family", "E.T. the Extra-Terrestrial"),
        ("Toy Story (1995). Animation", "Toy Story (1995)"),
        ("Title of no more than this", "Title of no more than this"),
        ("It", "It"),
    ],
)
def test_an_item_is_named_by_the_whole_of_its_title(text: str, title: str) -> None:
    lone = Past(items=np.array([5]), strengths=np.ones(1, np.float32))

    sentence = sentence_of(titled(text), 9, Wish(allowed=EVERYTHING, past=lone))

    assert sentence.startswith(f"Because you liked {title}")
    assert text not in sentence or text == title


def test_a_long_title_is_cut() -> None:
    lone = Past(items=np.array([5]), strengths=np.ones(1, np.float32))
    wish = Wish(allowed=EVERYTHING, past=lone)

    sentence = sentence_of(titled("long " * 40), 9, wish).partition(";")[0]

    assert sentence.rstrip(".").endswith("…")
    assert len(sentence.removeprefix("Because you liked ").rstrip(".")) <= 48


def test_what_a_group_likes_is_not_called_an_interest_of_the_user() -> None:
    groups = Named(kind="interest", name=GROUPS, text="any", amount=field(1, 1))
    wish = Wish(allowed=EVERYTHING, adjustment=field(1, 1))

    sentence = reason_of(9, wish, groups).sentence

    assert "people like you enjoy it" in sentence.lower()
    assert "interest" not in sentence
