"""What users were shown and did, in the real store of a site."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

from client.serving.events import Event, Kind
from client.serving.feedback.arms import level_name
from client.serving.records import ShownItem, ShownList, Team
from client.serving.store import Store

LESS, USUAL, MORE = (level_name("alpha", shift) for shift in (-0.2, 0.0, 0.2))
START = 1_760_000_000


def shown(  # noqa: PLR0913 - what a list may differ in
    name: str,
    user: str,
    teams: str = "abab",
    *,
    arms: tuple[str, ...] = (MORE, USUAL),
    segment: str = "few",
    items: Sequence[str] = (),
    time: int = START,
    release: str = "spring/3",
) -> ShownList:
    """A list of items i0, i1, ...; ``teams`` says who gave each, a dot for nobody."""
    names = items or [f"i{place}" for place in range(len(teams))]
    sides: dict[str, Team] = {"a": "a", "b": "b", ".": ""}
    return ShownList(
        id=name,
        time=time,
        user=user,
        release=release,
        segment=segment,
        alpha=0.5,
        explore=0.05,
        arms=arms,
        items=[
            ShownItem(item=item, team=sides[team])
            for item, team in zip(names, teams, strict=True)
        ],
    )


def did(
    user: str,
    item: str,
    shown: str = "",
    kind: Kind = "click",
    *,
    rating: float | None = None,
    time: int = START + 1,
) -> Event:
    """Something that a user did; the same thing again is the same event."""
    return Event(
        id=f"{user}-{kind}-{item}-{shown}-{rating}-{time}",
        user=user,
        kind=kind,
        item=item,
        rating=rating,
        time=time,
        shown=shown,
    )


def log(site: Path, lists: Iterable[ShownList], events: Sequence[Event]) -> None:
    """Keep lists and events in the store of a site, made if it is not there."""

    async def keep() -> None:
        store = Store(site)
        try:
            for one in lists:
                store.log_shown(one)
            await store.add_events(events)
        finally:
            store.close()

    asyncio.run(keep())
