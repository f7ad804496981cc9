"""What answers the requests of one process: model, users, language and store, joined.

What one user is served depends on public values, on charged releases and on that user's
own doings. No error repeats what was asked.
"""

import asyncio
import logging
import math
import secrets
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from client.forget import Learned
from client.serving.added_items import NewItem, require_fit
from client.serving.ask import Answer, Ask, Recommended
from client.serving.contract import ModelCard, NotHere
from client.serving.conversation import pack, unpack
from client.serving.events import Event
from client.serving.interests import Interest, interests_of, members
from client.serving.live import Live
from client.serving.loaded import Loaded
from client.serving.records import State
from client.serving.refused import Refused
from client.serving.request import Mark, alike, answered
from client.serving.sentiment import Sentiment
from client.serving.store import Store
from client.serving.wishes import Said, sought
from client.site import open_site
from shared.catalogue import Catalogue
from shared.logs import told

AT_ONCE = 8  # texts of events that are read before the next answer
MOST_TASKS = 16  # that may be under way beside requests
DAY_S = 86_400
log = logging.getLogger("tacit.site")
Of = tuple[str, str]  # user, and id of the event
END_S = 2.0  # for a renewal that is under way when the service ends


class Service:
    """The service of one site in one process; see ``contract.ServiceLike``."""

    def __init__(self, folder: Path, release: Path | None) -> None:
        """Load what is served.

        Raises:
            TacitError: If there is nothing that could be served.
        """
        open_site(folder)  # before anything is made in a folder that is no site
        self._store = Store(folder)
        self._live = Live(folder, release, self._store)
        self._rng = np.random.default_rng()
        self._encoding = ThreadPoolExecutor(1, "tacit-encoder")
        self._sentiment = Sentiment(self._live.now.built.encoder)
        self._tasks: set[asyncio.Task[None]] = set()
        self._pruned = 0
        self._stop = threading.Event()
        self._watching = threading.Thread(
            target=self._live.watch, args=(self._stop,), name="tacit-live", daemon=True
        )
        self._watching.start()

    def close(self) -> bool:
        """End: what waits is written first. A renewal that lasts is not waited for.

        Returns:
            Whether nothing goes on.
        """
        self._stop.set()
        self._watching.join(END_S)
        self._encoding.shutdown(cancel_futures=True)
        self._store.close()
        return not self._watching.is_alive()

    async def recommend(self, ask: Ask) -> Answer:
        """Return what was asked for, and log the list that was shown."""
        loaded = self._live.now
        if ask.conversation and not ask.query:
            raise Refused("conversation goes with a query that refines it")
        said = await self._said(loaded, ask) if ask.query else None
        mark = Mark(
            list=secrets.token_urlsafe(12),
            time=int(time.time()),
            conversation=pack(said.understood) if said else "",
        )
        answer, shown = answered(loaded, ask, said, mark, self._rng)
        self._store.log_shown(shown)
        if mark.time - self._pruned >= DAY_S:
            self._pruned = mark.time
            self._aside(self._prune(mark.time - loaded.settings.keep_days * DAY_S))
        return answer

    async def _prune(self, before: int) -> None:
        """Let go of lists that were shown before then."""
        await self._store.prune(before)

    async def _said(self, loaded: Loaded, ask: Ask) -> Said:
        """Return how the request's words are understood; the encoder has one thread."""
        before = unpack(ask.conversation) if ask.conversation else None
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._encoding, Said.of, loaded, ask.query, before
        )

    async def add_events(self, events: Sequence[Event]) -> int:
        """Keep events durably; return how many of them were new.

        The words of reviews and searches are read after that, and not kept: at once if
        they are few, else while others are answered.
        """
        new = await self._store.add_events(events)
        worded = [event for event in events if event.text]
        if 0 < len(worded) <= AT_ONCE:
            await self._learn(worded)
        elif worded and len(self._tasks) < MOST_TASKS:
            self._aside(self._learn(worded))
        elif worded:
            log.warning("the words of %d events were not read", len(worded))
        return new

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something while requests are answered; what fails is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.warning("something aside of requests failed: %s", told(error))

    async def _learn(self, events: Sequence[Event]) -> None:
        """Keep what the words of reviews and searches say."""
        loaded, loop = self._live.now, asyncio.get_running_loop()
        for first in range(0, len(events), AT_ONCE):  # so that requests come between
            read = partial(self._read, loaded, events[first : first + AT_ONCE])
            sentiments, searches = await loop.run_in_executor(self._encoding, read)
            await self._store.set_sentiments(sentiments)
            await self._store.set_searches(searches)

    def _read(
        self, loaded: Loaded, events: Sequence[Event]
    ) -> tuple[dict[Of, float], dict[Of, tuple[str, ...]]]:
        """Return the sentiment of each review and the interests of each search."""
        sentiments: dict[Of, float] = {}
        searches: dict[Of, tuple[str, ...]] = {}
        for event in events:
            of = event.user, event.id
            if event.kind == "review":
                sentiments[of] = self._sentiment.of(event.text)
            elif event.kind == "search":
                searches[of] = sought(loaded, event.text)
        return sentiments, searches

    def interests(self, user: str) -> tuple[Interest, ...]:
        """Return a user's interests, the strongest first."""
        loaded = self._known(user)
        return interests_of(
            loaded.users.events(user),
            loaded.users.edits(user),
            loaded.served,
            loaded.topics,
        )

    async def edit_interests(self, user: str, edits: Mapping[str, State]) -> None:
        """Keep what a user says of their interests, by key."""
        loaded = self._live.now
        strange = sum(members(k, loaded.served, loaded.topics) is None for k in edits)
        if strange:
            raise Refused(
                f"{strange} of {len(edits)} interests are not known here: name them by "
                "their keys, as GET gives them"
            )
        await self._store.edit(user, edits, int(time.time()))

    async def declare(self, user: str, about: Mapping[str, str]) -> None:
        """Keep what a user says of themselves, in place of what they said before."""
        await self._store.declare(user, about)

    async def remove_user(self, user: str) -> None:
        """Forget a user for ever."""
        await self._live.now.users.remove(user)  # known or not: it may be the rest

    def users(self, after: str, limit: int) -> list[str]:
        """Return the first ids in order that come after one."""
        return self._live.now.users.known(after, limit)

    def similar(self, item: str, k: int) -> tuple[Recommended, ...]:
        """Return the items whose texts are nearest to an item's."""
        return alike(self._live.now, item, k)

    async def search_items(self, words: str, limit: int) -> list[tuple[str, str]]:
        """Return ids and texts of items that hold all words; of any without words."""
        catalogue = self._live.now.served.catalogue
        return await asyncio.to_thread(_holding, catalogue, words, limit)

    async def put_items(self, items: Sequence[NewItem]) -> int:
        """Make items recommendable, durably; return how many."""
        require_fit(items, self._live.now.built.served.catalogue)
        await self._store.put_items(items, int(time.time()))
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._encoding, self._live.add_items)
        return len(items)

    def model(self) -> ModelCard:
        """Return what is served at this moment."""
        loaded = self._live.now
        served, spent = loaded.served, loaded.spent
        exposed = ["NOT PRIVATE: trained without noise"] if _is_exposed(spent) else []
        faults = (f"serves on, because {f}" for f in [self._live.fault] if f)
        return ModelCard(
            release=served.release,
            digest=served.digest,
            items=len(served),
            fresh=int(served.fresh.sum()),
            attributes=tuple(served.catalogue.attributes),
            alpha=served.recipe.alpha,
            languages=loaded.language.languages,
            epsilon=spent.epsilon if spent else None,
            delta=spent.delta if spent else None,
            notes=(*served.notes, *exposed, *faults),
        )

    def unready(self) -> list[str]:
        """Return why no good answer can be given; once it is loaded it is ready."""
        return []

    def figures(self) -> Collector:
        """Return figures of its own for Prometheus."""
        return _Figures(self._store, self._live)

    def _known(self, user: str) -> Loaded:
        """Return what is served, if there is such a user."""
        loaded = self._live.now
        if not loaded.users.knows(user):
            raise NotHere("no such user at this site")
        return loaded


def _holding(catalogue: Catalogue, words: str, limit: int) -> list[tuple[str, str]]:
    """Return the first items whose texts hold all words, whatever their case."""
    wanted = words.casefold().split()
    holding = (
        (item, text)
        for item, text in zip(catalogue.ids, catalogue.texts, strict=True)
        if all(word in text.casefold() for word in wanted)
    )
    return list(islice(holding, limit))


def _is_exposed(spent: Learned | None) -> bool:
    return spent is not None and math.isinf(spent.epsilon)


class _Figures(Collector):
    """What an operator watches beside requests."""

    def __init__(self, store: Store, live: Live) -> None:
        self._store, self._live = store, live

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        lost = "Shown lists that could not be kept."
        yield CounterMetricFamily("tacit_serving_lists_lost", lost, self._store.lost)
        stale = "1 while the newest release or data cannot be taken up, else 0."
        fault = float(bool(self._live.fault))
        yield GaugeMetricFamily("tacit_serving_stale", stale, fault)


def open_service(folder: Path, release: Path | None) -> Service:
    """Return the service of the site in ``folder``."""
    return Service(folder, release)
