"""Who likes what: from a site's data and from what users did live, nobody forgotten."""

import asyncio
from pathlib import Path

import numpy as np

from client.data import SiteData, UserHistory
from client.forgotten import add, forgotten_at
from client.serving.events import Event
from client.serving.feedback.log import opened
from client.serving.feedback.tastes import Tastes, tastes
from client.serving.store import Store
from client.serving.topics import find_topics
from tests.client.serving.feedback.logged import did, log
from tests.client.serving.served import served

MODEL = served(24)
TOPICS = find_topics(MODEL)


def history(user: str, liked: str) -> UserHistory:
    """Somebody who met items 0, 1, ... and liked those with a plus."""
    count = len(liked)
    return UserHistory(
        user=user,
        items=np.arange(count),
        times=np.arange(count),
        likes=np.array([sign == "+" for sign in liked]),
    )


def found(site: Path, data: SiteData, *events: Event) -> Tastes:
    log(site, [], events)
    with opened(site) as db:
        return tastes(data, TOPICS, ("age",), db, forgotten_at(site))


def test_likes_of_the_data_and_live_ones_are_joined(tmp_path: Path) -> None:
    data = SiteData(MODEL.catalogue, (history("ann", "+-+"),))

    read = found(
        *(tmp_path, data),
        did("ann", "item-7", kind="like"),
        did("ann", "item-2", kind="buy"),
        did("bob", "item-9", kind="rate", rating=5.0),
        did("bob", "item-8", kind="rate", rating=2.0),
        did("bob", "item-6", kind="click"),
        did("bob", "item-999", kind="like"),
    )

    assert read.liked == {"ann": {0, 2, 7}, "bob": {9}}


def test_what_is_declared_live_goes_before_the_data(tmp_path: Path) -> None:
    said = {"ann": {"age": "young", "place": "sea"}, "bob": {"age": "old"}}
    data = SiteData(MODEL.catalogue, (history("ann", "+"),), said)

    async def declare() -> None:
        store = Store(tmp_path)
        await store.declare("ann", {"age": "old"})
        store.close()

    asyncio.run(declare())

    assert found(tmp_path, data).about == {
        "ann": {"age": "old", "place": "sea"},
        "bob": {"age": "old"},
    }


def test_who_was_forgotten_likes_nothing_although_rows_are_left(tmp_path: Path) -> None:
    data = SiteData(MODEL.catalogue, (history("ann", "+"), history("bob", "+")))
    log(tmp_path, [], [did("ann", "item-7", kind="like")])
    add(tmp_path, "ann")

    assert found(tmp_path, data).liked == {"bob": {0}}


def test_a_vote_is_long_at_most_one_and_only_a_users_own(tmp_path: Path) -> None:
    data = SiteData(MODEL.catalogue, (history("ann", "++"), history("bob", "+")))
    read = found(tmp_path, data)

    lengths = [float(np.linalg.norm(vote)) for vote in read.votes()]

    assert len(lengths) == 2
    assert all(0.5 < length <= 1 + 1e-6 for length in lengths)
    assert all(len(vote) == read.cells for vote in read.votes())
    assert repr(read) == object.__repr__(read)  # and so shows nobody
