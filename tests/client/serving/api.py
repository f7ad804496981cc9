"""The HTTP API over a service that behaves, for tests: no model, no files but keys."""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from client.serving.added_items import NewItem
from client.serving.app import make_app
from client.serving.ask import Answer, Ask, Recommended
from client.serving.contract import ModelCard, NotHere
from client.serving.events import Event
from client.serving.interests import Interest
from client.serving.keys import ROLES, Keys, make
from client.serving.records import State
from client.serving.refused import Refused
from client.serving.routes.items import SERVED
from client.serving.routes.people import SCIENCE_FICTION
from client.serving.routes.recommend import ANSWERED, FILM
from client.serving.settings import ServingSettings
from shared.errors import StoreFailed

HERE = "http://127.0.0.1"
SECRET = "xq-alice-9137"  # noqa: S105  # what nobody but its sender may read again


class Told(Collector):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("tacit_serving_standin", "A number.", 7)


class StandIn:
    """A service that keeps what it is told, and answers from that."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.edits: dict[str, dict[str, State]] = {}
        self.about: dict[str, dict[str, str]] = {}
        self.items = {f"item-{n}": f"Title {n}" for n in range(20)}
        self.asked: list[Ask] = []
        self.gone: list[str] = []
        self.faults: list[str] = []
        self.release = asyncio.Event()
        self.release.set()

    async def recommend(self, ask: Ask) -> Answer:
        await self.release.wait()
        self.asked.append(ask)
        if unknown := ask.filters.keys() - {"genres", "year"}:
            raise Refused(f"{len(unknown)} filters are none of genres, year")
        seen = {event.item for event in self.events.values() if event.user == ask.user}
        left = [item for item in self.items if ask.include_seen or item not in seen]
        items = [replace(FILM, item=item, score=1.0) for item in left[: ask.k]]
        return replace(ANSWERED, items=tuple(items))

    async def add_events(self, events: Sequence[Event]) -> int:
        before = len(self.events)
        self.events |= {event.id: event for event in events}
        return len(self.events) - before

    def interests(self, user: str) -> tuple[Interest, ...]:
        self._require(user)
        edits = self.edits.get(user, {})
        return (replace(SCIENCE_FICTION, state=edits.get(SCIENCE_FICTION.key, "none")),)

    async def edit_interests(self, user: str, edits: Mapping[str, State]) -> None:
        self._require(user)
        self.edits.setdefault(user, {}).update(edits)

    async def declare(self, user: str, about: Mapping[str, str]) -> None:
        self.about[user] = dict(about)

    async def remove_user(self, user: str) -> None:
        self._require(user)
        self.events = {i: e for i, e in self.events.items() if e.user != user}
        self.gone.append(user)

    def users(self, after: str, limit: int) -> list[str]:
        known = {event.user for event in self.events.values()}
        return sorted(user for user in known if user > after)[:limit]

    def similar(self, item: str, k: int) -> tuple[Recommended, ...]:
        if item not in self.items:
            raise NotHere("no such item")
        return (FILM,) * min(k, 3)

    async def search_items(self, words: str, limit: int) -> list[tuple[str, str]]:
        return [(i, t) for i, t in self.items.items() if words in t][:limit]

    async def put_items(self, items: Sequence[NewItem]) -> int:
        self.items |= {item.id: item.text for item in items}
        return len(items)

    def model(self) -> ModelCard:
        return SERVED

    def unready(self) -> list[str]:
        return self.faults

    def figures(self) -> Collector:
        return Told()

    def _require(self, user: str) -> None:
        if not any(event.user == user for event in self.events.values()):
            raise NotHere("no such user")


class Broken(StandIn):
    """A service whose every answer is an error that holds what it was asked."""

    async def recommend(self, ask: Ask) -> Answer:
        raise RuntimeError(f"cannot serve {ask.user} {ask.query}")


class Crowded(StandIn):
    """A service that has no time, or no disk."""

    def __init__(self, error: type[StoreFailed]) -> None:
        super().__init__()
        self.error = error

    async def recommend(self, ask: Ask) -> Answer:  # noqa: ARG002  # whoever asks
        raise self.error("not at this moment")


class Api:
    """An app and a key of every role for it."""

    def __init__(
        self, folder: Path, service: StandIn | None = None, **settings: Any
    ) -> None:
        self.folder = folder
        self.service = service or StandIn()
        self.key = make(folder, "everything", ROLES)
        self.app = app_of(folder, self.service, **settings)

    def ask(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """What the app answers to one request, with the key unless told otherwise."""
        headers = {"X-API-Key": self.key} | more.pop("headers", {})
        if body is not None:
            more["content"] = body if isinstance(body, bytes) else json.dumps(body)
            headers = {"Content-Type": "application/json"} | headers
        return asyncio.run(answer(self.app, method, path, headers=headers, **more))


def app_of(folder: Path, service: StandIn, **settings: Any) -> FastAPI:
    return make_app(service, Keys.of(folder), ServingSettings(**settings))


async def answer(app: FastAPI, method: str, path: str, **more: Any) -> httpx.Response:
    """One answer, without a network."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
        return await client.request(method, path, **more)


def liked(number: int = 1, user: str = "u-1", **more: Any) -> dict[str, Any]:
    """An event as it is sent."""
    item = f"item-{number}"
    return {"id": f"e-{number}", "user": user, "kind": "like", "item": item, **more}


def is_problem(response: httpx.Response, status: int) -> bool:
    """Whether an answer is a problem document of that status."""
    said = response.json()
    media = response.headers["content-type"]
    return (
        (response.status_code, media) == (status, "application/problem+json")
        and said.keys() == {"type", "title", "status", "detail", "errors"}
        and said["status"] == status
    )
