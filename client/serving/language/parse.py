"""From what is seen in a request to its parts: every word belongs to one at most.

Lists and rules propose, the head weighs: a proposal that the head holds for something
else falls. What no list knows, and the head holds for a value, is looked up by its
meaning. Words that are left say what the items should be about.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from client.serving.language.bounds import Bound
from client.serving.language.grammar import Grammar
from client.serving.language.head import ABOUT, TITLE, WISH, Chances
from client.serving.language.hints import (
    BoundHint,
    DegreeHint,
    Hints,
    TitleHint,
    WishHint,
)
from client.serving.language.names import Match, Names, Target
from client.serving.language.refusal import BOUND, Piece, refused
from client.serving.numbers import span
from client.serving.understood import Leaning, Range, Term

# The least chance by the head at which a proposal stands.
SURE, UNSURE, ALONE = 0.05, 0.5, 0.6
A_TITLE, A_WISH, IDLE = 0.3, 0.1, 0.98

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
    chosen = _apart(_proposals(hints, chances, names), ())
    chosen = _apart(_by_meaning(text, hints, chances, chosen, nearest), chosen)
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
    parts.ranges = _joined(parts.ranges)
    _leave(parts, text, hints, chances, grammar, no)
    return parts


def _apart(proposals: Iterable[Choice], chosen: Sequence[Choice]) -> list[Choice]:
    """Return what is chosen and those proposals whose words are free, in order."""
    kept = list(chosen)
    for choice in proposals:
        if _free(choice.begin, choice.end, kept):
            kept.append(choice)
    return sorted(kept, key=lambda choice: choice.begin)


def _free(begin: int, end: int, chosen: Sequence[Choice]) -> bool:
    return begin < end and all(end <= it.begin or it.end <= begin for it in chosen)


def _proposals(hints: Hints, chances: Chances, names: Names) -> Iterator[Choice]:
    """Yield what the head lets stand; what comes first has its words."""
    for title in hints.titles:
        likely = chances.span(TITLE, title.begin, title.end) >= A_TITLE
        long = title.end - title.begin > 1
        if (title.alike and (title.sure or likely)) or (title.sure and long):
            yield Choice(title.begin, title.end, title)
    yield from (Choice(each.begin, each.end, each) for each in hints.degrees)
    yield from (Choice(each.begin, each.end, each) for each in hints.bounds)
    for match in sorted(hints.matches, key=_rank):
        if targets := _held(match, hints, chances, names.kinds):
            yield Choice(match.begin, match.end, targets)
    for wish in hints.wishes:
        if chances.span(WISH, wish.begin, wish.end) >= A_WISH:
            yield Choice(wish.begin, wish.end, wish)


def _rank(match: Match) -> tuple[bool, int]:
    """Return what comes first: whole names before others, then the longer ones."""
    return match.by != "name", match.begin - match.end


def _by_meaning(
    text: str,
    hints: Hints,
    chances: Chances,
    chosen: Sequence[Choice],
    nearest: Nearest,
) -> Iterator[Choice]:
    """Yield what the head alone holds for a value, if it is near one.

    It may take another pass of the encoder, so words that are taken are passed over.
    """
    for begin, end, kind in chances.runs():
        free = _free(begin, end, chosen) and not all(hints.idle[begin:end])
        named = free and kind not in {ABOUT, WISH, TITLE}
        if named and chances.span(kind, begin, end) >= ALONE:
            said = text[hints.words[begin].begin : hints.words[end - 1].end]
            if target := nearest(said, kind):
                yield Choice(begin, end, (target,))


def _held(
    match: Match, hints: Hints, chances: Chances, kinds: Collection[str]
) -> tuple[Target, ...]:
    """Return the values of a match that the head holds for likely, of one attribute.

    A kind of item is one wherever it is named.
    """
    held = {
        name: chances.span(name, match.begin, match.end) for name, _ in match.targets
    }
    best = max(held, key=lambda name: held[name])
    broken = match.by == "slip" and any(hints.broken[match.begin : match.end])
    least = SURE if match.by == "name" or broken else UNSURE
    if held[best] < least and not (best in kinds and match.by == "name"):
        return ()
    return tuple(target for target in match.targets if target[0] == best)


def _group(choice: Choice) -> str:
    """Return by what a list of its like is told."""
    if isinstance(choice.hint, tuple):
        return choice.hint[0][0]
    return BOUND if isinstance(choice.hint, BoundHint) else "other"


def _add(
    parts: Parts, choice: Choice, said: str, names: Names, *, against: bool
) -> None:
    """Add a proposal that stands to the parts, refused or not."""
    match choice.hint:
        case tuple() as targets:
            terms = [Term(attribute=a, value=v, words=said) for a, v in targets]
            (parts.unwanted if against else parts.wanted).extend(terms)
        case TitleHint() as title:
            _title(parts, title, said, against=against)
        case BoundHint(bound=bound):
            _bound(parts, bound, said, names, against=against)
        case WishHint() as hint:
            _wish(parts, choice, hint, names, against=against)
        case DegreeHint(degree=degree, words=words):
            weight = -degree.weight if against else degree.weight
            parts.leanings.append(_meant(words, weight))


def _title(parts: Parts, title: TitleHint, said: str, *, against: bool) -> None:
    """Add a title; one that nothing is said of is a subject, and found by its words."""
    if against:
        parts.unlike.extend(title.ids)
    elif title.alike:
        parts.like.extend(title.ids)
    else:
        parts.about.extend(range(title.begin, title.end))
    if against and title.alike:
        parts.leanings.append(_meant(said, -1.0))


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


def _joined(ranges: Sequence[Range]) -> list[Range]:
    """Return one range for each attribute.

    Bounds that no number meets together are alternatives: "the 30s, maybe the 50s" is
    from 1930 to 1959.
    """
    joined: dict[str, Range] = {}
    for new in ranges:
        old = joined.get(new.attribute)
        if old is None:
            joined[new.attribute] = new
            continue
        lows = [each.low for each in (old, new) if each.low is not None]
        highs = [each.high for each in (old, new) if each.high is not None]
        low, high = max(lows, default=None), min(highs, default=None)
        if low is not None and high is not None and low > high:
            low, high = min(lows), max(highs)
        words = f"{old.words}, {new.words}"
        joined[new.attribute] = replace(new, low=low, high=high, words=words)
    return list(joined.values())


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
    weight = -hint.weight if against else hint.weight
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
