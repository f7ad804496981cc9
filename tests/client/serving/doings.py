"""What users do and what they were shown, in few words."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from client.serving.events import Event, Kind
from client.serving.records import ShownItem, ShownList
from client.serving.schema import read_only

T = TypeVar("T")


def event(  # noqa: PLR0913 - an event in one line
    name: str,
    user: str = "ann",
    kind: Kind = "like",
    item: str = "item-1",
    *,
    time: int = 100,
    rating: float | None = None,
    text: str = "",
    sentiment: float = 0.0,
) -> Event:
    return Event(
        id=name,
        user=user,
        kind=kind,
        item=item,
        rating=rating,
        text=text,
        time=time,
        sentiment=sentiment,
    )


def shown(name: str, user: str = "ann", *items: str) -> ShownList:
    return ShownList(
        id=name,
        time=100,
        user=user,
        release="spring/3",
        segment="few",
        alpha=0.6,
        explore=0.05,
        arms=("alpha 0", "alpha +0.2"),
        items=[
            ShownItem(item=i, team="a", explored=True, propensity=0.5) for i in items
        ],
    )


def names(site: Path) -> list[str]:
    """Ids of the events that anybody finds in the store's file."""
    with read_only(site) as db:
        return [name for (name,) in db.execute("SELECT id FROM events ORDER BY n")]


def run(waiting: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(waiting)
