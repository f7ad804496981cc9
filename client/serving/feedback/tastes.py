"""What the users of a site like, for the release of their groups' tastes.

It reads raw behaviour, and is read by that release alone, which was charged before.
"""

import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.data import SiteData
from client.forgotten import Forgotten
from client.serving.feedback.thompson import Floats
from client.serving.people import cells, group_votes
from client.serving.topics import Topics

TOPICS = Path("serving", "topics.json")  # in the site's folder, for all who count by it

_LIKED = """
SELECT user, item FROM events WHERE strength(kind, rating, sentiment) >= 1"""

About = Mapping[str, Mapping[str, str]]  # user -> attribute -> what they declared
Liked = Mapping[str, set[int]]  # user -> places of items


@dataclass(frozen=True, slots=True, repr=False)
class Tastes:
    """Who likes what, and whom they belong to.

    Args:
        topics: Of the catalogue.
        groups: Attributes of users that groups are made by.
        about: What users declared.
        liked: What they like.
    """

    topics: Topics
    groups: Sequence[str]
    about: About
    liked: Liked

    @property
    def cells(self) -> int:
        """How many numbers a vote has; it rests on public values alone."""
        return cells(self.topics, self.groups)

    def votes(self) -> Iterator[Floats]:
        """Yield each user's vote, of L2 norm at most 1, from that user alone."""
        for user, liked in self.liked.items():
            places = np.array(sorted(liked), np.int64)
            about = self.about.get(user, {})
            vote = group_votes(about, places, self.topics, self.groups)
            yield vote.astype(np.float64)


def tastes(
    data: SiteData,
    topics: Topics,
    groups: Sequence[str],
    db: sqlite3.Connection,
    gone: Forgotten,
) -> Tastes:
    """Return the tastes of a site's users, from its data and from what they did live.

    Args:
        data: Of the site.
        topics: Of its catalogue.
        groups: Attributes of users that groups are made by.
        db: The serving store, from ``opened``.
        gone: Who was forgotten; nobody of them is in what is returned.
    """
    return Tastes(topics, groups, _about(data, db), _liked(data, db, gone))


def layout_of(topics: Topics, groups: Sequence[str]) -> str:
    """Return what the cells of a release of groups stand for; others have another."""
    said = json.dumps([topics.digest, *groups])
    return hashlib.sha256(said.encode()).hexdigest()


def _about(data: SiteData, db: sqlite3.Connection) -> About:
    """Return what users declared; what they said live goes before the data."""
    about = {user: {**declared} for user, declared in data.people.items()}
    query = "SELECT user, attribute, value FROM people"
    for user, attribute, value in db.execute(query):
        about.setdefault(user, {})[attribute] = value
    return about


def _liked(data: SiteData, db: sqlite3.Connection, gone: Forgotten) -> Liked:
    """Return what users like: in the data, and by what they did live."""
    liked: dict[str, set[int]] = defaultdict(set)
    for history in data.histories:
        liked[history.user].update(history.items[history.likes].tolist())
    places = {item: place for place, item in enumerate(data.catalogue.ids)}
    for user, item in db.execute(_LIKED):
        if item in places:
            liked[user].add(places[item])
    return {user: found for user, found in liked.items() if user not in gone}
