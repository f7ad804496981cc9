import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.serving.language.spelling import Slips, key_of, normal, split

LETTERS = st.text("abcdefgh", min_size=5, max_size=12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Sci-Fi", "sci fi"),
        ("Sci-Fi", "SciFi"),
        ("Comedy", "comedies"),
        ("Children's", "children"),
        ("movie", "movies"),
        ("Kärcher", "karcher"),
        ("Black & Decker", "black and decker"),
        ("Thriller", "THRILLERS"),
    ],
)
def test_spellings_of_one_name_are_equal(one: str, other: str) -> None:
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize(
    ("one", "other"), [("War", "Warm"), ("bus", "bu"), ("class", "clas"), ("us", "u")]
)
def test_other_names_stay_apart(one: str, other: str) -> None:
    assert key_of(one) != key_of(other)


def test_words_keep_their_places_and_characters_stand_alone() -> None:
    words = split("a sci-fi 电影, please")

    assert [word.text for word in words] == ["a", "sci", "fi", "电", "影", "please"]
    assert all("a sci-fi 电影, please"[w.begin : w.end] == w.text for w in words)


def test_quotation_marks_and_wide_signs_become_plain() -> None:
    assert normal("\u201cHeat\u201d \u2013 it\u2019s\uff0c ok") == '"Heat" - it\'s, ok'


@given(name=LETTERS, at=st.integers(0, 100))
def test_a_name_with_a_letter_missing_is_found(name: str, at: int) -> None:
    slipped = name[: at % len(name)] + name[at % len(name) + 1 :]

    assert Slips([name]).near(slipped) == name


@given(name=LETTERS, at=st.integers(0, 100))
def test_a_name_with_neighbours_swapped_is_found(name: str, at: int) -> None:
    at %= len(name) - 1
    slipped = name[:at] + name[at + 1] + name[at] + name[at + 2 :]

    assert Slips([name]).near(slipped) == name


def test_what_two_names_are_as_near_to_is_neither() -> None:
    assert Slips(["stone", "store"]).near("stoe") is None


def test_two_slips_are_another_name() -> None:
    assert Slips(["horror"]).near("hrrr") is None
