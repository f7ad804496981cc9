"""From what is seen in a request to its parts: every word belongs to one at most.

Lists and rules propose, the head weighs: a proposal that the head holds for something
else falls. What no list knows, and the head holds for a value, is looked up by its
meaning. Words that are left say what the items should be about.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from client.serving.language.bounds import Bound
from client.serving.language.grammar import Grammar, Piece, refused
from client.serving.language.head import ABOUT, TITLE, WISH, Chances
from client.serving.language.hints import (
    BoundHint,
    DegreeHint,
    Hints,
    TitleHint,
    WishHint,
)
from client.serving.language.names import Match, Names, Target
from client.serving.numbers import span
from client.serving.understood import Leaning, Range, Term

# The least chance by the head at which a proposal stands.
SURE, UNSURE, ALONE = 0.08, 0.5, 0.6
A_TITLE, A_WISH, IDLE = 0.3, 0.2, 0.9

Nearest = Callable[[str, str], Target | None]  # words, attribute -> a value or none


@dataclass(slots=True)
class Parts:
    """The parts of one request.

    Attributes:
        wanted, unwanted, ranges, like, unlike, leanings: As in ``Understood``.
        compared: Leanings that look back at the last request, such as "newer".
        about: Places of words that are left, in order.
        taken: Places of words that are not.
    """

    wanted: list[Term] = field(default_factory=list)
    unwanted: list[Term] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)
    like: list[str] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)
    leanings: list[Leaning] = field(default_factory=list)
    compared: list[Leaning] = field(default_factory=list)
    about: list[int] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Choice:
    """A proposal that stands: where, as what, and for a match which values."""

    begin: int
    end: int
    hint: TitleHint | BoundHint | DegreeHint | WishHint | tuple[Target, ...]


def parse(
    text: str,
    hints: Hints,
    chances: Chances,
    names: Names,
    grammar: Grammar,
    nearest: Nearest,
) -> Parts:
    """Return the parts of a request."""
    parts, words = Parts(), hints.words
    chosen: list[Choice] = []
    for choice in _proposals(text, hints, chances, nearest):
        if all(choice.end <= it.begin or it.end <= choice.begin for it in chosen):
            chosen.append(choice)
    chosen.sort(key=lambda choice: choice.begin)
    pieces = [Piece(it.begin, it.end, _group(it)) for it in chosen]
    no = refused(text, words, pieces, grammar)
    for choice in chosen:
        said = text[words[choice.begin].begin : words[choice.end - 1].end]
        _add(parts, choice, said, names, against=no[choice.begin])
        parts.taken.update(range(choice.begin, choice.end))
    for title in hints.titles:
        places = range(title.begin, title.end)
        if no[title.begin] and title.sure and not parts.taken.intersection(places):
            parts.unlike.extend(title.ids)
            parts.taken.update(places)
    _leave(parts, text, hints, chances, grammar, no)
    return parts


def _proposals(
    text: str, hints: Hints, chances: Chances, nearest: Nearest
) -> Iterator[Choice]:
    """Yield what the head lets stand; what comes first has its words."""
    for title in hints.titles:
        likely = chances.span(TITLE, title.begin, title.end) >= A_TITLE
        if title.alike and (title.sure or likely):
            yield Choice(title.begin, title.end, title)
    for hint in (*hints.degrees, *hints.bounds):
        if hint.begin < hint.end:
            yield Choice(hint.begin, hint.end, hint)
    for match in sorted(hints.matches, key=lambda m: (m.begin - m.end, not m.sure)):
        if targets := _held(match, chances):
            yield Choice(match.begin, match.end, targets)
    for wish in hints.wishes:
        if chances.span(WISH, wish.begin, wish.end) >= A_WISH:
            yield Choice(wish.begin, wish.end, wish)
    yield from _by_meaning(text, hints, chances, nearest)


def _by_meaning(
    text: str, hints: Hints, chances: Chances, nearest: Nearest
) -> Iterator[Choice]:
    """Yield what the head alone holds for a value, if it is near one."""
    for begin, end, kind in chances.runs():
        likely = chances.span(kind, begin, end) >= ALONE
        if (
            likely
            and kind not in {ABOUT, WISH, TITLE}
            and not all(hints.idle[begin:end])
        ):
            said = text[hints.words[begin].begin : hints.words[end - 1].end]
            if target := nearest(said, kind):
                yield Choice(begin, end, (target,))


def _held(match: Match, chances: Chances) -> tuple[Target, ...]:
    """Return the values of a match that the head holds for likely, of one attribute."""
    held = {
        name: chances.span(name, match.begin, match.end) for name, _ in match.targets
    }
    best = max(held, key=lambda name: held[name])
    if held[best] < (SURE if match.sure else UNSURE):
        return ()
    return tuple(target for target in match.targets if target[0] == best)


def _group(choice: Choice) -> str:
    """Return by what a list of its like is told."""
    if isinstance(choice.hint, tuple):
        return choice.hint[0][0]
    return "bound" if isinstance(choice.hint, BoundHint) else "other"


def _add(
    parts: Parts, choice: Choice, said: str, names: Names, *, against: bool
) -> None:
    """Add a proposal that stands to the parts, refused or not."""
    match choice.hint:
        case tuple() as targets:
            terms = [Term(attribute=a, value=v, words=said) for a, v in targets]
            (parts.unwanted if against else parts.wanted).extend(terms)
        case TitleHint(ids=ids):
            (parts.unlike if against else parts.like).extend(ids)
            if against:
                parts.leanings.append(_meant(said, -1.0))
        case BoundHint(bound=bound):
            _bound(parts, bound, said, names, against=against)
        case WishHint() as hint:
            _wish(parts, choice, hint, names, against=against)
        case DegreeHint(weight=weight, words=words):
            parts.leanings.append(_meant(words, -weight if against else weight))


def _meant(words: str, weight: float) -> Leaning:
    return Leaning(toward="meaning", words=words, weight=weight)


def _bound(
    parts: Parts, bound: Bound, said: str, names: Names, *, against: bool
) -> None:
    """Add a bound; refused, it is the other side of it, or none of what it holds."""
    kept = bound.flipped() if against else bound
    if kept is None:
        parts.unwanted.extend(_within(bound.range(), said, names))
    else:
        parts.ranges.append(kept.range())


def _within(bound: Range, said: str, names: Names) -> list[Term]:
    """Return the values that lie within bounds, each as a term."""
    values = next(a.values for a in names.numbers if a.name == bound.attribute)
    low, high = bound.low or float("-inf"), bound.high or float("inf")
    read = ((value, span(value)) for value in values)
    return [
        Term(attribute=bound.attribute, value=value, words=said)
        for value, ends in read
        if ends and ends[0] <= high and ends[1] >= low
    ]


def _wish(
    parts: Parts, choice: Choice, hint: WishHint, names: Names, *, against: bool
) -> None:
    """Add an order; by popularity where ratings are not known, as words where no more.

    A site has no rating that is public unless its catalogue has one.
    """
    attribute = None
    if hint.wish.toward != "popularity":
        attribute = names.measured(hint.wish.toward)
        if attribute is None and hint.wish.toward != "rating":
            parts.about.extend(range(choice.begin, choice.end))
            return
    weight = -hint.wish.weight if against else hint.wish.weight
    toward = "popularity" if attribute is None else attribute.name
    leaning = Leaning(toward=toward, words=hint.words, weight=weight)
    (parts.compared if hint.wish.compares else parts.leanings).append(leaning)


def _leave(
    parts: Parts,
    text: str,
    hints: Hints,
    chances: Chances,
    grammar: Grammar,
    no: Sequence[bool],
) -> None:
    """Leave the words that say something: as the meaning, or as one to lean from."""
    words = hints.words
    left = [
        at
        for at in range(len(words))
        if at not in parts.taken and _says(at, hints, chances, grammar)
    ]
    for run in _runs([at for at in left if no[at]]):
        said = text[words[run[0]].begin : words[run[-1]].end]
        parts.leanings.append(_meant(said, -1.0))
        parts.taken.update(run)
    parts.about = sorted({*parts.about, *(at for at in left if not no[at])})
    parts.taken.difference_update(parts.about)


def _says(at: int, hints: Hints, chances: Chances, grammar: Grammar) -> bool:
    """Return whether a word that is left says what an item should be about."""
    word = hints.words[at]
    small = grammar.joins[0] | grammar.joins[1] | grammar.turns | grammar.ends
    if hints.idle[at] or word.text.casefold() in small:
        return False
    return float(chances.of[at, 0]) < IDLE


def _runs(places: Sequence[int]) -> list[list[int]]:
    """Return places in runs without gaps."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
