"""The serving store as feedback reads it: as it is at one moment, and never written."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client.serving.events import Event, Kind, strength
from client.serving.schema import read_only


@contextmanager
def opened(site: Path) -> Iterator[sqlite3.Connection]:
    """Read the store of the site in a folder; SQL may ask for an event's strength.

    ``strength(kind, rating, sentiment)`` is that of ``client/serving/events.py``.

    Raises:
        StoreFailed: If there is none, or it cannot be read.
    """
    with read_only(site) as db:
        db.create_function("strength", 3, _strength, deterministic=True)
        yield db


def newest_event(db: sqlite3.Connection) -> int:
    """Return the number of the newest event that the store ever had."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return int(row[0]) if row else 0


def _strength(kind: Kind, rating: float | None, sentiment: float) -> float:
    event = Event(id="", user="", kind=kind, rating=rating, time=0, sentiment=sentiment)
    return strength(event)
