import pytest

from client.serving.language.chinese import CHINESE
from client.serving.language.english import ENGLISH
from client.serving.language.refusal import BOUND, Piece, refused
from client.serving.language.spelling import split

GENRES = ("horror", "war", "westerns", "comedy", "romance", "恐", "战", "喜")
TIMES = ("1990",)


def reached(text: str, *, zh: bool = False) -> list[str]:
    """Return the words that a "no" reaches; genres and years are known pieces."""
    words = split(text)
    pieces = [
        Piece(at, at + 1, "genres" if word.text in GENRES else BOUND)
        for at, word in enumerate(words)
        if word.text in (*GENRES, *TIMES)
    ]
    no = refused(text, words, pieces, CHINESE if zh else ENGLISH)
    return [
        word.text
        for word, against in zip(words, no, strict=True)
        if against and word.text in (*GENRES, *TIMES, "violence", "singing")
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothing with horror", ["horror"]),
        ("comedy but not horror", ["horror"]),
        ("no horror, comedy please", ["horror"]),
        ("no horror, war or westerns", ["horror", "war", "westerns"]),
        ("neither horror nor war", ["horror", "war"]),
        ("without horror and war", ["horror", "war"]),
        ("no horror from 1990", ["horror"]),
        ("nothing 1990", ["1990"]),
        ("i don't want any horror but give me comedy", ["horror"]),
        ("anything except horror", ["horror"]),
        ("I hate war. comedy", ["war"]),
        ("no violence and a good comedy", ["violence"]),
        ("not only horror", []),
        ("nothing but horror", []),
        ("no matter whether horror or war", []),
        ("why not horror", []),
        ("romance without violence or singing", ["violence", "singing"]),
        ("instead of horror some comedy", ["horror"]),
        ("comedy", []),
    ],
)
def test_a_no_reaches_its_own_list_and_no_further(text: str, words: list[str]) -> None:
    assert reached(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("不要恐", ["恐"]),
        ("没有恐的喜", ["恐"]),
        ("不要恐和战,来点喜", ["恐", "战"]),
        ("不管恐", []),
    ],
)
def test_a_chinese_no_reaches_its_own_list(text: str, words: list[str]) -> None:
    assert reached(text, zh=True) == words
