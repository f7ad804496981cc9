from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.serving.language.constraints import MOST, direction, hard, leanings
from client.serving.understood import Leaning, Range, Term, Understood
from shared.errors import ConfigError
from tests.client.serving.language.spoken import GENRES, ITEMS, KINDS, served

MODEL = served()
RNG = np.random.default_rng(8)
WORDS = RNG.normal(size=(1, MODEL.width)).astype(np.float32)


def vectors(texts: object) -> np.ndarray:
    """The same direction whatever the words are."""
    del texts
    return WORDS / np.linalg.norm(WORDS)


def term(attribute: str, value: str) -> Term:
    return Term(attribute=attribute, value=value, words=value)


def said(**parts: object) -> Understood:
    return Understood(language="en", **parts)  # type: ignore[arg-type]


@given(
    wanted=st.sets(st.sampled_from(GENRES), max_size=2),
    kinds=st.sets(st.sampled_from(KINDS), max_size=1),
    unwanted=st.sets(st.sampled_from(GENRES), max_size=2),
    low=st.none() | st.integers(1920, 2000),
    unlike=st.sets(st.integers(0, ITEMS - 1), max_size=2),
)
def test_the_mask_is_any_within_an_attribute_and_all_across(
    wanted: set[str],
    kinds: set[str],
    unwanted: set[str],
    low: int | None,
    unlike: set[int],
) -> None:
    ranges = (Range(attribute="decade", low=low, high=None, words=""),)
    asked = said(
        wanted=tuple(
            [term("genres", v) for v in wanted] + [term("domain", v) for v in kinds]
        ),
        unwanted=tuple(term("genres", v) for v in unwanted),
        ranges=ranges if low is not None else (),
        unlike=tuple(f"item-{n}" for n in unlike),
    )

    mask = hard(asked, MODEL)

    of = MODEL.catalogue.attributes
    for n in range(ITEMS):
        has = set(of["genres"][n])
        holds = (not wanted or bool(wanted & has)) and not (unwanted & has)
        holds &= not kinds or bool(kinds & set(of["domain"][n]))
        holds &= low is None or int(of["decade"][n][0][:4]) + 9 >= low
        assert mask[n] == (holds and n not in unlike)


def test_what_cannot_be_is_empty_and_not_relaxed() -> None:
    both = (term("genres", "Comedy"),)

    assert not hard(said(wanted=both, unwanted=both), MODEL).any()


def test_what_others_should_resemble_is_no_answer() -> None:
    assert not hard(said(like=("item-3",)), MODEL)[3]


def test_an_attribute_that_is_gone_is_refused() -> None:
    with pytest.raises(ConfigError, match="genres"):
        hard(said(wanted=(term("colour", "red"),)), MODEL)


@given(
    toward=st.sampled_from(["decade", "price", "popularity", "meaning"]),
    weight=st.floats(-1, 1),
)
def test_a_wish_stays_within_its_bound(toward: str, weight: float) -> None:
    wish = Leaning(toward=toward, words="violent", weight=weight)

    bonus = leanings(said(leanings=(wish,)), MODEL, vectors)

    assert bonus.dtype == np.float32
    assert np.abs(bonus).max() <= MOST * abs(weight) + 1e-6


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_newer_orders_by_the_number(weight: float) -> None:
    wish = Leaning(toward="decade", words="newer", weight=weight)

    bonus = leanings(said(leanings=(wish,)), MODEL, vectors)

    decades = np.array([int(v[0][:4]) for v in MODEL.catalogue.attributes["decade"]])
    order = np.argsort(bonus, kind="stable")
    assert (np.diff(decades[order]) * weight >= 0).all()
    assert len(np.unique(bonus)) == len(np.unique(decades))


def test_less_of_something_lowers_what_is_most_like_it() -> None:
    wish = Leaning(toward="meaning", words="violent", weight=-1.0)

    bonus = leanings(said(leanings=(wish,)), MODEL, vectors)

    cosines = MODEL.vectors @ vectors(None)[0]
    assert int(bonus.argmin()) == int(cosines.argmax())


def test_popularity_of_which_nothing_was_released_orders_nothing() -> None:
    wish = Leaning(toward="popularity", words="famous", weight=1.0)
    unknown = replace(MODEL, prior=np.zeros(ITEMS, np.float32))

    assert not leanings(said(leanings=(wish,)), unknown, vectors).any()


def test_an_item_with_all_values_that_would_do_comes_before_those_with_one() -> None:
    both = said(wanted=(term("genres", "Comedy"), term("genres", "Horror")))

    bonus = leanings(both, MODEL, vectors)

    assert bonus[0] == MOST  # Comedy and Horror
    assert bonus[1] == 0  # Horror and Sci-Fi


def test_a_direction_is_that_of_meaning_and_likeness() -> None:
    assert direction(said(), None, MODEL) is None
    alone = direction(said(like=("item-4",)), None, MODEL)
    both = direction(said(like=("item-4",)), vectors(None)[0], MODEL)

    assert alone is not None
    assert both is not None
    assert int((MODEL.vectors @ alone).argmax()) == 4
    assert np.isclose(np.linalg.norm(both), 1, atol=1e-5)
    assert both @ vectors(None)[0] > 0 < both @ alone


def test_likeness_to_an_item_that_is_gone_points_nowhere() -> None:
    assert direction(said(like=("gone",)), None, MODEL) is None
