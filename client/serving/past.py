"""From what one user did to what it says of their taste: the newest word on an item."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from client.data import UserHistory
from client.serving.events import Event, is_against, strength
from client.serving.model import Ints
from client.serving.taste import Past
from shared.catalogue import Catalogue
from shared.errors import DataError

_LIKE = 1.0  # what it takes to bring back what was hidden


class _Stand(NamedTuple):
    """How a user stands to an item."""

    strength: float = 0.0
    against: bool = False
    hidden: bool = False


def past_of(
    history: UserHistory, events: Iterable[Event], catalogue: Catalogue
) -> Past:
    """Return a user's past from what the site's data and the store have.

    Of each item the newest word counts: what speaks against it takes back what spoke
    for it, and the other way round. Nothing less than a like brings back what was
    hidden. Live events are newer than the data, which may count time in any way.

    Args:
        history: Of the data, by places in the catalogue, oldest first.
        events: Live ones, oldest first; those on other items wait until these exist.
        catalogue: What is served.
    """
    newest_likes = dict.fromkeys(history.items[history.likes][::-1].tolist())
    stands = dict.fromkeys(reversed(newest_likes), _Stand(strength=_LIKE))
    met = set(history.items.tolist())
    for event in events:
        place = place_of(event.item, catalogue)
        if place is None:
            continue
        met.add(place)
        said = _after(stands.get(place, _Stand()), event)
        if said is not None:
            stands.pop(place, None)
            stands[place] = said  # last: it is the newest now
    newest = list(reversed(stands.items()))
    counting = [(place, stand) for place, stand in newest if stand.strength > 0]
    return Past(
        items=_ints(place for place, _ in counting),
        strengths=np.array([stand.strength for _, stand in counting], np.float32),
        seen=_ints(sorted(met)),
        against=_ints(place for place, stand in newest if stand.against),
        hidden=_ints(place for place, stand in newest if stand.hidden),
    )


def place_of(item: str, catalogue: Catalogue) -> int | None:
    """Return where an item stands, or None where it does not (yet)."""
    try:
        return catalogue.position(item) if item else None
    except DataError:
        return None


def _after(before: _Stand, event: Event) -> _Stand | None:
    """Return how a user stands to an item after an event; None if it says nothing."""
    said = strength(event)
    if is_against(event):
        return _Stand(against=True, hidden=before.hidden or event.kind == "hide")
    if said >= _LIKE or (said > 0 and not before.hidden):
        return _Stand(strength=max(said, before.strength))
    if event.rating is not None:
        return _Stand(hidden=before.hidden)  # neither good nor bad, whatever was before
    return None


def _ints(places: Iterable[int]) -> Ints:
    return np.fromiter(places, np.int64)
