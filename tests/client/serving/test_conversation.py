"""A conversation's token comes back as it went, or is refused."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.serving.conversation import LONGEST, pack, unpack
from client.serving.understood import Leaning, Range, Term, Understood
from shared.errors import ConfigError

WORDS = st.text(max_size=20)
NUMBERS = st.none() | st.floats(-1e6, 1e6)


@given(
    wanted=st.lists(st.builds(Term, attribute=WORDS, value=WORDS, words=WORDS)),
    ranges=st.lists(
        st.builds(Range, attribute=WORDS, low=NUMBERS, high=NUMBERS, words=WORDS),
        max_size=4,
    ),
    meaning=WORDS,
)
def test_a_request_comes_back_as_it_was_understood(
    wanted: list[Term], ranges: list[Range], meaning: str
) -> None:
    said = Understood(
        language="en", wanted=tuple(wanted), ranges=tuple(ranges), meaning=meaning
    )

    assert unpack(pack(said)) == said


def test_a_rich_request_stays_short() -> None:
    terms = tuple(
        Term(attribute="genres", value=f"Genre {n}", words=f"words {n}")
        for n in range(20)
    )
    leaning = Leaning(toward="year", words="newer", weight=1.0)
    said = Understood(language="en", wanted=terms, leanings=(leaning,) * 5)

    assert len(pack(said)) <= LONGEST


@pytest.mark.parametrize(
    "token",
    [
        *("", "x", "é", "====", "AAAA", "a b"),
        base64.urlsafe_b64encode(zlib.compress(b"{}")).decode(),
        base64.urlsafe_b64encode(zlib.compress(b" " * 10_000_000)).decode(),
    ],
)
def test_anything_else_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ConfigError) as raised:
        unpack(token)

    assert len(token) < 2 or token not in str(raised.value)
