"""Requests made up from the public catalogue, with what each of their words names.

They come from frames, from the catalogue's own values, titles and texts, and from short
lists that are part of this software; nothing that a user ever did or wrote is in them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from types import ModuleType
from typing import Final, Literal, TypeVar

import numpy as np

from client.serving.language import templates_en, templates_zh
from client.serving.language.names import Attribute, Names, also_called, title_of
from client.serving.language.spelling import SHORTEST_SLIP, has_han, split
from client.serving.numbers import span

Tongue = Literal["en", "zh"]
TEMPLATES: Final[dict[Tongue, ModuleType]] = {"en": templates_en, "zh": templates_zh}

MISSPELT = 0.1  # share of values with a slip
LONGEST_TITLE = 6  # words of a title that a request names
_PLAIN = frozenset({"noun", "nouns"})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Named:
    """A stretch of a made-up request and what it stands for.

    Attributes:
        begin, end: Its place in the text.
        label: What its words are labelled with.
        slot: Of the frame, such as ``trait`` or ``no_trait``.
        value: The catalogue's value, or the item of a title; empty for other slots.
    """

    begin: int
    end: int
    label: str
    slot: str
    value: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A made-up request, and what is named in it in order."""

    text: str
    named: tuple[Named, ...]


class Composer:
    """Fills frames from one catalogue."""

    def __init__(
        self,
        names: Names,
        texts: Sequence[str],
        language: Tongue,
        rng: np.random.Generator,
    ) -> None:
        self._names, self._texts, self._rng = names, texts, rng
        self._own, self._language = TEMPLATES[language], language
        self._nouns = self._all_nouns()
        self._titles = tuple(
            (place, title)
            for place, title in enumerate(names.titles)
            if title and len(split(title)) <= LONGEST_TITLE
        )

    def fits(self, frame: str) -> bool:
        """Return whether the catalogue has what the frame's slots ask for."""
        slots = {slot for _, slot, *_ in Formatter().parse(frame) if slot}
        roles = {each.role for each in self._names.named}
        needs = {
            "trait": "trait" in roles,
            "maker": "maker" in roles,
            "kind": "kind" in roles,
            "range": bool(self._measured()),
            "title": bool(self._titles),
        }
        asked = {slot.removeprefix("no_").replace("unlike", "title") for slot in slots}
        return all(needs.get(slot, True) for slot in asked)

    def compose(self, frame: str) -> Sentence:
        """Return the frame with every slot filled by chance."""
        text, named = "", list[Named]()
        noun = self._one(self._nouns)
        for before, slot, *_ in Formatter().parse(frame):
            text += before
            if slot in _PLAIN:
                text += noun[slot == "nouns"]
            elif slot:
                words, label, value = self._fill(slot.removeprefix("no_"))
                end = len(text) + len(words)
                named.append(Named(len(text), end, label, slot, value))
                text += words
        return Sentence(text, tuple(named))

    def _fill(self, slot: str) -> tuple[str, str, str]:
        """Return words for a slot, their label, and what they stand for."""
        if slot in {"trait", "maker", "kind"}:
            attribute = self._one([a for a in self._names.named if a.role == slot])
            value = self._one(attribute.values)
            return self._spelling(value, attribute), attribute.name, value
        if slot in {"title", "unlike"}:
            place, title = self._one(self._titles)
            lower = self._rng.random() < 0.4 and not has_han(title)
            return title.casefold() if lower else title, "title", self._names.ids[place]
        if slot == "range":
            return self._range()
        if slot == "wish":
            return self._wish(), "wish", ""
        if slot == "less":
            return self._one(self._own.LESS), "wish", ""
        return self._about(), "about", ""

    def _spelling(self, value: str, attribute: Attribute) -> str:
        """Return a value as a person may write it."""
        equal = [
            name
            for name in also_called(value)
            if has_han(name) == (self._language == "zh")
        ]
        foreign = self._language == "zh" and not has_han(value)
        if equal and (foreign or self._rng.random() < 0.35):
            return self._one(equal)
        if self._rng.random() < 0.75 or attribute.role == "maker":
            lower = self._rng.random() < 0.6
            value = value.casefold() if lower else value
        slips = len(value) > SHORTEST_SLIP and self._rng.random() < MISSPELT
        return self._misspelt(value) if slips else value

    def _misspelt(self, value: str) -> str:
        """Return a value with a letter missing, doubled, or swapped with the next."""
        at = int(self._rng.integers(1, len(value) - 1))
        begin, sign, end = value[:at], value[at], value[at + 1 :]
        swapped = f"{begin}{end[0]}{sign}{end[1:]}"
        return str(self._one([begin + end, f"{begin}{sign}{sign}{end}", swapped]))

    def _range(self) -> tuple[str, str, str]:
        attribute = self._one(self._measured())
        how, form = self._one(self._own.RANGES[attribute.measure])
        ends = sorted((self._number(attribute), self._number(attribute)))
        if how == "between" and ends[0] == ends[1]:
            how, form = self._own.RANGES[attribute.measure][0]
        first, last = (self._point(end, attribute) for end in ends)
        return form.format(p=first, q=last), attribute.name, ""

    def _measured(self) -> list[Attribute]:
        return [a for a in self._names.numbers if a.measure in self._own.RANGES]

    def _number(self, attribute: Attribute) -> float:
        low, high = span(self._one(attribute.values)) or (0.0, 0.0)
        return float(self._rng.integers(int(low), int(high) + 1))

    def _point(self, number: float, attribute: Attribute) -> str:
        """Return a number as a person may write it."""
        whole = int(number)
        if attribute.measure != "year":
            form = self._one((*self._own.UNITS.get(attribute.measure, ("{}",)), "{}"))
            return str(form.format(whole))
        decade = whole // 10 * 10
        named = self._own.DECADES.get(decade, f"{decade}s")
        if self._language == "zh":
            forms = [
                f"{whole}年",
                f"{decade % 100}年代",
                named if "代" in named else "",
            ]
            return str(self._one([form for form in forms if form]))
        forms = [f"{whole}", f"the {decade}s", f"the {decade % 100}s", f"the {named}"]
        later = decade >= 2000  # "the 0s" is nobody's decade
        return str(self._one(forms[:2] if later else [*forms, f"the late {named}"]))

    def _wish(self) -> str:
        measures = {each.measure for each in self._names.numbers}
        kinds = ["popularity", "rating", *sorted(measures & set(self._own.WISHES))]
        return str(self._one(self._own.WISHES[self._one(kinds)]))

    def _about(self) -> str:
        """Return a subject: from a list, or a few words of some item's text."""
        if self._language == "zh" or self._rng.random() < 0.5:
            return str(self._one(self._own.ABOUT))
        text = self._one(self._texts)
        words = text[len(title_of(text)) :].split() or text.split()
        begin = int(self._rng.integers(len(words)))
        some = " ".join(words[begin : begin + int(self._rng.integers(1, 5))])
        some = some.strip(" .,;:()").casefold()
        plain = len(some) > 2 and not re.search(r"\d|[()]", some)
        if plain and not self._names.matches(split(some)):  # a value is no subject
            return some
        return str(self._one(self._own.ABOUT))

    def _all_nouns(self) -> list[tuple[str, str]]:
        kinds = {
            value.casefold()
            for each in self._names.named
            if each.role == "kind"
            for value in each.values
        }
        return [pair for pair in self._own.NOUNS if pair[0] not in kinds]

    def _one(self, choices: Sequence[T]) -> T:
        return choices[int(self._rng.integers(len(choices)))]


def requests(
    composer: Composer, frames: Sequence[str], count: int, rng: np.random.Generator
) -> list[Sentence]:
    """Return so many requests, from frames that the catalogue can fill.

    Each frame has its turn before one comes again.
    """
    fitting = [frame for frame in frames if composer.fits(frame)]
    order = [fitting[at] for at in rng.permutation(len(fitting))]
    return [composer.compose(order[n % len(order)]) for n in range(count)]
