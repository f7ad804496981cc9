"""What a language's own file says of it, and how far a "no" reaches.

The rules are small and public; they decide what is hard, so they are written down
rather than learned.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from client.serving.language.bounds import BoundWords
from client.serving.language.names import Measure
from client.serving.language.spelling import Word

Toward = Measure | Literal["popularity"]
FURTHEST = 9  # words that one "no" reaches


@dataclass(frozen=True, slots=True)
class Wish:
    """Words that order by a measure, such as "newer" or "well known".

    Attributes:
        pattern: The words.
        toward: What they order by.
        weight: 1 for more of it, -1 for less.
        compares: Whether they look back at the last request, as "newer" does.
    """

    pattern: re.Pattern[str]
    toward: Toward
    weight: float
    compares: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """The small words of one language.

    Attributes:
        language: ``en`` or ``zh``.
        bounds: How it gives bounds.
        wishes: How it orders by a measure.
        degrees: Patterns for more (1) and less (-1) of the words in group ``words``.
        no: What refuses the words after it.
        not_no: What only looks like it.
        like: What comes before the title of an item that others should resemble.
        ends: Words that end the reach of a "no".
        turns: Words that end it once it has refused something.
        joins: Words that carry it on to the next name; the last of them ("and") only
            between names of one attribute.
        breaks: Marks that end it.
        lists: Marks between names of a list.
        filler: Keys of words that say nothing of an item.
        asks: Phrases that say nothing of an item.
        only, instead, restart: What begins anew in part or in whole.
        also: What adds to the last request where it would else replace.
        drops: Patterns that take back a constraint, which group ``what`` names.
    """

    language: Literal["en", "zh"]
    bounds: BoundWords
    wishes: tuple[Wish, ...]
    degrees: tuple[tuple[float, re.Pattern[str]], ...]
    no: re.Pattern[str]
    not_no: re.Pattern[str]
    like: re.Pattern[str]
    ends: frozenset[str]
    turns: frozenset[str]
    joins: tuple[frozenset[str], frozenset[str]]
    breaks: re.Pattern[str]
    lists: re.Pattern[str]
    filler: frozenset[str]
    asks: re.Pattern[str]
    only: re.Pattern[str]
    instead: re.Pattern[str]
    restart: re.Pattern[str]
    also: re.Pattern[str]
    drops: tuple[re.Pattern[str], ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of words that was understood as one thing.

    Attributes:
        begin, end: Places of its first word and after its last.
        group: What a list of its like is told by, such as its attribute.
    """

    begin: int
    end: int
    group: str


def refused(
    text: str, words: Sequence[Word], pieces: Sequence[Piece], grammar: Grammar
) -> list[bool]:
    """Return which words a "no" reaches.

    Args:
        text: The request.
        words: Its words.
        pieces: What is understood already, in order and apart from each other.
        grammar: Of its language.
    """
    reached = [False] * len(words)
    inside = {at: piece for piece in pieces for at in range(piece.begin, piece.end)}
    spared = [found.span() for found in grammar.not_no.finditer(text)]
    for no in grammar.no.finditer(text):
        start = next((at for at, w in enumerate(words) if w.begin >= no.end()), None)
        swallowed = any(begin <= no.start() < end for begin, end in spared)
        at_no = next((at for at, w in enumerate(words) if w.begin >= no.start()), 0)
        if start is None or swallowed or at_no in inside:
            continue
        for at in range(start, _reach(text, words, inside, grammar, start)):
            reached[at] = True
    return reached


def _reach(
    text: str,
    words: Sequence[Word],
    inside: dict[int, Piece],
    grammar: Grammar,
    start: int,
) -> int:
    """Return the place after the last word that a "no" before ``start`` reaches."""
    last: str | None = None  # the group of what is refused last; "" for plain words
    at = start
    while at < min(len(words), start + FURTHEST):
        piece, key = inside.get(at), words[at].text.casefold()
        mark = text[words[at - 1].end : words[at].begin] if at > start else ""
        if grammar.breaks.search(mark) or key in grammar.ends:
            return at
        if grammar.lists.search(mark) and not _listed(words, inside, grammar, at):
            return at
        group = piece.group if piece else ""
        if piece is None and last is not None:
            if key in grammar.turns:
                return at
            if key in grammar.joins[1] and not _alike(words, inside, grammar, at, last):
                return at
        if piece is not None and group == "bound" and last is not None:
            return at
        at = piece.end if piece else at + 1
        if piece or not _says_nothing(key, words[at - 1].key, grammar):
            last = group
    return at


def _says_nothing(text: str, key: str, grammar: Grammar) -> bool:
    joins = grammar.joins[0] | grammar.joins[1]
    return key in grammar.filler or text in grammar.turns or text in joins


def _listed(
    words: Sequence[Word], inside: dict[int, Piece], grammar: Grammar, at: int
) -> bool:
    """Return whether names from here on are a list that ends in "or"."""
    while at < len(words):
        if words[at].text.casefold() in grammar.joins[0]:
            return True
        if at not in inside:
            return False
        at = inside[at].end
    return False


def _alike(
    words: Sequence[Word],
    inside: dict[int, Piece],
    grammar: Grammar,
    at: int,
    last: str,
) -> bool:
    """Return whether the word after an "and" is refused too."""
    if at + 1 >= len(words):
        return False
    following = inside.get(at + 1)
    if following is not None or last:
        return following is not None and following.group == last
    text = words[at + 1].text.casefold()
    return not (
        text in grammar.turns
        or text in grammar.ends
        or words[at + 1].key in grammar.filler
    )
