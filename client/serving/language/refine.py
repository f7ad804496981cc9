"""A follow-up turn: what it takes from the last request, adds to it and takes back.

"Newer" moves the last bounds or leans beyond them, "only", "not" and "less" refine,
"forget the genre" drops. A request that names a kind of item and more starts anew.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from client.serving.language.bounds import moved
from client.serving.language.grammar import Grammar
from client.serving.language.names import Names, kinds_among
from client.serving.language.spelling import key_of, split
from client.serving.understood import Leaning, Range, Term, Understood

MOST_LEANINGS = 8  # that a conversation keeps, the latest
LONGEST_MEANING = 500  # characters of what it is about


def believed(before: Understood, names: Names) -> Understood:
    """Return what of an earlier request this catalogue can hold.

    It comes back from outside, and the catalogue may be another one by now: what it
    does not have is dropped, numbers are finite, weights within 1, and words few.
    """
    every = {each.name for each in names.attributes}
    numbers = {each.name for each in names.numbers}
    return replace(
        before,
        wanted=tuple(each for each in before.wanted if each.attribute in every),
        unwanted=tuple(each for each in before.unwanted if each.attribute in every),
        ranges=tuple(
            each
            for each in before.ranges
            if each.attribute in numbers
            and all(math.isfinite(end or 0.0) for end in (each.low, each.high))
        ),
        leanings=tuple(
            replace(each, weight=max(-1.0, min(1.0, each.weight)))
            for each in before.leanings[-MOST_LEANINGS:]
            if each.toward in {*numbers, "popularity", "meaning"}
            and math.isfinite(each.weight)
        ),
        meaning=before.meaning[:LONGEST_MEANING],
    )


def take_back(
    text: str, before: Understood, names: Names, grammar: Grammar
) -> tuple[str, Understood]:
    """Return what is left of a text, and of the last request, after "forget ...".

    The words are blanked, so that all others keep their places.
    """
    for pattern in grammar.drops:
        for found in pattern.finditer(text):
            dropped = _dropped(found["what"], before, names)
            if dropped is not None:
                before = dropped
                blank = " " * (found.end() - found.start())
                text = text[: found.start()] + blank + text[found.end() :]
    return text, before


def starts_anew(text: str, now: Understood, grammar: Grammar) -> bool:
    """Return whether a text asks for something else, whatever was asked before."""
    if grammar.restart.search(text):
        return True
    looks_back = (grammar.only, grammar.also, grammar.instead)
    if any(pattern.search(text) for pattern in looks_back):
        return False
    asked = len(now.wanted) + len(now.ranges) + len(now.like) + 2 * bool(now.meaning)
    return (
        bool(kinds_among(split(text)))
        and asked > 1
        and not any(each.weight < 0 for each in now.leanings)
    )


def refined(
    text: str,
    before: Understood,
    now: Understood,
    compared: Sequence[Leaning],
    names: Names,
    grammar: Grammar,
) -> Understood:
    """Return the last request as a new one refines it; its sentence is to be made.

    Args:
        text: The new request.
        before: The last one.
        now: The new one by itself.
        compared: Its wishes that look back, such as "newer".
        names: Of the catalogue.
        grammar: Of the new request's language.
    """
    also = bool(grammar.also.search(text))
    instead = bool(grammar.instead.search(text))
    ranges, leanings = _ranges(before.ranges, now.ranges), [*now.leanings]
    for wish in compared:
        further = _moved(ranges, wish, names)
        if further is None:
            leanings.append(wish)
        else:
            ranges = _ranges(ranges, [further])
    like = now.like if instead and now.like else (*before.like, *now.like)
    return replace(
        now,
        wanted=_wanted(before.wanted, now, also=also),
        unwanted=_unwanted(before.unwanted, now),
        ranges=tuple(ranges),
        unlike=_once((*before.unlike, *now.unlike)),
        like=tuple(item for item in _once(like) if item not in now.unlike),
        leanings=_leanings(before.leanings, leanings),
        meaning=_meaning(before.meaning, now, instead=instead),
    )


def _dropped(what: str, before: Understood, names: Names) -> Understood | None:
    """Return a request without what words name; None if they name nothing of it."""
    parts = re.split(r"[\s-]", what)
    for said in (what, parts[0], parts[-1]):
        key = key_of(said)
        values = {value for _, value in names.value(said)}
        for attribute in names.attributes:
            if key in attribute.called:
                return _without(before, attribute.name)
        kept = tuple(term for term in before.wanted if term.value not in values)
        still = tuple(term for term in before.unwanted if term.value not in values)
        if len(kept) + len(still) < len(before.wanted) + len(before.unwanted):
            return replace(before, wanted=kept, unwanted=still)
    return None


def _without(before: Understood, name: str) -> Understood:
    """Return a request without any constraint on one attribute."""
    return replace(
        before,
        wanted=tuple(each for each in before.wanted if each.attribute != name),
        unwanted=tuple(each for each in before.unwanted if each.attribute != name),
        ranges=tuple(each for each in before.ranges if each.attribute != name),
        leanings=tuple(each for each in before.leanings if each.toward != name),
    )


def _wanted(old: Sequence[Term], now: Understood, *, also: bool) -> tuple[Term, ...]:
    """Return old terms and new ones; a new one replaces those of its attribute."""
    refused = {(term.attribute, term.value) for term in now.unwanted}
    renewed = set() if also else {term.attribute for term in now.wanted}
    kept = [
        term
        for term in old
        if term.attribute not in renewed and (term.attribute, term.value) not in refused
    ]
    return distinct([*kept, *now.wanted])


def _unwanted(old: Sequence[Term], now: Understood) -> tuple[Term, ...]:
    asked = {(term.attribute, term.value) for term in now.wanted}
    kept = [term for term in old if (term.attribute, term.value) not in asked]
    return distinct([*kept, *now.unwanted])


def _ranges(old: Sequence[Range], new: Sequence[Range]) -> list[Range]:
    """Return new bounds, and old ones that they leave standing."""
    return [*(each for each in old if not any(_ends(n, each) for n in new)), *new]


def _ends(new: Range, old: Range) -> bool:
    """Return whether new bounds replace old ones, rather than meet them half-way."""
    if new.attribute != old.attribute:
        return False
    if new.low is not None and new.high is None and old.low is None:
        return old.high is None or new.low > old.high
    if new.high is not None and new.low is None and old.high is None:
        return old.low is None or new.high < old.low
    return True


def _moved(ranges: Sequence[Range], wish: Leaning, names: Names) -> Range | None:
    attributes = {each.name: each for each in names.numbers}
    for old in ranges:
        if old.attribute == wish.toward:
            way = 1 if wish.weight > 0 else -1
            further = moved(old, way, attributes[old.attribute])
            return None if further is None else replace(further, words=wish.words)
    return None


def _leanings(old: Sequence[Leaning], new: Sequence[Leaning]) -> tuple[Leaning, ...]:
    """Return old wishes and new ones; a new one replaces its like."""
    renewed = {_matter(each) for each in new}
    kept = [each for each in old if _matter(each) not in renewed]
    return tuple([*kept, *new][-MOST_LEANINGS:])


def _matter(leaning: Leaning) -> str:
    words = key_of(leaning.words) if leaning.toward == "meaning" else ""
    return f"{leaning.toward} {words}"


def _meaning(old: str, now: Understood, *, instead: bool) -> str:
    if not now.meaning or not old or instead:
        return now.meaning or old
    return f"{old}, {now.meaning}"[-LONGEST_MEANING:]


def distinct(terms: Iterable[Term]) -> tuple[Term, ...]:
    """Return one term for each value."""
    return tuple({(term.attribute, term.value): term for term in terms}.values())


def _once(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))
