"""How names are compared: case, accents, hyphens and plurals make no difference.

One slip of the fingers (a letter missing, doubled, wrong or swapped with its neighbour)
can be looked up too, in a time that does not depend on how many names there are.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

SHORTEST_SLIP = 5  # letters of the shortest name that may be misspelt
_CJK = "\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[^\W_])+(?:'(?![{_CJK}])[^\W_]+)*")
_SIGNS = {
    ord(sign): plain
    for plain, signs in (
        ("'", "\u2018\u2019\u00b4\u0060"),
        ('"', "\u201c\u201d\u201e\u00ab\u00bb"),
        ("-", "\u2010\u2011\u2012\u2013\u2212"),
        (" - ", "\u2014\u2015"),
    )
    for sign in signs
}
_HAN = re.compile(f"[{_CJK}]")


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, or one Chinese character, and where it stands.

    Attributes:
        text: As it is written.
        begin, end: Its place in the text.
        key: What it is compared by.
    """

    text: str
    begin: int
    end: int
    key: str


def normal(text: str) -> str:
    """Return a text with one sign for each of the many quotation marks and dashes."""
    return unicodedata.normalize("NFKC", text).translate(_SIGNS)


def split(text: str) -> tuple[Word, ...]:
    """Return the words of a text; marks between them are left out."""
    return tuple(
        Word(found[0], found.start(), found.end(), stem(found[0]))
        for found in _WORD.finditer(text)
    )


def key_of(text: str) -> str:
    """Return what a name is compared by; empty for one without letters and digits.

    >>> key_of("Sci-Fi") == key_of("sci fi"), key_of("Comedy") == key_of("comedies")
    (True, True)
    """
    return "".join(word.key for word in split(text) if word.key != "and")


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return a word in lower case, without accents and without its plural's end."""
    plain = unicodedata.normalize("NFKD", word.casefold())
    plain = "".join(sign for sign in plain if not unicodedata.combining(sign))
    plain = plain.removesuffix("'s").replace("'", "")
    return _singular(plain)


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes", "oes")):
        word = word[:-2]
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    if len(word) > 3 and word.endswith("ie"):
        return word[:-1]
    return f"{word[:-1]}i" if len(word) > 2 and word.endswith("y") else word


def has_han(text: str) -> bool:
    """Return whether a text has a Chinese character."""
    return bool(_HAN.search(text))


def han_share(text: str) -> float:
    """Return the share of Chinese characters among a text's words."""
    words = split(text)
    return sum(has_han(word.text) for word in words) / max(1, len(words))


class Slips:
    """Names by what is left of them when one letter is missing (SymSpell's index)."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._near: dict[str, list[str]] = {}
        for key in keys:
            if len(key) >= SHORTEST_SLIP:
                for left in _shortened(key):
                    self._near.setdefault(left, []).append(key)

    def near(self, key: str) -> str | None:
        """Return the name that ``key`` misspells by one slip; None if not just one."""
        if len(key) < SHORTEST_SLIP - 1:
            return None
        found = {name for left in _shortened(key) for name in self._near.get(left, ())}
        close = [name for name in found if _one_slip(key, name)]
        return close[0] if len(close) == 1 else None


def _shortened(key: str) -> set[str]:
    return {key} | {key[:at] + key[at + 1 :] for at in range(len(key))}


def _one_slip(one: str, other: str) -> bool:
    """Return whether two names differ by one letter, or by two that are swapped."""
    if len(one) != len(other):
        short, long = sorted((one, other), key=len)
        return short in _shortened(long)
    differ = [at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    if len(differ) != 2:
        return len(differ) < 2
    left, right = differ
    return right == left + 1 and one[left] == other[right] and one[right] == other[left]


def equal_keys(groups: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return for each name of groups of equal ones the keys of all that equal it.

    Args:
        groups: Names parted by commas.
    """
    equal: dict[str, tuple[str, ...]] = {}
    for group in groups:
        keys = tuple(dict.fromkeys(key_of(name) for name in group.split(",")))
        for key in keys:
            equal[key] = tuple(dict.fromkeys(equal.get(key, ()) + keys))
    return equal
