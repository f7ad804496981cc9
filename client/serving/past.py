"""From what one user did to what it says of their taste: the newest word on an item."""

from collections.abc import Collection, Iterable
from typing import NamedTuple, Self

import numpy as np

from client.data import UserHistory
from client.serving.events import Event, is_against, strength
from client.serving.model import Ints
from client.serving.taste import Past
from shared.catalogue import Catalogue
from shared.errors import DataError

_LIKE = 1.0  # what it takes to bring back what was hidden
_CLICK = 0.5  # and what it takes to take back a skip or a low rating


class _Stand(NamedTuple):
    """How a user stands to an item."""

    strength: float = 0.0
    against: bool = False
    hidden: bool = False


class Stands:
    """How one user stands to every item that they met; later events are added.

    Of each item the newest word counts: what speaks against it takes back what spoke
    for it, and the other way round, if it is no less than a click. Nothing less than a
    like brings back what was hidden.
    """

    def __init__(self, history: UserHistory, catalogue: Catalogue) -> None:
        """Begin with what the site's data have, which is older than any live event.

        Args:
            history: Of the data, by places in the catalogue, oldest first.
            catalogue: What is served.
        """
        newest_likes = dict.fromkeys(history.items[history.likes][::-1].tolist())
        self._stands = dict.fromkeys(reversed(newest_likes), _Stand(strength=_LIKE))
        self._met: set[int] = set(history.items.tolist())
        self._catalogue = catalogue
        self._until = 0

    def __len__(self) -> int:
        return len(self._met)

    def takes(self, events: Iterable[Event]) -> bool:
        """Return whether events can be added: none is older than those that were.

        A review may come again with its sentiment: without, it said nothing.
        """
        return all(event.time >= self._until for event in events)

    def add(self, events: Iterable[Event]) -> Self:
        """Add live events, oldest first; on what is not served they say nothing."""
        for event in events:
            self._until = event.time
            place = place_of(event.item, self._catalogue)
            if place is None:
                continue
            self._met.add(place)
            said = _after(self._stands.get(place, _Stand()), event)
            if said is not None:
                self._stands.pop(place, None)
                self._stands[place] = said  # last: it is the newest now
        return self

    def past(self) -> Past:
        """Return what they come to."""
        newest = list(reversed(self._stands.items()))
        counting = [(place, stand) for place, stand in newest if stand.strength > 0]
        return Past(
            items=_ints([place for place, _ in counting]),
            strengths=np.array([stand.strength for _, stand in counting], np.float32),
            seen=_ints(sorted(self._met)),
            against=_ints([place for place, stand in newest if stand.against]),
            hidden=_ints([place for place, stand in newest if stand.hidden]),
        )


def past_of(
    history: UserHistory, events: Iterable[Event], catalogue: Catalogue
) -> Past:
    """Return a user's past from what the site's data and the store have.

    Args:
        history: Of the data, by places in the catalogue, oldest first.
        events: Live ones, oldest first; see ``Stands``.
        catalogue: What is served.
    """
    return Stands(history, catalogue).add(events).past()


def place_of(item: str, catalogue: Catalogue) -> int | None:
    """Return where an item stands, or None where it does not (yet)."""
    try:
        return catalogue.position(item) if item else None
    except DataError:
        return None


def _after(before: _Stand, event: Event) -> _Stand | None:
    """Return how a user stands to an item after an event; None if it says nothing."""
    said = strength(event)
    least = _LIKE if before.hidden else _CLICK if before.against else 0.0
    if is_against(event):
        return _Stand(against=True, hidden=before.hidden or event.kind == "hide")
    if said > 0 and said >= least:
        return _Stand(strength=max(said, before.strength))
    if event.rating is not None:
        return _Stand(hidden=before.hidden)  # neither good nor bad, whatever was before
    return None


def _ints(places: Collection[int]) -> Ints:
    return np.fromiter(places, np.int64, len(places))
