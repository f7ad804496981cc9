import pytest

from client.serving.language.names import Names
from client.serving.language.told import sentence
from client.serving.understood import Leaning, Range, Term, Understood
from tests.client.serving.language.spoken import catalogue

NAMES = Names(catalogue())
GENRE = Term(attribute="genres", value="Sci-Fi", words="sf")
KIND = Term(attribute="domain", value="film", words="movies")
HORROR = Term(attribute="genres", value="Horror", words="scary")
KNOWN = Leaning(toward="popularity", words="famous", weight=1.0)
CHEAP = Leaning(toward="price", words="cheap", weight=-1.0)
LESS = Leaning(toward="meaning", words="violent", weight=-1.0)


def years(low: float | None, high: float | None) -> Range:
    return Range(attribute="decade", low=low, high=high, words="")


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (
            {
                "wanted": (GENRE, KIND),
                "unwanted": (HORROR,),
                "ranges": (years(1990, 1999),),
                "leanings": (KNOWN,),
            },
            "Films; genre Sci-Fi; from 1990 to 1999; well known; not Horror.",
        ),
        ({}, "Anything."),
        ({"ranges": (years(None, 1989),)}, "Up to 1989."),
        ({"ranges": (years(1994, 1994),)}, "From 1994."),
        ({"leanings": (CHEAP, LESS)}, "Rather cheap; less violent."),
        (
            {"like": ("item-0", "gone"), "unlike": ("item-4",), "meaning": "toys"},
            "Not Alien; like Toy Story; about toys.",
        ),
    ],
)
def test_what_was_understood_is_told(parts: dict[str, object], told: str) -> None:
    made = Understood(language="en", **parts)  # type: ignore[arg-type]

    assert sentence(made, NAMES) == told


def test_what_was_understood_is_told_in_chinese() -> None:
    made = Understood(
        language="zh",
        wanted=(GENRE,),
        unwanted=(HORROR,),
        ranges=(years(1990, 1999),),
        leanings=(LESS,),
    )

    told = "类型 Sci-Fi; 1990 至 1999 年; 少一些violent; 不要Horror。"
    assert sentence(made, NAMES) == told
