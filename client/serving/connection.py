"""One connection: the head of a request is short, and comes in time.

uvicorn waits for a head of any length for any time, whoever sends it. This refuses
both, before any key is asked for.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)

from client.serving.problems import problem

LONGEST_HEAD = 64 * 1024  # bytes that are neither a whole head nor of a body
HEAD_S = 10.0
NOT_HTTP = "this is no HTTP/1.1 request"


class Connection(HttpToolsProtocol):
    """Ends with a head that is too long or too late."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._loose = 0
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Read on, unless that leads nowhere."""
        if not self._is_answering():
            self._expect_head()
        self._loose += len(data)
        super().data_received(data)
        if self._loose > LONGEST_HEAD and not self.transport.is_closing():
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Stop waiting: a request is there."""
        self._loose = 0
        self._found_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Read on: the application bounds bodies."""
        self._loose = 0
        super().on_body(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting: nothing more comes."""
        self._found_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # of uvicorn's words
        """Answer as every failure is answered here, and end."""
        answer = problem(HTTPStatus.BAD_REQUEST, NOT_HTTP, {"Connection": "close"})
        head = b"".join(b"%s: %s\r\n" % pair for pair in answer.raw_headers)
        whole = b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + bytes(answer.body)
        self.transport.write(whole)
        self.transport.close()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _expect_head(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEAD_S, self.transport.close)

    def _found_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
