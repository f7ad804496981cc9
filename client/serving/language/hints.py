"""What lists and rules see in a request, word by word, before anything is decided.

The head reads these hints beside the encoder's activations; what they point at is what
the decision is about.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from client.serving.language.bounds import Bound, bounds
from client.serving.language.grammar import Degree, Grammar, Wish
from client.serving.language.names import Match, Names, kinds_among
from client.serving.language.spelling import Word, split
from client.serving.model import Mask
from shared.encoder import Reading
from shared.protocol import Array

_QUOTED = re.compile(r"[\"《「]\s*([^\"《》「」]+?)\s*[\"》」]")


_MARK = re.compile(r"[^\w\s'-]")
_MARKS = " \t\"'《「"
_JOINED = re.compile(
    r"[\s,、\"'《》]*(?:\b(?:and|or)\b|和|或|与)?[\s\"'《》]*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of words, by the places of its first and after its last."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class TitleHint(Span):
    """The title of items.

    Attributes:
        ids: The items that have it.
        alike: Whether the words before it ask for others like them.
        sure: Whether it can hardly be anything else.
    """

    ids: tuple[str, ...]
    alike: bool
    sure: bool


@dataclass(frozen=True, slots=True)
class BoundHint(Span):
    """A bound on a number."""

    bound: Bound


@dataclass(frozen=True, slots=True)
class WishHint(Span):
    """An order by a measure, with the weight that is left of "less" and "not too"."""

    wish: Wish
    words: str
    weight: float


@dataclass(frozen=True, slots=True)
class DegreeHint(Span):
    """More or less of what some words mean."""

    degree: Degree
    words: str


@dataclass(frozen=True, slots=True)
class Hints:
    """All that is seen in one request; the stretches may lie over each other."""

    words: tuple[Word, ...]
    matches: tuple[Match, ...]
    titles: tuple[TitleHint, ...]
    bounds: tuple[BoundHint, ...]
    wishes: tuple[WishHint, ...]
    degrees: tuple[DegreeHint, ...]
    idle: tuple[bool, ...]  # which words say nothing of an item
    broken: tuple[bool, ...]  # which words the encoder has to spell in pieces
    parted: tuple[bool, ...]  # before which words there is a comma or the like

    def columns(self, names: Names) -> Array:
        """Return them as numbers, [words, columns]: begins and goes on, of each."""
        kinds = [each.name for each in names.named]
        made = np.zeros((len(self.words), 2 * (len(kinds) + 4) + 2), np.float32)

        def mark(spans: Iterable[Span | Match], column: int) -> None:
            for span in spans:
                made[span.begin, 2 * column] = 1
                made[span.begin + 1 : span.end, 2 * column + 1] = 1

        for at, name in enumerate(kinds):
            mark((m for m in self.matches if any(t[0] == name for t in m.targets)), at)
        rest: Sequence[Sequence[Span]] = (
            *(self.titles, self.bounds, self.wishes, self.degrees),
        )
        for at, spans in enumerate(rest, len(kinds)):
            mark(spans, at)
        made[:, -2], made[:, -1] = self.idle, self.parted
        return made


def hints_of(text: str, reading: Reading, names: Names, grammar: Grammar) -> Hints:
    """Return what lists and rules see in a text that was read."""
    words = split(text)
    idle = _idle(text, words, names, grammar)

    def at(begin: int, end: int) -> tuple[int, int]:
        inside = [n for n, word in enumerate(words) if begin <= word.begin < end]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)

    matches = tuple(names.matches(words))
    wishes = [
        WishHint(*at(*found.span()), wish, found[0], wish.weight)
        for wish in grammar.wishes
        for found in wish.pattern.finditer(text)
    ]
    degrees = [
        DegreeHint(*at(*found.span()), degree, found["words"])
        for degree in grammar.degrees
        for found in degree.pattern.finditer(text)
    ]
    wishes, degrees = _by_degree(wishes, degrees)
    named = {
        place for it in matches if it.by == "name" for place in range(it.begin, it.end)
    }
    return Hints(
        words=words,
        matches=matches,
        titles=tuple(_titles(text, words, idle, names, grammar)),
        bounds=tuple(
            BoundHint(*at(bound.begin, bound.end), bound)
            for bound in bounds(text, grammar.bounds, names)
        ),
        wishes=tuple(wishes),
        degrees=tuple(
            each  # "more comedies" asks for comedies
            for each in degrees
            if not each.degree.plain
            or not named.intersection(range(each.begin, each.end))
        ),
        idle=idle,
        broken=tuple((pieces_of(reading, words).sum(axis=1) > 1).tolist()),
        parted=tuple(
            bool(_MARK.search(text[before.end if before else 0 : word.begin]))
            for before, word in zip((None, *words), words, strict=False)
        ),
    )


def _by_degree(
    wishes: Sequence[WishHint], degrees: Sequence[DegreeHint]
) -> tuple[list[WishHint], list[DegreeHint]]:
    """Return orders by degree as orders: "not too old" is one, not a meaning."""
    turned, others = list[WishHint](), list[DegreeHint]()
    for degree in degrees:
        within = [
            wish
            for wish in wishes
            if degree.begin <= wish.begin and wish.end <= degree.end
        ]
        if not within:
            others.append(degree)
            continue
        wish = within[0]
        if wish.begin > degree.begin:
            weight = wish.weight * degree.degree.weight
            turned.append(
                replace(wish, begin=degree.begin, words=degree.words, weight=weight)
            )
    return [*turned, *wishes], others


def pieces_of(reading: Reading, words: Sequence[Word]) -> Mask:
    """Return which tokens of what was read are of which word, [words, tokens]."""
    begins = np.array([word.begin for word in words], np.int64)[:, None]
    ends = np.array([word.end for word in words], np.int64)[:, None]
    inside: Mask = (reading.spans[:, 0] < ends) & (reading.spans[:, 1] > begins)
    return inside


def _titles(
    text: str,
    words: Sequence[Word],
    idle: Sequence[bool],
    names: Names,
    grammar: Grammar,
) -> list[TitleHint]:
    """Return titles after words such as "like", in quotation marks, or with capitals.

    ``sure`` are those that can hardly be anything else: "heat" is mostly no film.
    """
    liked = {found.end() for found in grammar.like.finditer(text)}
    quoted = {found.start(1) for found in _QUOTED.finditer(text)}
    found: list[TitleHint] = []
    for place, word in enumerate(words):
        if found and place < found[-1].end:
            continue
        end, ids = names.title(words, place)
        if end == place:
            continue
        before = text[: word.begin].rstrip(_MARKS)
        joined = found and _JOINED.fullmatch(
            text[words[found[-1].end - 1].end : word.begin]
        )
        alike = (
            len(before) in liked
            or bool(joined and found[-1].alike)
            or bool(grammar.like_after.match(text, words[end - 1].end))
        )
        marked = word.begin in quoted
        proper = _proper(words[place:end]) and not (end == place + 1 and idle[place])
        if marked or alike or proper:
            sure = marked or proper or end - place > 1
            found.append(TitleHint(place, end, ids, alike or marked, sure))
    return found


def _proper(words: Sequence[Word]) -> bool:
    """Return whether words are written as a name is."""
    return all(word.text[0].isupper() or len(word.text) < 4 for word in words) and (
        words[0].text[0].isupper()
    )


def _idle(
    text: str, words: Sequence[Word], names: Names, grammar: Grammar
) -> tuple[bool, ...]:
    """Return which words say nothing of an item."""
    small = (grammar.asks, grammar.no, grammar.not_no)
    asked = [found.span() for each in small for found in each.finditer(text)]
    places = {word.begin: place for place, word in enumerate(words)}
    for found in grammar.like.finditer(text):
        rest = text[found.end() :]
        place = places.get(len(text) - len(rest.lstrip(_MARKS)))
        if place is not None and names.title(words, place)[0] > place:
            asked.append(found.span())
    kinds = kinds_among(words) - names.telling(words)
    return tuple(
        (word.key in grammar.filler and not _hyphened(text, word))
        or place in kinds
        or any(begin <= word.begin < end for begin, end in asked)
        for place, word in enumerate(words)
    )


def _hyphened(text: str, word: Word) -> bool:
    """Return whether a word is joined to another, as in "feel-good"."""
    return "-" in (text[max(word.begin - 1, 0)], text[min(word.end, len(text) - 1)])
