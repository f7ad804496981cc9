"""What a site's users do live, kept durably: events, edits, declared attributes, lists.

Nothing is acknowledged before it is on the disk. Nothing of a user whom the site has
forgotten is kept, and whoever sends it is not told: who was forgotten is nobody's to
know. Other processes may write and read the same file meanwhile.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from client.serving import statements as sql
from client.serving.added_items import NewItem
from client.serving.events import Event
from client.serving.gone import Gone
from client.serving.records import Edit, ShownList, State
from client.serving.schema import connected, failing, make_file
from client.serving.writer import Writer

MOST_LISTS = 10_000  # that may wait for the disk; more are not kept
PRUNED = 500  # lists that are deleted in one go
log = logging.getLogger("tacit.site")


class Store:
    """The store of one site, opened for reading and writing.

    Reading is short and any thread may do it; a write is awaited. Whether a user was
    forgotten is asked within the transaction: forgetting puts them on the list before
    it deletes their rows, so no row comes in after that.

    Attributes:
        gone: Whom the site has forgotten.
        lost: How many shown lists were not kept.
    """

    def __init__(self, site: Path) -> None:
        """Open the store in the folder of a site, or make it.

        Raises:
            StoreFailed: If it cannot be opened, or is of another version.
            ConfigError: If nobody knows whom the site has forgotten.
        """
        self.gone, self.lost = Gone(site), 0
        self._path = make_file(site)
        self._reader, self._reading = connected(self._path, "ro"), threading.Lock()
        self._writer = Writer(self._path)
        self._lists: deque[ShownList] = deque()
        self._is_logging = False

    async def add_events(self, events: Sequence[Event]) -> int:
        """Keep events durably, all or none, and return how many are new.

        An id counts once for a user: the first event that has it stays, whatever others
        hold. One of a forgotten user is dropped like one that is not new. No text is
        kept; see ``set_sentiments``.

        Raises:
            DataError: If one does not fit.
            StoreFailed: If they could not be kept.
        """

        def add(db: sqlite3.Connection) -> int:
            gone = self.gone.now()
            rows = [sql.event_row(one) for one in events if one.user not in gone]
            return db.executemany(sql.ADD_EVENT, rows).rowcount

        return int(await self._writer.write(add)) if events else 0

    async def set_sentiments(self, found: Mapping[tuple[str, str], float]) -> None:
        """Keep what the words of reviews say, durably.

        A review that has a sentiment, or is not there any more, stays as it is. One
        that gets it comes again from ``events_of``, in place of what it was, unless it
        has a rating: that says already how the user stands to the item, and no release
        may count it twice.

        Args:
            found: User and id of the event -> its sentiment, from -1 to 1.

        Raises:
            DataError: If one does not fit.
            StoreFailed: If they could not be kept.
        """
        rows = [(said, *of) for of, said in found.items() if said]

        def score(db: sqlite3.Connection) -> None:
            db.executemany(sql.SCORE, rows)
            db.executemany(sql.SCORE_RATED, rows)

        if rows:
            await self._writer.write(score)

    def events_of(self, user: str, cursor: int = 0) -> tuple[list[Event], int]:
        """Return one user's events that came after ``cursor``, and where to go on."""
        rows = self._read(sql.EVENTS_OF, (user, cursor))
        return [sql.event_of(row) for row in rows], rows[-1][0] if rows else cursor

    async def set_searches(
        self, found: Mapping[tuple[str, str], Sequence[str]]
    ) -> None:
        """Keep which interests the words of searches named, durably, each once.

        Args:
            found: User and id of the event -> keys of interests.

        Raises:
            StoreFailed: If they could not be kept.
        """
        rows = [(*of, key, *of) for of, keys in found.items() for key in keys]

        def add(db: sqlite3.Connection) -> None:
            db.executemany(sql.ADD_SEARCH, rows)

        await self._writer.write(add)

    def searches(self, user: str, most: int) -> list[str]:
        """Return the interests that a user searched for, the newest first."""
        return [key for (key,) in self._read(sql.SEARCHES_OF, (user, most))]

    async def edit(self, user: str, edits: Mapping[str, State], time: int) -> None:
        """Keep what a user said of interests durably; ``none`` takes it back.

        Raises:
            StoreFailed: If it could not be kept.
        """
        rows = [(user, key, state, time) for key, state in edits.items()]

        def edit(db: sqlite3.Connection) -> None:
            if user in self.gone:
                return
            db.executemany(sql.EDIT, rows)
            db.execute(sql.DROP_EDITS, (user,))

        await self._writer.write(edit)

    def edits(self, user: str) -> dict[str, Edit]:
        """Return what a user said of interests, by key."""
        return {key: Edit(*said) for key, *said in self._read(sql.EDITS_OF, (user,))}

    async def declare(self, user: str, about: Mapping[str, str]) -> None:
        """Keep what a user declared, durably and instead of what they did before.

        Raises:
            StoreFailed: If it could not be kept.
        """
        rows = [(user, attribute, value) for attribute, value in about.items()]

        def declare(db: sqlite3.Connection) -> None:
            if user in self.gone:
                return
            db.execute(sql.DROP_DECLARED, (user,))
            db.executemany(sql.DECLARE, rows)

        await self._writer.write(declare)

    def about(self, user: str) -> dict[str, str]:
        """Return what a user declared: attribute -> value."""
        return dict(self._read(sql.DECLARED_BY, (user,)))

    def has(self, user: str) -> bool:
        """Return whether there is anything live of a user."""
        return bool(self._read(sql.HAS, {"user": user})[0][0])

    def users(self, after: str, limit: int) -> list[str]:
        """Return ids above ``after`` of users with anything live, in their order."""
        rows = self._read(sql.USERS, {"after": after, "limit": limit})
        return [user for (user,) in rows]

    async def put_items(self, items: Sequence[NewItem], time: int) -> None:
        """Keep items durably, all or none, each instead of an earlier one of its id.

        Raises:
            StoreFailed: If they could not be kept.
        """
        rows = [sql.item_row(item, time) for item in items]

        def put(db: sqlite3.Connection) -> None:
            db.executemany(sql.PUT_ITEM, rows)

        await self._writer.write(put)

    def items_since(self, cursor: int) -> tuple[list[NewItem], int]:
        """Return items put or changed after ``cursor``, and where to go on from."""
        rows = self._read(sql.ITEMS_SINCE, (cursor,))
        return [sql.item_of(row) for row in rows], rows[-1][0] if rows else cursor

    def log_shown(self, shown: ShownList) -> None:
        """Keep a list that was shown, soon and without waiting for it.

        Lists of forgotten users are not kept, and none is where the disk fails: then
        ``lost`` counts them, and the site's log says so without saying whose they are.
        """
        if len(self._lists) >= MOST_LISTS:
            self.lost += 1
            return
        self._lists.append(shown)
        if self._is_logging:
            return
        self._is_logging = True
        taken: list[ShownList] = []
        done = self._writer.begin(lambda db: self._log_lists(db, taken), soon=False)
        done.add_done_callback(lambda done: self._tell_lost(done, len(taken)))

    def _log_lists(self, db: sqlite3.Connection, taken: list[ShownList]) -> None:
        self._is_logging = False  # first: what comes from now on asks anew
        taken.extend(self._lists.popleft() for _ in range(len(self._lists)))
        rows = (sql.list_row(one) for one in taken if one.user not in self.gone)
        db.executemany(sql.SHOW, rows)

    def _tell_lost(self, done: "Future[Any]", count: int) -> None:
        error = done.exception()
        if error is not None:
            self.lost += count
            log.warning("%d shown lists are missing from reports: %s", count, error)

    async def prune(self, before: int) -> int:
        """Delete the lists that were shown before then, and return how many there were.

        It is done little by little: whatever else is to be written comes in between.

        Args:
            before: Epoch seconds.

        Raises:
            StoreFailed: If it was not done to the end.
        """
        pruned, found = 0, PRUNED
        while found == PRUNED:
            found = int(await self._writer.write(partial(_prune, before)))
            pruned += found
        return pruned

    def close(self) -> None:
        """Write what waits, and end; nothing is kept any more."""
        with self._reading:
            self._reader.close()  # first: the last one tidies up, and this may not
        self._writer.close()

    def _read(
        self, query: str, values: Sequence[object] | Mapping[str, object]
    ) -> list[Any]:
        with failing(self._path, "nothing was read"), self._reading:
            return self._reader.execute(query, values).fetchall()


def _prune(before: int, db: sqlite3.Connection) -> int:
    return db.execute(sql.PRUNE, (before, PRUNED)).rowcount
