"""The users of a site as serving sees them: one at a time, and always as of now.

What the site's data have is held in few arrays; what came live is read from the store,
where any process may have put it a moment ago. Nobody's past has a part in another's,
and a user whom the site has forgotten is as unknown as one who never came.
"""

import asyncio
import threading
from bisect import bisect_right
from dataclasses import dataclass

from client.data import SiteData
from client.forget import Forgetting, forget
from client.serving.events import Event
from client.serving.histories import histories_of
from client.serving.model import Ints, Served
from client.serving.past import Stands
from client.serving.records import Edit
from client.serving.store import Store
from client.serving.taste import NOBODY, Past
from client.site import Site

MOST_USERS = 10_000  # whose pasts are held
MOST_MET = 400_000  # items that all of these have met


@dataclass(frozen=True, slots=True, repr=False)
class _Held:
    """How a user stands to what they met, as of the event that was read last."""

    stands: Stands
    cursor: int
    model: Served
    past: Past


class Users:
    """Everybody at one site."""

    def __init__(self, site: Site, data: SiteData, store: Store) -> None:
        """Take what ``data`` have of each user, and what ``store`` has from now on."""
        self._site, self._store = site, store
        self._histories, self._people = histories_of(data), data.people
        self._declared = sorted(data.people)
        self._models: tuple[tuple[Served, Ints], ...] = ()
        self._held: dict[str, _Held] = {}  # last: who was asked for last
        self._met = 0
        self._lock = threading.RLock()

    def prepare(self, model: Served) -> None:
        """Do what the first request of another model would have to wait for."""
        self._places(model)

    def past(self, user: str, model: Served) -> Past:
        """Return what a user did until now, by places in ``model``.

        Guarantee: an event that any process has acknowledged before is part of it.
        """
        if not user or user in self._store.gone:
            return NOBODY
        return self._now(user, model).past

    def events(self, user: str) -> tuple[Event, ...]:
        """Return all of a user's events, newest first; those of the data come last.

        An event of the data has no id. One that was no like there is a ``rate`` without
        a rating: it says nothing for its item, and nothing against it.
        """
        if not user or user in self._store.gone:
            return ()
        live, _ = self._store.events_of(user)
        live.sort(key=lambda event: event.time)
        return (*reversed(live), *self._histories.events_of(user))

    def edits(self, user: str) -> dict[str, Edit]:
        """Return what a user said of interests, by key."""
        return {} if user in self._store.gone else self._store.edits(user)

    def searches(self, user: str, most: int) -> list[str]:
        """Return the interests that a user searched for, the newest first."""
        return [] if user in self._store.gone else self._store.searches(user, most)

    def about(self, user: str) -> dict[str, str]:
        """Return what is declared of a user; over the API instead of by the data."""
        if user in self._store.gone:
            return {}
        return {**self._people.get(user, {}), **self._store.about(user)}

    def knows(self, user: str) -> bool:
        """Return whether there is anything of a user."""
        if user in self._store.gone:
            return False
        there = user in self._histories or user in self._people
        return there or self._store.has(user)

    def known(self, after: str, limit: int) -> list[str]:
        """Return up to so many ids of users above ``after``, in their order."""
        found: list[str] = []
        while len(found) < limit:
            begin = bisect_right(self._declared, after)
            page = {
                *self._histories.above(after, limit),
                *self._declared[begin : begin + limit],
                *self._store.users(after, limit),
            }
            if not page:
                break
            first = sorted(page)[:limit]
            found += [user for user in first if user not in self._store.gone]
            after = first[-1]
        return found[:limit]

    async def remove(self, user: str) -> Forgetting:
        """Forget a user for ever; whatever process is asked from now on knows nobody.

        Raises:
            ConfigError, InputError, StoreFailed: As ``forget`` does.
        """
        done = await asyncio.to_thread(forget, self._site, user)
        with self._lock:
            self._drop(user)
        return done

    def _now(self, user: str, model: Served) -> _Held:
        """Return a user as of now; what came since the last time is added to it."""
        with self._lock:
            held = self._drop(user)
            if held is None or held.model is not model:
                held = self._begun(user, model)
            fresh, cursor = self._store.events_of(user, held.cursor)
            if held.cursor and not held.stands.takes(fresh):
                held = self._begun(user, model)
                fresh, cursor = self._store.events_of(user)
            if fresh:
                stands = held.stands.add(sorted(fresh, key=lambda event: event.time))
                held = _Held(stands, cursor, model, stands.past())
            self._hold(user, held)
            return held

    def _begun(self, user: str, model: Served) -> _Held:
        """Return a user as the data alone have them."""
        history = self._histories.of(user, self._places(model))
        stands = Stands(history, model.catalogue)
        return _Held(stands, 0, model, stands.past())

    def _places(self, model: Served) -> Ints:
        """Return where the model has the items of the data."""
        with self._lock:
            for known, places in self._models:
                if known is model:
                    return places
            places = self._histories.places(model)
            self._models = ((model, places), *self._models[:1])  # one may be leaving
            return places

    def _hold(self, user: str, held: _Held) -> None:
        self._held[user] = held
        self._met += len(held.stands)
        while len(self._held) > MOST_USERS or self._met > MOST_MET:
            self._drop(next(iter(self._held)))

    def _drop(self, user: str) -> _Held | None:
        held = self._held.pop(user, None)
        self._met -= len(held.stands) if held else 0
        return held
