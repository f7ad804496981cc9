"""Answers to messages, pulled each by itself: one that never comes whole delays none.

Flower's grid waits, for hours if need be, for an answer that was announced and of which
not all has come: of a site that died while it sent, or of one that wants to hold up a
round. Its deadline could not be kept.
"""

import time
from collections.abc import Iterator, Sequence
from threading import Thread

from flwr.app import Message
from flwr.serverapp import Grid

PATIENCE_S = 5.0  # for all answers that are on their way
AT_ONCE = 8  # answers that are pulled, and so held in memory, together


class Inbox:
    """What has come for the messages that were sent over a grid.

    Args:
        grid: Where they were sent.
        patience_s: Longest time that a look into the box waits.
    """

    def __init__(self, grid: Grid, patience_s: float = PATIENCE_S) -> None:
        self._grid = grid
        self._patience_s = patience_s
        self._pulls: dict[str, _Pull] = {}

    def pull(self, messages: Sequence[str]) -> Iterator[Message]:
        """Yield the answers to ``messages`` that are here, but none half here.

        No more than ``AT_ONCE`` are in memory, beside any that were late at an earlier
        look: these are waited for last.
        """
        queue = sorted(messages, key=lambda message: message in self._pulls)
        left = self._patience_s
        for place, message in enumerate(queue):
            if left > 0:
                self._begin(queue[place : place + AT_ONCE])
            pull = self._pulls.get(message)
            if pull is None:
                continue
            begun = time.monotonic()
            pull.join(max(0.0, left))
            left -= time.monotonic() - begun
            if not pull.is_alive():
                del self._pulls[message]
                yield from pull.result()

    def _begin(self, messages: Sequence[str]) -> None:
        for message in messages:
            if message not in self._pulls:
                self._pulls[message] = _Pull(self._grid, message)
                self._pulls[message].start()


class _Pull(Thread):
    """One call for one answer; it ends with the process if nothing else ends it."""

    def __init__(self, grid: Grid, message: str) -> None:
        super().__init__(daemon=True)
        self._grid, self._message = grid, message
        self._come: list[Message] = []
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._come = list(self._grid.pull_messages([self._message]))
        except Exception as error:  # noqa: BLE001  # raised again where it is awaited
            self._error = error

    def result(self) -> list[Message]:
        """Return the answer, if there was one, or raise what was raised."""
        if self._error is not None:
            raise self._error
        return self._come
