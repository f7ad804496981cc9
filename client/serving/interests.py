"""What one user is interested in, by that user's own events; and their own say in it.

An interest is a topic of the catalogue or a value of an attribute. Nothing here looks
at another user: an interest is a user's share of events against the catalogue's share
of items. Who pins, mutes or forgets one changes what they are served next.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from client.data import UserHistory
from client.serving.events import Event, is_against, strength
from client.serving.model import Ints, Served
from client.serving.past import past_of, place_of
from client.serving.records import Edit, State
from client.serving.taste import Past
from client.serving.topics import Topics
from shared.protocol import Array

HALF_LIFE = 20  # of an event: so many later ones of the user that say something
AT_FIRST = 2.0  # events like the catalogue that every user is taken to begin with
FEWEST_ITEMS = 2  # a value that fewer items have is no interest
LEAST, MOST = 0.02, 30  # lowest weight that is told, and how many interests
AGAINST = {"hide": -1.0, "skip": -0.25}
LOW_RATING = -0.5
PINNED = 0.05  # of the recipe's temperature: about what parts places 1 and 10
SEARCHED = 0.03  # of it, for the newest search; half as much for each one before it
MUTED = -3.0  # of it: more than text, CF and prior together are apart
NEVER = np.iinfo(np.int64).min
_NO_HISTORY = UserHistory(
    user="",
    items=np.zeros(0, np.int64),
    times=np.zeros(0, np.int64),
    likes=np.zeros(0, np.bool_),
)


class Adjustment(NamedTuple):
    """What an edited interest adds to the score of every item, [n]."""

    key: str
    name: str
    amount: Array


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Interest:
    """One interest of one user.

    Attributes:
        key: What an edit names it by, such as ``topic:Sci-Fi, Action`` or
            ``attribute:genres:Sci-Fi``.
        name: For a person.
        kind: ``topic`` or ``attribute``.
        weight: From 0; 1 for a user who only ever meets this, which hardly any item is.
        before: What the weight was ``HALF_LIFE`` events ago, which tells its drift.
        state: What the user said of it.
    """

    key: str
    name: str
    kind: Literal["topic", "attribute"]
    weight: float
    before: float
    state: State

    def __repr__(self) -> str:
        return "Interest(not shown)"


def says(event: Event) -> float:
    """Return how much an event says for its item; below 0 it speaks against it.

    The words of a review weigh half as much as the rating that came with it.
    """
    if is_against(event):
        low = event.rating is not None
        said = LOW_RATING if low else AGAINST.get(event.kind, event.sentiment)
    else:
        said = strength(event)
    return said + event.sentiment / 2 if event.rating is not None else said


def interests_of(
    events: Iterable[Event], edits: Mapping[str, Edit], model: Served, topics: Topics
) -> tuple[Interest, ...]:
    """Return a user's interests, strongest first; those that were edited always.

    A weight is ``e / (e + AT_FIRST)`` of the excess ``(share - p) / (1 - p)``: e is how
    much the events say, each halved for every half-life of its age, share the part of
    it that falls on the interest, and p the catalogue's part of items. Age is the
    number of later events: whoever comes back after a year finds their interests as
    they left them, and the data may count time in any way.

    Args:
        events: Of the user, newest first; an item that the model lacks is passed over.
        edits: Interest key -> what the user said of it.
        model: With the items.
        topics: Of these items.
    """
    met = _met(events, edits, model, topics)
    weights = _weights(met, model, topics)
    before = _weights(met[HALF_LIFE:], model, topics)
    edited = [key for key, edit in edits.items() if edit.state != "none"]
    told = sorted((key for key, w in weights.items() if w >= LEAST), key=_by(weights))
    keys = dict.fromkeys([*told[:MOST], *edited])
    return tuple(
        Interest(
            key=key,
            name=found[0],
            kind="topic" if key.startswith("topic:") else "attribute",
            weight=round(weights.get(key, 0.0), 4),
            before=round(before.get(key, 0.0), 4),
            state=edits[key].state if key in edits else "none",
        )
        for key in sorted(keys, key=_by(weights))
        if (found := _found(key, model, topics)) is not None
    )


def members(key: str, model: Served, topics: Topics) -> Ints | None:
    """Return the places of an interest's items, or None if there is no such one."""
    found = _found(key, model, topics)
    return found and found[1]


def adjustment(
    edits: Mapping[str, Edit],
    model: Served,
    topics: Topics,
    asked: Collection[str] = (),
) -> tuple[Adjustment, ...]:
    """Return what pinned and muted interests add to every item's score.

    A muted one falls behind everything else, yet keeps its order: where a filter leaves
    nothing but muted items, they come as if nobody had muted them.

    Args:
        edits: Interest key -> what the user said of it.
        model: With the items.
        topics: Of these items.
        asked: Keys of interests that the request itself asks for: not muted this time.
    """
    amounts = {"pinned": PINNED, "muted": MUTED}
    adjusted = []
    for key, edit in edits.items():
        found = _found(key, model, topics)
        let = edit.state == "muted" and key in asked
        if edit.state not in amounts or found is None or let:
            continue
        name, places = found
        amount = np.zeros(len(model), np.float32)
        amount[places] = amounts[edit.state] * model.recipe.temperature
        adjusted.append(Adjustment(key, name, amount))
    return tuple(adjusted)


