"""The names that a public catalogue gives to look up: values of attributes, and titles.

A value is found by its own spelling, by what means the same, and a person also by the
last word of the name. Attributes whose values are numbers have no names; they are asked
for by bounds.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from client.serving.language.spelling import (
    Slips,
    Word,
    equal_keys,
    has_han,
    key_of,
    normal,
    split,
)
from client.serving.language.synonyms import ATTRIBUTES, KINDS, PLAIN_KINDS, TRAITS
from client.serving.numbers import span
from shared.catalogue import Catalogue

Role = Literal["number", "kind", "maker", "trait"]
Measure = Literal["year", "price", "rating", "length", "other"]
By = Literal["name", "last name", "slip"]
Target = tuple[str, str]  # an attribute and one of its values

SAMPLE = 2000  # texts that are looked through for names of kinds
RARE = 0.01  # share of them from which on a name tells items apart
LONGEST_KIND = 3  # words of the name of a kind of item
LONGEST = 12  # words of a name that is looked up
MOST_NAMESAKES = 4  # people of one last name who are all meant by it
MOST_OF_A_SERIES = 8  # items whose titles begin alike and are all meant by that


def _keys(names: str) -> frozenset[str]:
    return frozenset(map(key_of, names.split()))


_MAKERS = _keys(
    "creator author director actor actress cast star writer artist singer band maker "
    "brand manufacturer vendor seller provider publisher studio label composer "
    "designer producer performer narrator company"
)
_KINDS = _keys("kind domain medium media format")
_PLAIN_KINDS = frozenset(equal_keys(PLAIN_KINDS))
_EQUAL = equal_keys([*KINDS, *TRAITS])
_WRITTEN = tuple(
    {key_of(name): name.strip() for name in group.split(",")}
    for group in (*KINDS, *TRAITS)
)
_EQUAL_ATTRIBUTES = equal_keys(ATTRIBUTES)
_MEASURES: tuple[tuple[Measure, frozenset[str]], ...] = (
    ("year", _keys("year decade released published date")),
    ("price", _keys("price cost amount")),
    ("rating", _keys("rating star score")),
    ("length", _keys("runtime length duration minutes pages")),
)
_YEAR = re.compile(r"\s*\((?:1[89]|20)\d\d[^)]*\)")
_CUTS = re.compile(r"\. |: |, | \(| - |。")
_TURNED = re.compile(r"^(.+), (the|a|an|le|la|les|el|il|das|der|die|l')$", re.I)
_ARTICLE = re.compile(r"^(?:the|a|an)\s+", re.I)


@dataclass(frozen=True)
class Attribute:
    """An attribute of the catalogue, as requests speak of it.

    Attributes:
        name: As the catalogue has it.
        role: Whether its values are numbers, kinds of item, who made it, or other.
        values: All of them, the most frequent first.
    """

    name: str
    role: Role
    values: tuple[str, ...]

    @property
    def shown(self) -> str:
        """Return its name for a person."""
        name = self.name.replace("_", " ").replace("-", " ")
        return name[:-1] if name.endswith("s") and not name.endswith("ss") else name

    def shown_in(self, language: str) -> str:
        """Return its name for a person who asks in a language."""
        groups = [group.split(",") for group in ATTRIBUTES]
        own = {word.key for word in _parts(self.name)}
        for names in groups if language == "zh" else ():
            if own & {key_of(name) for name in names}:
                return next(name.strip() for name in names if has_han(name))
        return self.shown

    @cached_property
    def called(self) -> frozenset[str]:
        """Return the keys of what people call it."""
        parts = [key_of(self.name), *(word.key for word in _parts(self.name))]
        equal = [_EQUAL_ATTRIBUTES.get(part, (part,)) for part in parts]
        return frozenset(key for keys in equal for key in keys)

    @cached_property
    def measure(self) -> Measure:
        """Return what its numbers measure."""
        parts = {word.key for word in _parts(self.name)}
        for measure, names in _MEASURES:
            if parts & names:
                return measure
        low, high = self.extent
        return "year" if low >= 1000 and high <= 2100 else "other"

    @cached_property
    def extent(self) -> tuple[float, float]:
        """Return the least and the greatest of its numbers."""
        read = [found for value in self.values if (found := span(value))]
        return min(low for low, _ in read), max(high for _, high in read)

    @cached_property
    def whole(self) -> bool:
        """Return whether its numbers are whole ones."""
        read = [found for value in self.values if (found := span(value))]
        return all(end == int(end) for found in read for end in found)


@dataclass(frozen=True, slots=True)
class Match:
    """Words of a text that name values.

    Attributes:
        begin, end: Places of the first word and after the last.
        targets: What they may name.
        by: Whether by the whole name, a last name alone, or one that is misspelt.
    """

    begin: int
    end: int
    targets: tuple[Target, ...]
    by: By


class Names:
    """What a catalogue's values and titles are looked up in."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.attributes = tuple(
            _attribute(name, lists) for name, lists in catalogue.attributes.items()
        )
        self.ids = catalogue.ids
        self._places = {item: place for place, item in enumerate(self.ids)}
        self.titles = tuple(title_of(text) for text in catalogue.texts)
        self._values: dict[str, tuple[Target, ...]] = {}
        self._last_names: dict[str, tuple[Target, ...]] = {}
        self._titles: dict[str, tuple[int, ...]] = {}
        for attribute in self.named:
            self._add_values(attribute)
        for place, title in enumerate(self.titles):
            for name in dict.fromkeys(_aliases(title)):
                self._titles[name] = (*self._titles.get(name, ()), place)
        self._slips = Slips(self._values)
        self._telling = _telling(catalogue.texts)

    @cached_property
    def named(self) -> tuple[Attribute, ...]:
        """Return the attributes whose values are names."""
        return tuple(each for each in self.attributes if each.role != "number")

    def telling(self, words: Sequence[Word]) -> set[int]:
        """Return the places of words that tell some items of this catalogue apart.

        "Film" tells nothing among films, and "toy" a lot in a shop.
        """
        return {at for at, word in enumerate(words) if word.key in self._telling}

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Return the names of the attributes that tell kinds of item apart."""
        return frozenset(each.name for each in self.attributes if each.role == "kind")

    @cached_property
    def numbers(self) -> tuple[Attribute, ...]:
        """Return the attributes whose values are numbers."""
        return tuple(each for each in self.attributes if each.role == "number")

    def measured(self, measure: Measure) -> Attribute | None:
        """Return the attribute of numbers that measure this; None without one."""
        found = [each for each in self.numbers if each.measure == measure]
        return found[0] if found else None

    def matches(self, words: Sequence[Word]) -> list[Match]:
        """Return every run of words that names a value; runs may overlap."""
        found = []
        for begin, end, key in _runs(words):
            if targets := self._values.get(key):
                found.append(Match(begin, end, targets, "name"))
            elif targets := self._last_names.get(key):
                found.append(Match(begin, end, targets, "last name"))
            elif end - begin < 3 and (near := self._slips.near(key)):
                found.append(Match(begin, end, self._values[near], "slip"))
        return found

    def value(self, name: str, attribute: str = "") -> tuple[Target, ...]:
        """Return what a name stands for by its spelling, misspelt by one slip or not.

        Args:
            name: Some words.
            attribute: Only its values; empty for those of any.
        """
        key = key_of(name)
        for near in (key, self._slips.near(key)):
            found = self._values.get(near or "", ())
            meant = tuple(each for each in found if attribute in ("", each[0]))
            if meant:
                return meant
        return ()

    def title(self, words: Sequence[Word], begin: int) -> tuple[int, tuple[str, ...]]:
        """Return where the longest title from ``begin`` ends, and the ids it names.

        Without one it ends where it begins.
        """
        longest, places = begin, tuple[int, ...]()
        first = words[begin].key if begin < len(words) else ""
        start = begin + (first in {"the", "a", "an"})
        for _, end, key in _runs_from(words, start):
            if key in self._titles:
                longest, places = end, self._titles[key]
        return longest, tuple(self.ids[place] for place in places[:MOST_OF_A_SERIES])

    def titles_of(self, ids: Sequence[str]) -> list[str]:
        """Return the titles of items, each once; an item that is gone has none."""
        places = [self._places[item] for item in ids if item in self._places]
        return list(dict.fromkeys(self.titles[place] for place in places))

    def _add_values(self, attribute: Attribute) -> None:
        own = {key_of(value) for value in attribute.values}
        last: dict[str, list[Target]] = {}
        for value in attribute.values:
            target, key = (attribute.name, value), key_of(value)
            equal = (name for name in _EQUAL.get(key, ()) if name not in own)
            for name in dict.fromkeys((key, *equal)):
                if name:
                    self._values[name] = (*self._values.get(name, ()), target)
            parts = split(value)
            if attribute.role == "maker" and len(parts) > 1 and not has_han(value):
                last.setdefault(parts[-1].key, []).append(target)
        for name, targets in last.items():
            if len(name) > 3 and len(targets) <= MOST_NAMESAKES:
                known = self._last_names.get(name, ())
                self._last_names[name] = (*known, *targets)


def title_of(text: str) -> str:
    """Return the title that an item's text begins with.

    >>> title_of("Godfather, The (1972). Crime"), title_of("Idle Sunday, a wry film")
    ('The Godfather', 'Idle Sunday')
    """
    text = normal(text)
    year = _YEAR.search(text)
    if year:
        return _straight(text[: year.start()].partition(" (")[0])
    return _CUTS.split(text, maxsplit=1)[0].strip()


def also_called(value: str) -> tuple[str, ...]:
    """Return other names of a value and of no other, as they are written."""
    key = key_of(value)
    own = [group for group in _WRITTEN if key in group]
    return tuple(
        name
        for group in own
        for other, name in group.items()
        if other != key and sum(other in each for each in _WRITTEN) == 1
    )


def kinds_among(words: Sequence[Word]) -> set[int]:
    """Return the places of words that name a plain kind of item."""
    return {
        place
        for begin, end, key in _runs(words, LONGEST_KIND)
        if key in _PLAIN_KINDS
        for place in range(begin, end)
    }


def _telling(texts: Sequence[str]) -> frozenset[str]:
    """Return the names of kinds that some texts mention, but not most of them."""
    some = texts[:: max(1, len(texts) // SAMPLE)]
    counts = Counter(key for text in some for key in {word.key for word in split(text)})
    return frozenset(
        kind for kind in _PLAIN_KINDS if RARE * len(some) < counts[kind] < len(some) / 2
    )


def _attribute(name: str, lists: Iterable[Sequence[str]]) -> Attribute:
    counts = Counter(value for values in lists for value in values)
    values = tuple(value for value, _ in counts.most_common())
    numbers = sum(span(value) is not None for value in values)
    parts = {word.key for word in _parts(name)}
    role: Role = "trait"
    if numbers and numbers >= 0.9 * len(values):
        role = "number"
    elif parts & _KINDS:
        role = "kind"
    elif parts & _MAKERS:
        role = "maker"
    return Attribute(name, role, values)


def _aliases(title: str) -> Iterator[str]:
    """Yield the keys by which a title is known: whole, and up to its first mark."""
    for name in (title, _CUTS.split(title, maxsplit=1)[0]):
        if key := key_of(_ARTICLE.sub("", name)):
            yield key


def _straight(title: str) -> str:
    turned = _TURNED.match(title.strip())
    return f"{turned[2]} {turned[1]}" if turned else title.strip()


def _parts(name: str) -> tuple[Word, ...]:
    return split(name.replace("_", " "))


def _runs(
    words: Sequence[Word], longest: int = LONGEST
) -> Iterator[tuple[int, int, str]]:
    for begin in range(len(words)):
        yield from _runs_from(words, begin, longest)


def _runs_from(
    words: Sequence[Word], begin: int, longest: int = LONGEST
) -> Iterator[tuple[int, int, str]]:
    """Yield begin, end and key of the runs of words that begin at a place."""
    key = ""
    for end in range(begin, min(begin + longest, len(words))):
        if words[end].key == "and":
            if not key:
                return
            continue
        key += words[end].key
        yield begin, end + 1, key
