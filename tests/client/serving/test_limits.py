"""Rates, room and sizes hold whatever comes, and so do a connection's."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.types import Message

from client.serving import connection
from client.serving.app import uvicorn_settings
from client.serving.limits import Rates, Room, bounded
from client.serving.settings import ServingSettings
from tests.client.serving.api import SECRET, Api

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@given(
    per_minute=st.integers(1, 600),
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_in_no_span_does_a_key_get_more_than_a_bucket_and_what_the_span_brings(
    per_minute: int, gaps: list[float]
) -> None:
    now = 0.0
    rates = Rates(per_minute, lambda: now)
    taken = []
    for gap in gaps:
        now += gap
        if rates.wait_s("a") == 0:
            taken.append(now)

    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            brought = (taken[last] - begin) * per_minute / 60
            assert last - first + 1 <= per_minute + brought + 1e-6


@given(per_minute=st.integers(1, 600), after=st.floats(0, 100))
def test_who_waits_as_told_gets_a_token(per_minute: int, after: float) -> None:
    now = after
    rates = Rates(per_minute, lambda: now)
    while (wait := rates.wait_s("a")) == 0:
        pass

    now += wait

    assert 1 <= wait <= 60
    assert rates.wait_s("a") == 0


def test_one_key_takes_nothing_from_another() -> None:
    rates = Rates(1, lambda: 0.0)

    assert (rates.wait_s("a"), rates.wait_s("b"), rates.wait_s("a")) == (0, 0, 60)


def test_a_place_comes_free_however_a_request_ends() -> None:
    room = Room(1)

    with room.place(), pytest.raises(HTTPException) as full, room.place():
        pass
    with pytest.raises(ValueError, match="ended"), room.place():
        raise ValueError("ended")

    assert full.value.status_code == 503
    assert room.taken == 0


@given(parts=st.lists(st.integers(0, 700), max_size=8))
def test_no_more_of_a_body_is_read_than_the_limit_and_one_part(
    parts: list[int],
) -> None:
    left = list(parts)

    async def receive() -> Message:
        size = left.pop(0)
        return {"type": "http.request", "body": b"x" * size, "more_body": bool(left)}

    async def read() -> int:
        receives, taken = bounded(receive, None, 1), 0
        for _ in parts:
            taken += len((await receives())["body"])
        return taken

    if sum(parts) <= 1024:
        assert asyncio.run(read()) == sum(parts)
    else:
        with pytest.raises(HTTPException) as refused:
            asyncio.run(read())
        assert refused.value.status_code == 413
        assert sum(parts[: len(parts) - len(left) - 1]) <= 1024


@pytest.mark.parametrize("declared", ["1025", "9" * 30])
def test_a_length_that_is_declared_too_long_is_not_waited_for(declared: str) -> None:
    with pytest.raises(HTTPException) as refused:
        bounded(lambda: pytest.fail("it was read"), declared, 1)

    assert refused.value.status_code == 413


@contextmanager
def listening(api: Api) -> Iterator[int]:
    """The app behind uvicorn as a site runs it, on a free port of loopback."""
    config = uvicorn.Config(api.app, **uvicorn_settings(ServingSettings()))
    server = uvicorn.Server(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([free],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield free.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def said(port: int, *parts: bytes) -> bytes:
    """What comes back until the connection ends; each part is sent after a while."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as wire:
        whole = b""
        try:
            for part in parts:
                wire.sendall(part)
                time.sleep(0.05 if len(parts) < 9 else 0)
            while came := wire.recv(65_536):
                whole += came
        except (ConnectionResetError, BrokenPipeError):
            pass
        return whole


def test_a_connection_is_served_and_says_nothing_of_the_server(tmp_path: Path) -> None:
    api = Api(tmp_path)
    ask = b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\nX-API-Key: "
    close = b"\r\nConnection: close\r\n\r\n"

    with listening(api) as port:
        told = said(port, ask + api.key.encode() + close)

    assert told.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"spring/3" in told
    assert b"server:" not in told.lower()


def test_two_requests_share_a_connection(tmp_path: Path) -> None:
    with listening(Api(tmp_path)) as port:
        told = said(port, GET + b"\r\n", GET + b"Connection: close\r\n\r\n")

    assert told.count(b"alive\n") == 2


@pytest.mark.parametrize("head", [b"X-Long: ", b"X-Long: 1\r\nX-Long: "])
def test_a_head_without_an_end_is_not_kept(tmp_path: Path, head: bytes) -> None:
    endless = [b"x" * 65_536] * 64

    with listening(Api(tmp_path)) as port:
        told = said(port, GET + head, *endless)

    assert told == b""


def test_a_head_that_is_late_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.2)

    with listening(Api(tmp_path)) as port:
        begun = time.monotonic()
        told = [said(port, b""), said(port, GET), said(port, GET + b"\r\n", GET)]
        took = time.monotonic() - begun

    assert told[:2] == [b"", b""]
    assert told[2].count(b"alive\n") == 1
    assert took < 5


def test_what_is_not_http_is_a_problem_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with listening(Api(tmp_path)) as port:
        told = said(port, b"GET\x00 /%s HTTP/9\r\n\r\n" % SECRET.encode())

    assert told.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/problem+json\r\n" in told
    assert SECRET.encode() not in told
    assert SECRET not in "".join(capfd.readouterr())


def test_no_line_is_logged_for_a_request(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    api = Api(tmp_path)
    path = f"/v1/users/{SECRET}/interests".encode()

    with listening(api) as port:
        told = said(
            port,
            b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nX-API-Key: ",
            api.key.encode() + b"\r\nConnection: close\r\n\r\n",
        )

    assert told.startswith(b"HTTP/1.1 404")
    assert capfd.readouterr() == ("", "")