def searched(
    keys: Sequence[str], model: Served, topics: Topics
) -> tuple[Adjustment, ...]:
    """Return what a user's searches add to every item's score.

    Args:
        keys: Of the interests that they named, newest first.
        model: With the items.
        topics: Of these items.
    """
    adjusted = []
    for age, key in enumerate(keys):
        found = _found(key, model, topics)
        if found is not None:
            amount = np.zeros(len(model), np.float32)
            amount[found[1]] = SEARCHED * model.recipe.temperature * 0.5**age
            adjusted.append(Adjustment(key, found[0], amount))
    return tuple(adjusted)


def without(
    past: Past,
    events: Sequence[Event],
    edits: Mapping[str, Edit],
    model: Served,
    topics: Topics,
) -> Past:
    """Return a past in which what a user forgot says nothing of their taste any more.

    Guarantee: an event on an item of a forgotten interest, no later than the
    forgetting, has no part in ``items``, ``strengths`` and ``against``. Items that were
    seen stay seen, and hidden ones hidden.

    Args:
        past: Of the user.
        events: All that ``past`` was made of, newest first.
        edits: Interest key -> what the user said of it.
        model: With the items.
        topics: Of these items.
    """
    until = _forgotten(edits, model, topics)
    if until.max(initial=NEVER) == NEVER:
        return past
    left = [e for e in reversed(events) if _counts(e, until, model)]
    made = past_of(_NO_HISTORY, left, model.catalogue)
    return replace(made, seen=past.seen, hidden=past.hidden)


def _found(key: str, model: Served, topics: Topics) -> tuple[str, Ints] | None:
    """Return an interest's name for a person and the places of its items."""
    kind, _, rest = key.partition(":")
    if kind == "topic" and rest in topics.names:
        number = topics.names.index(rest)
        return rest, np.flatnonzero(topics.of_item == number)
    if kind == "attribute":
        for name, values in model.attributes.items():
            value = rest[len(name) + 1 :]
            if rest.startswith(f"{name}:") and value in values:
                return value, values[value]
    return None


def _by(weights: Mapping[str, float]) -> Callable[[str], tuple[float, str]]:
    """Return an order: the greatest weight first, equal ones by key."""
    return lambda key: (-weights.get(key, 0.0), key)


def _forgotten(edits: Mapping[str, Edit], model: Served, topics: Topics) -> Ints:
    """Return until when events on each item are forgotten, [n], or ``NEVER``."""
    until = np.full(len(model), NEVER)
    for key, edit in edits.items():
        places = members(key, model, topics) if edit.state == "forgotten" else None
        if places is not None:
            until[places] = np.maximum(until[places], edit.time)
    return until


def _counts(event: Event, until: Ints, model: Served) -> bool:
    """Return whether an event is on an item, and later than its forgetting.

    An event of the data, which has no id, came before anything that is live: the data
    may count time in any way.
    """
    place = place_of(event.item, model.catalogue)
    if place is None:
        return False
    return bool(event.time > until[place] if event.id else until[place] == NEVER)


def _met(
    events: Iterable[Event], edits: Mapping[str, Edit], model: Served, topics: Topics
) -> list[tuple[int, float]]:
    """Return place and amount of each event that says something, in its order."""
    until = _forgotten(edits, model, topics)
    met = []
    for event in events:
        amount = says(event)
        if amount and _counts(event, until, model):
            place = model.catalogue.position(event.item)
            met.append((place, amount))
    return met


def _weights(
    met: Sequence[tuple[int, float]], model: Served, topics: Topics
) -> dict[str, float]:
    """Return the weight of every interest that the events speak for, newest first."""
    whole, parts = 0.0, dict[str, float]()
    for age, (place, amount) in enumerate(met):
        left = amount * 0.5 ** (age / HALF_LIFE)
        whole += max(0.0, left)
        for key in _keys(place, model, topics):
            parts[key] = parts.get(key, 0.0) + left
    weights = {}
    for key, part in parts.items():
        places = members(key, model, topics)
        if places is None or not FEWEST_ITEMS <= len(places) < len(model):
            continue
        usual = len(places) / len(model)
        excess = (part - usual * whole) / (1 - usual)
        weights[key] = max(0.0, excess) / (whole + AT_FIRST)
    return weights


def _keys(place: int, model: Served, topics: Topics) -> list[str]:
    """Return the interests that an item belongs to."""
    return [
        f"topic:{topics.names[topics.of_item[place]]}",
        *(
            f"attribute:{name}:{value}"
            for name, values in model.catalogue.attributes.items()
            for value in dict.fromkeys(values[place])
        ),
    ]
