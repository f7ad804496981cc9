"""The outermost layer: names, headers, figures, and whatever nobody foresaw.

It refuses a request for a name that is not the site's: a page elsewhere may have bound
its own name to this address. Of an error that nobody caught a log line says its class
and place, and the answer nothing.
"""

import logging
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from client.serving.figures import Requests
from client.serving.problems import problem
from shared.logs import places
from shared.page import HEADERS

OTHER_NAME = "this site is not known by that name"
CRASHED = "something went wrong here; the site's log says where"
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_LOG = logging.getLogger("tacit.serving")


class Edge:
    """Wraps the whole application."""

    def __init__(
        self, app: ASGIApp, hosts: Collection[str], requests: Requests
    ) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and never an error back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def sends(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            inner = self._app if self._is_ours(scope) else problem(421, OTHER_NAME)
            await inner(scope, receive, sends)
        except Exception as error:  # noqa: BLE001  # or its text would be logged
            _LOG.error("a request failed: %s", places(error))
            if not status:
                await problem(500, CRASHED)(scope, receive, sends)
        finally:
            route = getattr(scope.get("route"), "path_format", "")
            took = time.perf_counter() - begun
            self._requests.count(scope["method"], route, status, took)

    def _is_ours(self, scope: Scope) -> bool:
        named = next((v for k, v in scope["headers"] if k == b"host"), b"")
        name = named.decode("latin-1").lower()
        bare = name if name.endswith("]") else name.rpartition(":")[0] or name
        return bare.strip("[]") in self._hosts
