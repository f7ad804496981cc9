"""The one thread of a process that writes to the serving store: many writes, one sync.

Whatever waits while the disk is busy goes into the next transaction together. A write
that is refused falls alone; where the disk fails, all of the transaction do, and
nothing of it is kept.
"""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from client.serving.schema import connected, failing
from shared.errors import DataError, StoreFailed, TacitError

MOST = 1000  # writes in one transaction
PAUSE_S = 0.25  # how long what nobody waits for is held back, for one sync more at most

_UNFIT = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    UnicodeEncodeError,
    OverflowError,
)

Write = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True, slots=True)
class _Waiting:
    write: Write
    soon: bool
    done: "Future[Any]"


class Writer:
    """Writes to one file, in the order asked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._db: sqlite3.Connection | None = None
        self._closed = False
        self._thread = threading.Thread(
            target=self._run, name="tacit-store", daemon=True
        )
        self._thread.start()

    async def write(self, write: Write) -> Any:
        """Run ``write`` in a transaction, and return what it does once that is durable.

        Raises:
            StoreFailed: If it could not be kept. Whatever ``write`` itself raises.
        """
        return await asyncio.wrap_future(self.begin(write))

    def begin(self, write: Write, *, soon: bool = True) -> "Future[Any]":
        """Do the same without waiting; what is not wanted soon goes with the next."""
        if self._closed:
            raise StoreFailed(f"{self._path} was closed; nothing is kept any more")
        done: Future[Any] = Future()
        self._queue.put(_Waiting(write, soon, done))
        return done

    def close(self) -> None:
        """Write what waits, and end."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            group, goes_on = self._next()
            if group:
                self._answer(group)
        if self._db is not None:
            self._db.close()

    def _next(self) -> tuple[list[_Waiting], bool]:
        """Return all that waits, or that comes within the pause; and whether to go on.

        What is wanted soon ends the pause.
        """
        group: list[_Waiting] = []
        until: float | None = None
        while len(group) < MOST:
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                found = self._queue.get(timeout=left)
            except Empty:
                break
            if found is None:
                return group, False
            if found.done.set_running_or_notify_cancel():
                group.append(found)
                if found.soon:
                    until = 0.0
                elif until is None:
                    until = time.monotonic() + PAUSE_S
        return group, True

    def _answer(self, group: list[_Waiting]) -> None:
        """Keep a group, and tell each what became of it."""
        try:
            results = self._keep(group)
        except Exception as error:  # noqa: BLE001 - who waits must be told
            if not isinstance(error, TacitError):
                error = StoreFailed(f"{self._path}: {type(error).__name__}")
            results = [error] * len(group)
        for waiting, result in zip(group, results, strict=True):
            if isinstance(result, BaseException):
                waiting.done.set_exception(result)
            else:
                waiting.done.set_result(result)

    def _keep(self, group: list[_Waiting]) -> list[Any]:
        """Write a group in one transaction; return a result or an error for each."""
        with failing(self._path, "nothing of it was kept"):
            if self._db is None:
                self._db = connected(self._path, "rw")
            try:
                self._db.execute("BEGIN IMMEDIATE")
                results = [_apart(self._db, waiting.write) for waiting in group]
                self._db.execute("COMMIT")
            except BaseException:
                self._db.close()  # which rolls back; the next group starts afresh
                self._db = None
                raise
        return results


def _apart(db: sqlite3.Connection, write: Write) -> Any:
    """Return what one write does, or why it alone was refused and undone."""
    db.execute("SAVEPOINT one")
    try:
        result = write(db)
    except TacitError as error:
        db.execute("ROLLBACK TO one")
        result = error
    except _UNFIT as error:
        db.execute("ROLLBACK TO one")
        result = DataError(f"a value does not fit ({type(error).__name__}): not kept")
    db.execute("RELEASE one")
    return result
