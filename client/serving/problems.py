"""Every failure as a problem document (RFC 9457), which repeats nothing it was sent.

What a request held may be a user's behaviour. So a document names the place of a fault
and the limit, by words of our own, and never the value, nor a name that the sender
chose.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from client.serving.contract import NotHere
from client.serving.refused import Refused
from client.serving.schemas import FIELDS
from shared.errors import TacitError
from shared.logs import told

MEDIA = "application/problem+json"
REFERENCE = {"$ref": "#/components/schemas/Problem"}
AGAIN = {"Retry-After": "1"}
NO_PATH = "nothing is at this path; see /openapi.json"
NOT_NOW = "this cannot be answered at the moment; the site's own log says why"
NO_METHOD = "this path takes other methods; see the header Allow"
_PLAINER = {
    "extra_forbidden": "holds a field that is not known",
    "string_pattern_mismatch": "holds a control character",
}
_LOG = logging.getLogger("tacit.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong with a request.

    Attributes:
        place: Where: ``path``, ``query`` or ``body``, then names of fields and places
            in lists; as far as it leads without a name that the sender chose.
        detail: What is asked for there.
    """

    place: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request failed.

    Attributes:
        type: Always ``about:blank``: the status says what kind it is.
        title: The status in words.
        status: The HTTP status.
        detail: What is wrong and what to do.
        errors: Each fault, if the request itself is at fault.
    """

    title: str
    status: int
    detail: str
    type: str = "about:blank"
    errors: tuple[Fault, ...] = ()


def problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: Sequence[Fault] = (),
) -> Response:
    """Return a problem document.

    Args:
        status: The HTTP status.
        detail: What is wrong and what to do; nothing of the request.
        headers: Of the answer.
        errors: Each fault, if the request itself is at fault.
    """
    title = HTTPStatus(status).phrase
    whole = Problem(title=title, status=status, detail=detail, errors=tuple(errors))
    content = json.dumps(asdict(whole), ensure_ascii=False)
    return Response(content, status, headers, media_type=MEDIA)


def answer_problems(app: FastAPI) -> None:
    """Let an application answer each refusal with a problem document."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(TacitError, _ours)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return for OpenAPI that a route may answer with problems of these statuses."""
    content = {MEDIA: {"schema": REFERENCE}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # it is registered for these
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(404, NO_PATH)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return problem(405, NO_METHOD, {"Allow": ", ".join(_methods(request))})
    return problem(error.status_code, error.detail, error.headers)


async def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # as above
    found = {_fault(one): None for one in error.errors()}
    return problem(422, "the request is not as /openapi.json says", None, [*found])


async def _ours(_request: Request, error: Exception) -> Response:
    if isinstance(error, NotHere):
        return problem(404, str(error))
    if isinstance(error, Refused):
        return problem(400, str(error))
    _LOG.warning("a request was not served: %s", told(error))
    return problem(503, NOT_NOW, AGAIN)


def _methods(request: Request) -> list[str]:
    """Return every method that a request's path takes."""
    return sorted(
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods
    )


def _fault(found: Mapping[str, Any]) -> Fault:
    """Return what pydantic found, without what it found it in."""
    source, *rest = found["loc"]
    ours = [p for p in rest if source != "body" or p in FIELDS or isinstance(p, int)]
    place = "/".join(map(str, [source, *ours]))
    if found["type"] == "union_tag_invalid":  # its message repeats the tag
        kinds = found["ctx"]["expected_tags"]
        return Fault(place=place, detail=f"its kind is none of {kinds}")
    return Fault(place=place, detail=_PLAINER.get(found["type"], found["msg"]))
