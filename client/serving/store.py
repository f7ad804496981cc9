"""What a site's users do live, kept durably: events, edits, declared attributes, lists.

Nothing is acknowledged before it is on the disk, and nothing of a user whom the site
has forgotten is kept. Other processes may write and read the same file meanwhile.
"""

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from client.serving import statements as sql
from client.serving.added_items import NewItem
from client.serving.events import Event
from client.serving.gone import Gone
from client.serving.records import Edit, ShownList, State
from client.serving.removal import remove_rows
from client.serving.schema import connected, failing, make_file
from client.serving.writer import Writer
from shared.errors import DataError

MOST_LISTS = 10_000  # that may wait for the disk; more are not kept
MOST_EVENTS = 10_000  # that are read at once
TOLD = 5  # places that an error names
log = logging.getLogger("tacit.site")


class Store:
    """The store of one site, opened for reading and writing.

    Reading is short and any thread may do it; a write is awaited.

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
        self._site, self._path = site, make_file(site)
        self._reader, self._reading = connected(self._path, "ro"), threading.Lock()
        self._writer = Writer(self._path)
        self._lists: deque[ShownList] = deque()
        self._is_logging = False

    async def add_events(self, events: Sequence[Event]) -> int:
        """Keep events durably, all or none, and return how many are new.

        An id counts once: the first event that has it stays, whatever others hold.

        Raises:
            DataError: If one is of a forgotten user, or does not fit.
            StoreFailed: If they could not be kept.
        """

        def add(db: sqlite3.Connection) -> int:
            self._require_known([event.user for event in events])
            return db.executemany(sql.ADD_EVENT, map(sql.event_row, events)).rowcount

        return int(await self._writer.write(add)) if events else 0

    def events_since(self, cursor: int) -> tuple[list[Event], int]:
        """Return events that came after ``cursor``, and where to go on from.

        Args:
            cursor: 0 for the first. No event left means that all were read.
        """
        rows = self._read(sql.EVENTS_SINCE, (cursor, MOST_EVENTS))
        return [sql.event_of(row) for row in rows], rows[-1][0] if rows else cursor

    def events_of(self, user: str, cursor: int = 0) -> tuple[list[Event], int]:
        """Return one user's events that came after ``cursor``, and where to go on."""
        rows = self._read(sql.EVENTS_OF, (user, cursor))
        return [sql.event_of(row) for row in rows], rows[-1][0] if rows else cursor

    async def edit(self, user: str, edits: Mapping[str, State], time: int) -> None:
        """Keep what a user said of interests durably; ``none`` takes it back.

        Raises:
            DataError: If the user is forgotten.
            StoreFailed: If it could not be kept.
        """
        rows = [(user, key, state, time) for key, state in edits.items()]

        def edit(db: sqlite3.Connection) -> None:
            self._require_known([user])
            db.executemany(sql.EDIT, rows)
            db.execute(sql.DROP_EDITS, (user,))

        await self._writer.write(edit)

    def edits(self, user: str) -> dict[str, Edit]:
        """Return what a user said of interests, by key."""
        return {key: Edit(*said) for key, *said in self._read(sql.EDITS_OF, (user,))}

    async def declare(self, user: str, about: Mapping[str, str]) -> None:
        """Keep what a user declared, durably and instead of what they did before.

        Raises:
            DataError: If the user is forgotten.
            StoreFailed: If it could not be kept.
        """
        rows = [(user, attribute, value) for attribute, value in about.items()]

        def declare(db: sqlite3.Connection) -> None:
            self._require_known([user])
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

    async def remove(self, user: str) -> bool:
        """Take every row of a user out of the files; ``forget`` keeps the user out.

        Returns:
            Whether there was any.

        Raises:
            StoreFailed: If a part was not done; then do it again.
        """
        return await asyncio.to_thread(remove_rows, self._site, user)

    def close(self) -> None:
        """Write what waits, and end; nothing is kept any more."""
        with self._reading:
            self._reader.close()  # first: the last one tidies up, and this may not
        self._writer.close()

    def _require_known(self, users: Sequence[str]) -> None:
        """Refuse forgotten users.

        It is asked within the transaction: forgetting puts a user on the list before
        it deletes their rows, so no row comes in after that.
        """
        forgotten = self.gone.now()
        if not forgotten.hashes:
            return
        gone = [n for n, user in enumerate(users, 1) if user in forgotten]
        if gone:
            first = ", ".join(map(str, gone[:TOLD])) + ", ..." * (len(gone) > TOLD)
            raise DataError(
                f"{len(gone)} of {len(users)} (number {first}) are of users whom this "
                "site has forgotten; nothing was kept: leave them out"
            )

    def _read(
        self, query: str, values: Sequence[object] | Mapping[str, object]
    ) -> list[Any]:
        with failing(self._path, "nothing was read"), self._reading:
            return self._reader.execute(query, values).fetchall()
