"""What a language's own file says of it.

The rules are small and public; they decide what is hard, so they are written down
rather than learned.
"""

import re
from dataclasses import dataclass
from typing import Literal

from client.serving.language.bounds import BoundWords
from client.serving.language.names import Measure

Toward = Measure | Literal["popularity"]


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


@dataclass(frozen=True, slots=True)
class Degree:
    """Words for more or less of something, in group ``words``, such as "less violent".

    Attributes:
        pattern: The words.
        weight: 1 for more of it, -1 for less.
        plain: Whether they ask for a value where they name one: "more comedies".
    """

    pattern: re.Pattern[str]
    weight: float
    plain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """The small words of one language.

    Attributes:
        language: ``en`` or ``zh``.
        bounds: How it gives bounds.
        wishes: How it orders by a measure.
        degrees: How it asks for more and less.
        no: What refuses the words after it.
        not_no: What only looks like it.
        like: What comes before the title of an item that others should resemble.
        like_after: What comes after it, as in "Star Wars type".
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
    degrees: tuple[Degree, ...]
    no: re.Pattern[str]
    not_no: re.Pattern[str]
    like: re.Pattern[str]
    like_after: re.Pattern[str]
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
