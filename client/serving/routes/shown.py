"""How answers are written: straight from dataclasses to bytes, as OpenAPI says."""

from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import Response
from pydantic import TypeAdapter

from client.serving.problems import documented
from client.serving.schemas import Id

JSON = "application/json"
GUARDED = documented(400, 401, 403, 413, 422, 429, 500, 503)
WITH_BODY = GUARDED | documented(415)
User = Annotated[Id, Path(description="The site's own identifier.", examples=["u-17"])]
Item = Annotated[Id, Path(description="Its identifier.", examples=["item-3"])]


def written(kind: TypeAdapter[Any], value: object) -> Response:
    """Return a value as JSON."""
    return Response(kind.dump_json(value), media_type=JSON)


def example(kind: TypeAdapter[Any], value: object) -> dict[int | str, dict[str, Any]]:
    """Return for OpenAPI what an answer looks like."""
    shown = kind.dump_python(value, mode="json")
    return {200: {"content": {JSON: {"example": shown}}}}
