import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.serving.language.bounds import bounds, moved
from client.serving.language.chinese import CHINESE
from client.serving.language.english import ENGLISH
from client.serving.language.grammar import Grammar
from client.serving.language.names import Names
from client.serving.understood import Range
from shared.catalogue import Catalogue
from tests.client.serving.language.spoken import catalogue

NAMES = Names(catalogue())
End = float | None


def read(text: str, grammar: Grammar = ENGLISH) -> list[tuple[str, End, End]]:
    made = [bound.range() for bound in bounds(text, grammar.bounds, NAMES)]
    return [(each.attribute, each.low, each.high) for each in made]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("from the nineties", 1990, 1999),
        ("90s", 1990, 1999),
        ("the '80s", 1980, 1989),
        ("in the 1930's", 1930, 1939),
        ("the late 80s", 1986, 1989),
        ("the early nineties", 1990, 1993),
        ("before 1990", None, 1989),
        ("made before the sixties", None, 1959),
        ("pre-1960", None, 1959),
        ("older than 1980", None, 1979),
        ("up to 1970", None, 1970),
        ("until the seventies", None, 1979),
        ("no later than 1970", None, 1970),
        ("after 1990", 1991, None),
        ("after the eighties", 1990, None),
        ("since 1990", 1990, None),
        ("from 1990 on", 1990, None),
        ("1990 or later", 1990, None),
        ("1960 or earlier", None, 1960),
        ("between 1990 and 1995", 1990, 1995),
        ("from 1990 to 1995", 1990, 1995),
        ("1990-1995", 1990, 1995),
        ("the 1930s or 1940s", 1930, 1949),
        ("around 1950", 1948, 1952),
        ("of 1994", 1994, 1994),
        ("20th century", 1900, 1999),
        ("the noughties", 2000, 2009),
    ],
)
def test_years_in_english(text: str, low: End, high: End) -> None:
    assert read(f"films {text} please") == [("decade", low, high)]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("at most 20 dollars", None, 20),
        ("up to $20", None, 20),
        ("20 euros or less", None, 20),
        ("at least 20 bucks", 20, None),
        ("over 20", math.nextafter(20, 30), None),
        ("under 20 dollars", None, math.nextafter(20, 0)),
        ("cheaper than 20", None, math.nextafter(20, 0)),
        ("between 10 and 20 pounds", 10, 20),
        ("from $10 to $20", 10, 20),
        ("around 20 dollars", 16, 24),
        ("not more than twenty dollars", None, 20),
        ("19,99 euros or less", None, 19.99),
        ("max 20", None, 20),
    ],
)
def test_prices_in_english(text: str, low: End, high: End) -> None:
    assert read(f"a drill {text}") == [("price", low, high)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("90年代的电影", [("decade", 1990, 1999)]),
        ("九十年代", [("decade", 1990, 1999)]),
        ("上世纪八十年代末的", [("decade", 1986, 1989)]),
        ("1990年以前的电影", [("decade", None, 1989)]),
        ("1990年之后", [("decade", 1991, None)]),
        ("1990年以来", [("decade", 1990, None)]),
        ("1990年到1995年", [("decade", 1990, 1995)]),
        ("1994年的电影", [("decade", 1994, 1994)]),
        ("20元以下", [("price", None, 20)]),
        ("不超过五十块", [("price", None, 50)]),
        ("100元以上", [("price", 100, None)]),
        ("20到50元", [("price", 20, 50)]),
    ],
)
def test_bounds_in_chinese(text: str, found: list[tuple[str, End, End]]) -> None:
    assert read(text, CHINESE) == found


@pytest.mark.parametrize(
    "text",
    ["set in the 1960s", "3M tools", "room 1408a", "a story set during the thirties"],
)
def test_what_an_item_tells_of_is_no_bound(text: str) -> None:
    assert read(text) == []


def test_a_bound_on_what_the_catalogue_lacks_stays_words() -> None:
    bare = Names(Catalogue(ids=("a",), texts=("x",), attributes={"genres": (("y",),)}))

    assert bounds("before 1990, under 20 dollars", ENGLISH.bounds, bare) == []


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("before 1990", 1990, None),
        ("after 1990", None, 1990),
        ("since 1990", None, 1989),
        ("until 1990", 1991, None),
    ],
)
def test_a_refused_bound_is_its_other_side(text: str, low: End, high: End) -> None:
    (bound,) = bounds(text, ENGLISH.bounds, NAMES)
    other = bound.flipped()

    assert other is not None
    assert (other.range().low, other.range().high) == (low, high)


def test_a_refused_piece_of_the_middle_has_no_other_side() -> None:
    (bound,) = bounds("from the fifties", ENGLISH.bounds, NAMES)

    assert bound.flipped() is None


@given(
    low=st.integers(1930, 1999), length=st.integers(0, 60), way=st.sampled_from([1, -1])
)
def test_newer_and_older_never_overlap_the_last_bounds(
    low: int, length: int, way: int
) -> None:
    decade = NAMES.numbers[0]
    old = Range(attribute="decade", low=low, high=low + length, words="")

    beyond = moved(old, way, decade)

    if beyond is None:
        assert low + length >= 1999 if way > 0 else low <= 1930
    elif way > 0:
        assert beyond.low == low + length + 1
        assert beyond.high is None
    else:
        assert beyond.high == low - 1
        assert beyond.low is None
