"""Which of two interleaved ways to serve each user chose, as one vote of length 1.

A list is won by the side that gave more of the items that the user then clicked, liked,
bought or rated well; a tie is no vote. An event counts only for a list that was shown
to the very user it is of, so nobody votes through another's list.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from client.forgotten import Forgotten
from client.serving.feedback.arms import NAMES
from client.serving.feedback.segments import SEGMENTS
from client.serving.feedback.tallies import SHAPE
from client.serving.feedback.thompson import Floats

VOTE = 2**-0.5  # each of the two entries of a user who chose once
TEAMS = ("a", "b")

_CREDITED = """
SELECT events.user, events.item, shown.id, shown.segment, shown.arms, shown.items
FROM events JOIN shown ON shown.id = events.shown AND shown.user = events.user
WHERE events.n > ? AND events.n <= ? AND events.user <> '' AND shown.arms <> '[]'
    AND shown.time >= ?
    AND strength(events.kind, events.rating, events.sentiment) > 0"""


@dataclass(frozen=True, slots=True, repr=False)
class Compared:
    """One interleaved list: what it compared, and what was chosen of each side.

    Attributes:
        segment: Of the user it was shown to.
        arms: Names of the two levels.
        chosen: Items chosen of each; an item counts once.
    """

    segment: str
    arms: tuple[str, ...]
    chosen: tuple[set[str], set[str]]

    def winner(self) -> int | None:
        """Return which of the two was chosen more often, None for neither."""
        ahead = len(self.chosen[0]) - len(self.chosen[1])
        return None if ahead == 0 else int(ahead < 0)


def votes(
    db: sqlite3.Connection, gone: Forgotten, after: int, until: int
) -> dict[str, Floats]:
    """Return each user's vote, of ``SHAPE``, from the events of a stretch.

    Guarantee: each has an L2 norm of at most 1 and depends on that user's own events
    alone; nobody who was forgotten has one.

    Args:
        db: The serving store, from ``opened``.
        gone: Who was forgotten.
        after: Number of the newest event that was counted before.
        until: Number of the newest event that counts now.
    """
    found = compared(db, after, until)
    return {
        user: vote(lists.values()) for user, lists in found.items() if user not in gone
    }


def compared(
    db: sqlite3.Connection, after: int, until: int, since: int = 0
) -> Mapping[str, Mapping[str, Compared]]:
    """Return user -> id of a list -> what was chosen of it, where anything was.

    Args:
        db: The serving store, from ``opened``.
        after: Number of the newest event that does not count any more.
        until: Number of the newest event that counts.
        since: Epoch seconds; lists that were shown before do not count.
    """
    found: dict[str, dict[str, Compared]] = defaultdict(dict)
    for user, item, shown, segment, said, places in db.execute(
        _CREDITED, (after, until, since)
    ):
        arms = tuple(json.loads(said))
        team = _team(item, places)
        if team is not None and _is_known(segment, arms):
            one = Compared(segment, arms, (set(), set()))
            found[user].setdefault(shown, one).chosen[team].add(item)
    return found


def vote(lists: Iterable[Compared]) -> Floats:
    """Return one user's vote: won and lost over all lists, scaled to length 1."""
    counts = np.zeros(SHAPE)
    for one in lists:
        winner = one.winner()
        if winner is not None:
            segment = SEGMENTS.index(one.segment)
            won, lost = one.arms[winner], one.arms[1 - winner]
            counts[segment, NAMES.index(won), 0] += 1
            counts[segment, NAMES.index(lost), 1] += 1
    length = float(np.linalg.norm(counts))
    return counts / length if length else counts


def _team(item: str, places: str) -> int | None:
    """Return which side gave an item of a list, None if neither did."""
    for other, team, *_ in json.loads(places):
        if other == item and team in TEAMS:
            return TEAMS.index(team)
    return None


def _is_known(segment: str, arms: tuple[str, ...]) -> bool:
    """Return whether a list compared what this version compares."""
    return segment in SEGMENTS and len({*arms}) == 2 and {*arms} <= {*NAMES}
