"""Bounds in words, such as "before 1990" or "under 20 dollars", read as numbers.

A language gives its expressions as patterns, each with what it does to the numbers in
it; what they do is the same in every language. A bound whose attribute the catalogue
does not have is no bound: its words stay.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from client.serving.language.names import Attribute, Measure, Names
from client.serving.language.spelling import split
from client.serving.understood import Range

Interval = tuple[float | None, float | None]
How = Literal[
    "at",
    "about",
    "before",
    "until",
    "after",
    "since",
    "between",
    "below",
    "most",
    "above",
    "least",
]
AROUND_YEARS = 2.0  # on either side of "around 1990"
AROUND_SHARE = 0.2  # on either side of "around 20 dollars"
_FLIPPED: dict[How, How] = {
    "before": "since",
    "until": "after",
    "after": "until",
    "since": "before",
    "below": "least",
    "most": "above",
    "above": "most",
    "least": "below",
}


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with what it is a number of.

    Attributes:
        value: In the unit that catalogues use: minutes, and no currency.
        measure: What it measures; None if the words do not say.
    """

    value: float
    measure: Measure | None


@dataclass(frozen=True, slots=True)
class BoundWords:
    """How one language speaks of bounds.

    Attributes:
        years: Patterns with a group ``p`` for a point in time, and ``q`` for another.
        read_year: What turns a group into its first and last year.
        not_years: What stands before a year that an item tells of.
        amounts: Patterns with groups ``p`` and ``q`` for amounts.
        read_amount: What turns a group into an amount.
        measures: Words beside an amount -> what it measures.
    """

    years: tuple[tuple[How, re.Pattern[str]], ...]
    read_year: Callable[[str], tuple[int, int]]
    not_years: re.Pattern[str]
    amounts: tuple[tuple[How, re.Pattern[str]], ...]
    read_amount: Callable[[str], Amount]
    measures: tuple[tuple[Measure, re.Pattern[str]], ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """A bound where it stands in a text.

    Attributes:
        begin, end: Its place.
        how: What the words do to the numbers.
        first, last: The numbers.
        attribute: What they bound.
        words: As they are written.
    """

    begin: int
    end: int
    how: How
    first: tuple[float, float]
    last: tuple[float, float]
    attribute: Attribute
    words: str

    def range(self) -> Range:
        """Return it as bounds that are both included."""
        low, high = _interval(self)
        return Range(
            attribute=self.attribute.name, low=low, high=high, words=self.words
        )

    def flipped(self) -> "Bound | None":
        """Return what "not" makes of it; None for a piece from the middle."""
        how = _FLIPPED.get(self.how)
        return None if how is None else replace(self, how=how)


def bounds(text: str, words: BoundWords, names: Names) -> list[Bound]:
    """Return the bounds in a text, none over another."""
    taken: list[Bound] = []
    year = names.measured("year")
    found = [*_amounts(text, words, names, named=True)]
    found += [*_years(text, words, year)] if year else []
    found += [*_amounts(text, words, names, named=False)]
    for bound in found:
        if all(bound.end <= it.begin or it.end <= bound.begin for it in taken):
            taken.append(bound)
    return sorted(taken, key=lambda bound: bound.begin)


def moved(old: Range, way: int, attribute: Attribute) -> Range | None:
    """Return the bounds beyond old ones: newer than them, or cheaper.

    Args:
        old: The last request's.
        way: 1 for more, -1 for less.
        attribute: Whose numbers they bound.

    Returns:
        None where they are open on that side, or where no item lies beyond.
    """
    edge = old.high if way > 0 else old.low
    least, most = attribute.extent
    if edge is None or (edge >= most if way > 0 else edge <= least):
        return None
    past = _beside(edge, way, attribute)
    low, high = (past, None) if way > 0 else (None, past)
    return Range(attribute=old.attribute, low=low, high=high, words=old.words)


def _years(text: str, words: BoundWords, year: Attribute) -> Iterator[Bound]:
    for how, pattern in words.years:
        for found in pattern.finditer(text):
            if words.not_years.search(text[: found.start("p")]):
                continue
            first = words.read_year(found["p"])
            last = words.read_year(found["q"]) if "q" in pattern.groupindex else first
            yield Bound(*found.span(), how, first, last, year, found[0].strip())


def _amounts(
    text: str, words: BoundWords, names: Names, *, named: bool
) -> Iterator[Bound]:
    """Yield bounds on amounts whose words say what they measure, or do not."""
    for how, pattern in words.amounts:
        for found in pattern.finditer(text):
            first = words.read_amount(found["p"])
            second = "q" in pattern.groupindex
            last = words.read_amount(found["q"]) if second else first
            measure = last.measure or first.measure or _said(found[0], words)
            attribute = _attribute(found, measure, names, said=named)
            if attribute is not None:
                one, other = (first.value,) * 2, (last.value,) * 2
                stars = how == "about" and attribute.measure == "rating"
                yield Bound(
                    *found.span(),
                    "least" if stars else how,
                    one,
                    other,
                    attribute,
                    found[0].strip(),
                )


def _said(phrase: str, words: BoundWords) -> Measure | None:
    """Return what the words round an amount say that it measures."""
    return next((it for it, pattern in words.measures if pattern.search(phrase)), None)


def _attribute(
    found: re.Match[str], measure: Measure | None, names: Names, *, said: bool
) -> Attribute | None:
    """Return what an amount bounds.

    ``said`` asks that the words say it, by a unit or by the attribute's own name before
    them; else it is what sites mostly give bounds on.
    """
    if measure is not None:
        return names.measured(measure) if said else None
    if found[0].strip() == found["p"]:  # a number alone may be of anything
        return None
    before = {word.key for word in split(found.string[: found.start()])[-3:]}
    others = [each for each in names.numbers if each.measure != "year"]
    called = next((each for each in others if before & each.called), None)
    if said or called is not None:
        return called if said else None
    return names.measured("price") or (others[0] if len(others) == 1 else None)


def _interval(bound: Bound) -> Interval:
    """Return the bounds, both included."""
    (low, _), (_, high) = sorted((bound.first, bound.last))
    first, last = bound.first
    kept: dict[How, Interval] = {
        "at": (first, last),
        "about": _around(low, high, bound.attribute),
        "between": (low, high),
        "before": (None, _beside(first, -1, bound.attribute)),
        "below": (None, _beside(first, -1, bound.attribute)),
        "until": (None, last),
        "most": (None, last),
        "after": (_beside(last, 1, bound.attribute), None),
        "above": (_beside(last, 1, bound.attribute), None),
        "since": (first, None),
        "least": (first, None),
    }
    return kept[bound.how]


def _around(low: float, high: float, attribute: Attribute) -> Interval:
    if attribute.measure == "year":
        return low - AROUND_YEARS, high + AROUND_YEARS
    return low * (1 - AROUND_SHARE), high * (1 + AROUND_SHARE)


def _beside(edge: float, way: int, attribute: Attribute) -> float:
    """Return the number next to an edge: whole, where the attribute's numbers are."""
    if attribute.whole:
        return math.floor(edge) + 1 if way > 0 else math.ceil(edge) - 1
    return math.nextafter(edge, way * math.inf)
