"""Loads an HTTP server over kept-alive connections and times each answer.

It knows no HTTP client: requests are bytes made beforehand, so that the load costs next
to nothing beside what it measures. A connection that breaks is a failed request.
"""

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

BROKEN = 0  # the status of a request whose connection broke
SPIN_S = 0.002  # before a request is due; no sleep is as exact
MOST_AT_ONCE = 64  # connections of a load that does not wait for answers
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Due = tuple[float, bytes]  # when to ask what


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer.

    Attributes:
        status: Of HTTP; ``BROKEN`` for none.
        took_s: From when the request was due until all of it had come.
        body: As it came.
    """

    status: int
    took_s: float
    body: bytes


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load.

    Attributes:
        answers: All of them, in the order in which they ended.
        seconds: From the first request to the last answer.
    """

    answers: Sequence[Answered]
    seconds: float

    @property
    def failed(self) -> dict[int, int]:
        """How many answers had each status that is not a success."""
        statuses, counts = np.unique(
            np.array([a.status for a in self.answers], np.int64), return_counts=True
        )
        found = zip(statuses.tolist(), counts.tolist(), strict=True)
        return {status: count for status, count in found if not 200 <= status < 300}

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return len(self.answers) / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Return the time within which so many of a hundred answers came."""
        times = np.array([answer.took_s for answer in self.answers])
        return float(np.percentile(times, percent)) * 1000


def request(
    method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return the bytes of a request; ``body`` becomes JSON unless it is None."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def closed(
    port: int, requests: Iterator[bytes], *, connections: int, seconds: float
) -> Load:
    """Ask over and over, each connection once the one before is answered.

    Args:
        port: On this machine.
        requests: What to ask next; the load ends with it.
        connections: How many ask at once.
        seconds: For how long.
    """

    def due(begin: float) -> Iterator[Due]:
        for each in requests:
            if (now := time.perf_counter()) - begin >= seconds:
                return
            yield now, each

    return await _load(port, due, connections)


async def in_turn(port: int, requests: Sequence[bytes], *, connections: int) -> Load:
    """Ask every request once; a request that waits for a connection is not due."""

    def due(_begin: float) -> Iterator[Due]:
        return ((time.perf_counter(), each) for each in requests)

    return await _load(port, due, connections)


async def at_random(
    port: int,
    requests: Iterator[bytes],
    *,
    rate: float,
    seconds: float,
    rng: np.random.Generator,
) -> Load:
    """Ask at random times, whether or not earlier requests are answered (Poisson).

    A request that has to wait, for the server or for one of ``MOST_AT_ONCE``
    connections, was due all the same: its time runs. The load ends with the requests,
    or when they have come for so many seconds.
    """
    gaps = rng.exponential(1 / rate, size=round(rate * seconds))

    def due(begin: float) -> Iterator[Due]:
        return zip((begin + np.cumsum(gaps)).tolist(), requests, strict=False)

    return await _load(port, due, MOST_AT_ONCE)


async def _load(
    port: int, due: Callable[[float], Iterator[Due]], connections: int
) -> Load:
    """Ask each request when it is due, or as soon after as a connection is free."""
    answers: list[Answered] = []
    turn = asyncio.Lock()
    with _no_garbage():
        begin = time.perf_counter()
        turns = due(begin)
        await asyncio.gather(
            *(_asks(port, turns, turn, answers) for _ in range(connections))
        )
        return Load(answers, time.perf_counter() - begin)


async def _asks(
    port: int,
    turns: Iterator[Due],
    turn: asyncio.Lock,
    answers: list[Answered],
) -> None:
    """Take what is due next and ask it, on one connection, until nothing is left."""
    stream: Stream | None = None
    while True:
        async with turn:
            due, content = next(turns, (0.0, b""))
            if content:
                await _until(due)
        if not content:
            break
        status, body = BROKEN, b""
        try:
            stream = stream or await asyncio.open_connection("127.0.0.1", port)
            status, body = await _exchange(stream, content)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            await _close(stream)
            stream = None
        answers.append(Answered(status, time.perf_counter() - due, body))
    await _close(stream)


async def _exchange(stream: Stream, content: bytes) -> tuple[int, bytes]:
    """Send a request and return status and body of its answer."""
    reader, writer = stream
    writer.write(content)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, rest = head.partition(b"\r\ncontent-length:")
    if not rest:
        raise ValueError("an answer without Content-Length")
    length = int(rest[: rest.index(b"\r\n")])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def _until(due: float) -> None:
    """Wait until a time; the last of it awake, or the clock's tick would be added."""
    left = due - time.perf_counter()
    if left > SPIN_S:
        await asyncio.sleep(left - SPIN_S)
    while time.perf_counter() < due:
        await asyncio.sleep(0)


async def _close(stream: Stream | None) -> None:
    if stream is not None:
        stream[1].close()
        with suppress(OSError):
            await stream[1].wait_closed()


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Keep the collector of garbage out of what is timed."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
