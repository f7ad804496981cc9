"""What every request passes before it is answered: key, role, rate, size, time.

A route that names no role is refused when it is made, not when it is asked for.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from client.serving.keys import Keys, Role
from client.serving.limits import Rates, Room, bounded
from shared.errors import ConfigError
from shared.logs import told

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
JSON = "application/json"
NO_KEY = "give an API key: Authorization: Bearer KEY, or X-API-Key: KEY"
NO_KEYS = "no key can be checked at this moment; the site's log says why"
NO_ROLE = "this needs a key with the role {roles}"
TOO_MANY = "this key may ask {limit} times a minute; wait {wait} s"
NO_JSON = "the body is not JSON (RFC 8259)"
NO_TYPE = "send the body as application/json, not compressed"
TOO_SLOW = "not done within {limit:g} s; try again"
_LOG = logging.getLogger("tacit.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What all routes of one process share.

    Attributes:
        keys: Who may come in.
        per_minute: How often each key may.
        rates: What each has left of it.
        room: For all requests under way.
        body_kib: Longest body.
        timeout_s: Longest time.
    """

    keys: Keys
    per_minute: int
    rates: Rates
    room: Room
    body_kib: int
    timeout_s: float

    def admit(self, headers: Headers, roles: frozenset[str]) -> None:
        """Let a request in.

        Raises:
            HTTPException: 401 without a key, 403 without a role, 429 over the rate; 503
                if no key can be checked.
        """
        try:
            owner = self.keys.owner(_presented(headers))
        except ConfigError as error:
            _LOG.error("nobody can come in: %s", told(error))
            raise HTTPException(503, NO_KEYS) from None
        if owner is None:
            raise HTTPException(401, NO_KEY, {"WWW-Authenticate": "Bearer"})
        if wait := self.rates.wait_s(owner.name):
            text = TOO_MANY.format(limit=self.per_minute, wait=wait)
            raise HTTPException(429, text, {"Retry-After": str(wait)})
        if roles.isdisjoint(owner.roles):
            raise HTTPException(403, NO_ROLE.format(roles=" or ".join(sorted(roles))))


class Guarded(APIRoute):
    """A route behind the gate, which reads its body strictly."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **said: Any) -> None:
        super().__init__(path, endpoint, **said)
        security = (self.openapi_extra or {})["security"]
        self._roles = frozenset(security[0]["bearer"])

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that may come in."""
        if scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)  # it answers 405
            return
        gate: Gate = scope["app"].state.gate
        headers = Headers(scope=scope)
        gate.admit(headers, self._roles)
        if self.body_field and not _is_json(headers):
            raise HTTPException(415, NO_TYPE, {"Accept": JSON})
        receives = bounded(receive, headers.get("content-length"), gate.body_kib)
        with gate.room.place():
            time = asyncio.timeout(gate.timeout_s)
            try:
                async with time:
                    await super().handle(scope, receives, send)
            except TimeoutError:
                if not time.expired():
                    raise
                text = TOO_SLOW.format(limit=gate.timeout_s)
                raise HTTPException(503, text, {"Retry-After": "1"}) from None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers, from a body that is JSON and nothing near it."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_Strict(request.scope, request.receive))

        return strictly


def needs(*roles: Role) -> dict[str, Any]:
    """Return for OpenAPI, and for ``Guarded``, that a route needs one of the roles."""
    return {"security": [{scheme: list(roles)} for scheme in SCHEMES]}


class _Strict(Request):
    """A request whose JSON holds no half characters and no number that is none."""

    async def json(self) -> Any:
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError:
            raise HTTPException(400, NO_JSON) from None


def _presented(headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


def _is_json(headers: Headers) -> bool:
    media = headers.get("content-type", "").partition(";")[0]
    plain = headers.get("content-encoding", "identity").lower() == "identity"
    return plain and media.strip().lower() == JSON
