"""A live, read-only page of one view: what both the server's and a site's are made of.

It answers GET alone, to this machine's own names alone, loads nothing from elsewhere
and changes nothing. What it shows is for its caller to choose.
"""

import asyncio
import json
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.errors import TacitError

LOOPBACK = "127.0.0.1"
NAMES = ["127.0.0.1", "localhost"]  # any other Host: a page that rebinds its own name
PERIOD_S, HEARTBEAT_S = 1.0, 15.0
END_S = 5  # longest wait for open streams; they look up once in PERIOD_S
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
V = TypeVar("V")


def page_app(
    look: Callable[[], V],
    folder: Path,
    *,
    unready: Callable[[V], Sequence[str]],
    figures: Callable[[V], Collector],
) -> FastAPI:
    """Return the application; it is for its caller to bind it to loopback.

    Args:
        look: Gives the view, a dataclass; called at most once in ``PERIOD_S``.
        folder: Where the page's own ``page.html`` and ``page.js`` lie.
        unready: Why a view is not ready, one sentence each.
        figures: Of the view, for Prometheus.
    """
    latest = Latest(look)
    app = FastAPI(openapi_url=None)
    app.state.over = lambda: False
    app.add_middleware(ReadOnly)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=NAMES)
    app.add_exception_handler(TacitError, _fault)

    @app.get("/v1/view")
    def view() -> JSONResponse:
        return JSONResponse(plain(latest()))

    @app.get("/v1/stream")
    async def stream() -> StreamingResponse:
        told = events(latest, app.state.over)
        return StreamingResponse(told, media_type="text/event-stream")

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(exposition(figures(latest())), media_type=PROMETHEUS)

    @app.get("/livez")
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        reasons = list(unready(latest()))
        body = {"ready": not reasons, "reasons": reasons}
        return JSONResponse(body, 503 if reasons else 200)

    for route, path in _files(folder).items():
        app.add_api_route(route, _sender(path), methods=["GET"])
    return app


def serve(app: FastAPI, port: int) -> None:
    """Serve on loopback until the process is told to end; open streams do not hold it.

    Args:
        app: What ``page_app`` returned.
        port: Of ``127.0.0.1``.
    """
    with suppress(KeyboardInterrupt):
        _server(app, port).run()


def plain(view: Any) -> Any:
    """Return a dataclass as JSON holds it; what is not finite becomes null."""
    return _finite(asdict(view))


def exposition(figures: Collector) -> bytes:
    """Return figures in the text format of Prometheus."""
    registry = CollectorRegistry()
    registry.register(figures)
    return generate_latest(registry)


class Latest(Generic[V]):
    """The newest view, made at most once in ``PERIOD_S`` however many ask for it."""

    def __init__(self, look: Callable[[], V]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._made: tuple[float, V] | None = None

    def __call__(self) -> V:
        """Return it, made anew if it is older."""
        with self._lock:
            if self._made is None or time.monotonic() - self._made[0] >= PERIOD_S:
                self._made = time.monotonic(), self._look()
            return self._made[1]


async def events(
    latest: Callable[[], object], over: Callable[[], bool] = lambda: False
) -> AsyncIterator[str]:
    """Yield the view as a server-sent event whenever it changes, until it is over.

    A comment follows after each ``HEARTBEAT_S`` of silence; whoever listens notices a
    lost connection by it.
    """
    said, since = "", time.monotonic()
    while not over():
        text = await run_in_threadpool(_event, latest)
        if text != said or time.monotonic() - since >= HEARTBEAT_S:
            yield text if text != said else ": still here\n\n"
            said, since = text, time.monotonic()
        await asyncio.sleep(PERIOD_S)


class ReadOnly:
    """Answer nothing but GET, and send the page's headers with every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request that only reads on."""

        async def sends(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] == "http" and scope["method"] != "GET":
            only = {"Allow": "GET"}
            refusal = PlainTextResponse("this page only shows\n", 405, only)
            await refusal(scope, receive, sends)
        else:
            await self._app(scope, receive, sends)


def _server(app: FastAPI, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        host=LOOPBACK,
        port=port,
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=END_S,
        server_header=False,
    )
    server = uvicorn.Server(config)
    app.state.over = lambda: server.should_exit
    return server


def _files(folder: Path) -> dict[str, Path]:
    """Return the static routes: two files of the page, three that all share."""
    ours = Path(__file__).parent
    return {
        "/": folder / "page.html",
        "/page.js": folder / "page.js",
        "/page.css": ours / "page.css",
        "/live.js": ours / "live.js",
        "/icon.svg": ours / "icon.svg",
    }


def _sender(path: Path) -> Callable[[], FileResponse]:
    def send() -> FileResponse:
        return FileResponse(path)

    return send


def _event(latest: Callable[[], object]) -> str:
    """Return the view as an event, or the fault that leaves nothing to see."""
    try:
        name, said = "view", plain(latest())
    except TacitError as error:
        name, said = "fault", str(error)
    return f"event: {name}\ndata: {json.dumps(said)}\n\n"


def _fault(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"fault": str(error)}, 503)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
