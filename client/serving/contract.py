"""What the HTTP API asks of the service behind it, and how that refuses.

No error of it repeats an id, a query or anything else that a user did or sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.registry import Collector

from client.serving.added_items import NewItem
from client.serving.ask import Answer, Ask, Recommended
from client.serving.events import Event
from client.serving.interests import Interest
from client.serving.records import State
from shared.errors import DataError


class NotHere(DataError):
    """No such item or user; which one was asked for is not said. HTTP 404."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a site serves with at this moment; all of it is public.

    Attributes:
        release: Such as ``spring/3``.
        digest: Of adapter, head, prior and catalogue.
        items: How many can be recommended.
        fresh: How many of them had no part in training.
        attributes: Names that filters may use.
        alpha: Weight of text against CF for a user with a long history.
        languages: In which a request may be written; empty if none is understood.
        epsilon, delta: What the site has spent on it and before; None if nothing.
        notes: What a person should know of it, one sentence each.
    """

    release: str
    digest: str
    items: int
    fresh: int
    attributes: tuple[str, ...]
    alpha: float
    languages: tuple[str, ...] = ()
    epsilon: float | None = None
    delta: float | None = None
    notes: tuple[str, ...] = ()


class ServiceLike(Protocol):
    """What answers requests.

    What is async may wait, for a disk or an encoder. What is not is called on the event
    loop of all requests, and must be done within about a millisecond or two.

    Any method may raise a ``TacitError``: ``NotHere`` becomes 404, another
    ``InputError`` 400, the rest 503.
    """

    async def recommend(self, ask: Ask) -> Answer:
        """Return what was asked for."""
        ...

    async def add_events(self, events: Sequence[Event]) -> int:
        """Keep events durably; return how many of them were new."""
        ...

    def interests(self, user: str) -> tuple[Interest, ...]:
        """Return a user's interests, the strongest first."""
        ...

    async def edit_interests(self, user: str, edits: Mapping[str, State]) -> None:
        """Keep what a user says of their interests, by key."""
        ...

    async def declare(self, user: str, about: Mapping[str, str]) -> None:
        """Keep what a user says of themselves, in place of what they said before."""
        ...

    async def remove_user(self, user: str) -> None:
        """Forget a user for ever."""
        ...

    def users(self, after: str, limit: int) -> list[str]:
        """Return the first ids in order that come after one."""
        ...

    def similar(self, item: str, k: int) -> tuple[Recommended, ...]:
        """Return the items whose texts are nearest to an item's."""
        ...

    async def search_items(self, words: str, limit: int) -> list[tuple[str, str]]:
        """Return ids and texts of items that hold all words; of any without words."""
        ...

    async def put_items(self, items: Sequence[NewItem]) -> int:
        """Make items recommendable, durably; return how many."""
        ...

    def model(self) -> ModelCard:
        """Return what is served at this moment."""
        ...

    def unready(self) -> list[str]:
        """Return why no good answer can be given, one sentence each."""
        ...

    def figures(self) -> Collector:
        """Return figures of its own for Prometheus, beside ``figures.py``'s."""
        ...
