"""The load asks what it is told, counts what fails, and times what waits."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import cycle

import numpy as np
import pytest

from simulations.bench.load import (
    BROKEN,
    Answered,
    Load,
    at_random,
    closed,
    in_turn,
    request,
)

Answer = Callable[[bytes], Awaitable[bytes]]
Use = Callable[[int], Awaitable[Load]]


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )


def loaded(answers: Answer, use: Use) -> Load:
    """What came of a load on a small server of ours; an empty answer hangs up."""

    async def serves(reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            length = 0
            while (line := await reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            made = await answers(head.split()[1] + await reader.readexactly(length))
            if not made:
                break
            out.write(made)
        out.close()

    async def run() -> Load:
        server = await asyncio.start_server(serves, "127.0.0.1", 0)
        async with server:
            return await use(server.sockets[0].getsockname()[1])

    return asyncio.run(run())


async def echo(asked: bytes) -> bytes:
    return answer(asked)


def test_every_request_is_asked_once_in_turn_and_answered_whole() -> None:
    asked = [request("POST", "/", {"n": n}) for n in range(50)]

    load = loaded(echo, lambda port: in_turn(port, asked, connections=1))

    bodies = [json.loads(a.body.removeprefix(b"/"))["n"] for a in load.answers]
    assert bodies == list(range(50))
    assert not load.failed


@pytest.mark.parametrize("connections", [1, 4])
def test_a_closed_load_asks_as_often_as_it_is_answered(connections: int) -> None:
    async def slowly(asked: bytes) -> bytes:
        await asyncio.sleep(0.01)
        return answer(asked)

    asked = cycle([request("GET", "/x")])
    load = loaded(
        slowly, lambda port: closed(port, asked, connections=connections, seconds=0.4)
    )

    assert load.seconds == pytest.approx(0.4, abs=0.1)
    assert load.rate < connections / 0.01
    assert load.rate > 0.5 * connections / 0.01
    assert load.percentile_ms(50) >= 10


def test_what_has_to_wait_at_random_times_is_timed_from_when_it_was_due() -> None:
    alone = asyncio.Lock()

    async def one_by_one(asked: bytes) -> bytes:
        async with alone:
            await asyncio.sleep(0.01)
        return answer(asked)

    asked, rng = cycle([request("GET", "/x")]), np.random.default_rng(0)
    load = loaded(
        one_by_one,
        lambda port: at_random(port, asked, rate=200, seconds=0.4, rng=rng),
    )

    assert len(load.answers) == 80
    assert load.percentile_ms(10) < 100
    assert load.percentile_ms(95) > 200  # twice too many come: the queue grows


def test_random_times_come_at_the_rate_that_was_asked_for() -> None:
    asked, rng = cycle([request("GET", "/x")]), np.random.default_rng(1)

    load = loaded(
        echo, lambda port: at_random(port, asked, rate=300, seconds=0.5, rng=rng)
    )

    assert load.rate == pytest.approx(300, rel=0.3)
    assert load.percentile_ms(50) < 10


def test_refusals_and_broken_connections_are_counted_and_the_rest_goes_on() -> None:
    async def mixed(asked: bytes) -> bytes:
        statuses = {b"/broken": b"", b"/full": answer(b"", "503 Busy")}
        return statuses.get(asked, answer(asked))

    paths = ["/ok", "/broken", "/full", "/ok", "/full"]
    asked = [request("GET", path) for path in paths]
    load = loaded(mixed, lambda port: in_turn(port, asked, connections=1))

    assert load.failed == {BROKEN: 1, 503: 2}
    assert Counter(a.status for a in load.answers)[200] == 2


def test_a_server_that_is_not_there_fails_every_request() -> None:
    load = asyncio.run(in_turn(9, [request("GET", "/")] * 3, connections=2))

    assert load.failed == {BROKEN: 3}


def test_figures_are_those_of_the_answers() -> None:
    load = Load([Answered(200, n / 1000, b"") for n in range(1, 101)], seconds=2.0)

    assert load.rate == 50
    assert load.percentile_ms(50) == pytest.approx(50.5)
    assert load.percentile_ms(99) == pytest.approx(99.01)
