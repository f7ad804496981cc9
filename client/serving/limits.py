"""How much of a site one key, one request and all of them together may take."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

WHOLE = 1 - 1e-6  # a token, for sums of fractions of one
BUSY = "too many requests wait already; try again in a moment"
TOO_LONG = "the body is longer than {limit} KiB; send less at once"


class Rates:
    """A bucket of tokens for each key: a minute's worth at most, filled evenly."""

    def __init__(
        self, per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = float(per_minute)
        self._per_s = per_minute / 60
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, name: str) -> int:
        """Take a token of a key; return 0, or the seconds until it has another.

        Guarantee: in any span of time a key gets at most ``per_minute`` tokens and
        those that the span itself brings.
        """
        now = self._clock()
        left, since = self._left.get(name, (self._most, now))
        left = min(self._most, left + (now - since) * self._per_s)
        taken = left >= WHOLE
        self._left[name] = (left - taken, now)
        return 0 if taken else math.ceil((1 - left) / self._per_s)


class Room:
    """Bounds how many requests are under way at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for the time of a request.

        Raises:
            HTTPException: 503 if there is none.
        """
        if self.taken >= self._most:
            raise HTTPException(503, BUSY, {"Retry-After": "1"})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


def bounded(receive: Receive, declared: str | None, limit_kib: int) -> Receive:
    """Return ``receive`` for a body of at most so many bytes, however it comes.

    Args:
        receive: Of the request.
        declared: Its header Content-Length; None where it comes in chunks.
        limit_kib: The longest body.

    Raises:
        HTTPException: 413, at once if the length is declared, or else on the way.
    """
    limit = limit_kib * 1024
    too_long = HTTPException(413, TOO_LONG.format(limit=limit_kib))
    if declared is not None and declared.isdecimal() and int(declared[:20]) > limit:
        raise too_long
    taken = 0

    async def receives() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise too_long
        return message

    return receives
