"""The serving store's SQL, and rows as the values that the rest of serving knows."""

import json
from collections.abc import Sequence
from typing import Any

from client.serving.added_items import NewItem
from client.serving.events import Event
from client.serving.records import ShownList

ADD_EVENT = """
INSERT INTO events (id, user, kind, item, rating, time, shown, sentiment)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user, id) DO NOTHING"""
SCORE = """
INSERT OR REPLACE INTO events (id, user, kind, item, rating, time, shown, sentiment)
SELECT id, user, kind, item, rating, time, shown, ? FROM events
WHERE user = ? AND id = ? AND kind = 'review' AND sentiment = 0 AND rating IS NULL"""
SCORE_RATED = """
UPDATE events SET sentiment = ?
WHERE user = ? AND id = ? AND kind = 'review' AND sentiment = 0 AND rating NOT NULL"""
EVENTS_OF = "SELECT * FROM events WHERE user = ? AND n > ? ORDER BY n"

EDIT = "INSERT OR REPLACE INTO edits (user, interest, state, time) VALUES (?, ?, ?, ?)"
DROP_EDITS = "DELETE FROM edits WHERE user = ? AND state = 'none'"
EDITS_OF = "SELECT interest, state, time FROM edits WHERE user = ? ORDER BY n"

ADD_SEARCH = """
INSERT INTO searches (user, event, interest) SELECT ?, ?, ?
WHERE EXISTS (SELECT 1 FROM events WHERE user = ? AND id = ? AND kind = 'search')
ON CONFLICT (user, event, interest) DO NOTHING"""
SEARCHES_OF = """
SELECT interest FROM searches WHERE user = ? GROUP BY interest ORDER BY MAX(n) DESC
LIMIT ?"""

DROP_DECLARED = "DELETE FROM people WHERE user = ?"
DECLARE = "INSERT INTO people (user, attribute, value) VALUES (?, ?, ?)"
DECLARED_BY = "SELECT attribute, value FROM people WHERE user = ? ORDER BY n"

PUT_ITEM = """
INSERT OR REPLACE INTO items (id, text, attributes, time) VALUES (?, ?, ?, ?)"""
ITEMS_SINCE = "SELECT n, id, text, attributes FROM items WHERE n > ? ORDER BY n"

SHOW = """
INSERT INTO shown (id, time, user, release, segment, alpha, explore, arms, items)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""
PRUNE = """
DELETE FROM shown WHERE n IN (SELECT n FROM shown WHERE time < ? LIMIT ?)"""

HAS = """
SELECT EXISTS (SELECT 1 FROM events WHERE user = :user)
OR EXISTS (SELECT 1 FROM edits WHERE user = :user)
OR EXISTS (SELECT 1 FROM people WHERE user = :user)
OR EXISTS (SELECT 1 FROM shown WHERE user = :user AND user <> '')"""
USERS = """
SELECT user FROM events WHERE user > :after
UNION SELECT user FROM edits WHERE user > :after
UNION SELECT user FROM people WHERE user > :after
UNION SELECT user FROM shown WHERE user > :after AND user <> ''
ORDER BY user LIMIT :limit"""


def event_row(event: Event) -> tuple[object, ...]:
    """Return the values of ``ADD_EVENT``."""
    return (
        *(event.id, event.user, event.kind, event.item, event.rating),
        *(event.time, event.shown, event.sentiment),
    )


def event_of(row: Sequence[Any]) -> Event:
    """Return an event from a row of the table; of its text nothing was kept."""
    _, name, user, kind, item, rating, time, shown, sentiment = row
    return Event(
        id=name,
        user=user,
        kind=kind,
        item=item,
        rating=rating,
        time=time,
        shown=shown,
        sentiment=sentiment,
    )


def item_row(item: NewItem, time: int) -> tuple[object, ...]:
    """Return the values of ``PUT_ITEM``."""
    return item.id, item.text, json.dumps(dict(item.attributes)), time


def item_of(row: Sequence[Any]) -> NewItem:
    """Return an item from a row of ``ITEMS_SINCE``."""
    _, name, text, attributes = row
    values = {key: tuple(value) for key, value in json.loads(attributes).items()}
    return NewItem(id=name, text=text, attributes=values)


def list_row(shown: ShownList) -> tuple[object, ...]:
    """Return the values of ``SHOW``."""
    items = [(i.item, i.team, i.explored, i.propensity) for i in shown.items]
    return (
        *(shown.id, shown.time, shown.user, shown.release, shown.segment),
        *(shown.alpha, shown.explore, json.dumps(shown.arms), json.dumps(items)),
    )
