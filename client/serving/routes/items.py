"""Routes about the public catalogue and the model that ranks it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Body, FastAPI, Query
from fastapi.responses import Response
from pydantic import TypeAdapter

from client.serving.ask import Recommended
from client.serving.contract import ModelCard, ServiceLike
from client.serving.guard import needs
from client.serving.problems import documented
from client.serving.routes.recommend import FILM
from client.serving.routes.shown import GUARDED, WITH_BODY, Item, example, written
from client.serving.schemas import PRINTED, Items


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An item as it is listed."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Items that hold all words."""

    items: tuple[Listed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """Items, the nearest first."""

    items: tuple[Recommended, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """How many items can be recommended now, durably."""

    accepted: int


FOUND, SIMILAR = TypeAdapter(Found), TypeAdapter(Similar)
PUT, CARD = TypeAdapter(Put), TypeAdapter(ModelCard)
ITEM = {
    "id": "item-900",
    "text": "The last lighthouse. A keeper counts comets.",
    "attributes": {"genres": ["Drama", "Sci-Fi"], "year": ["2026"]},
}
SERVED = ModelCard(
    release="spring/3",
    digest="9b1c" * 16,
    items=1682,
    fresh=1,
    attributes=("genres", "year"),
    alpha=0.6,
    languages=("en",),
)
LISTED = Found(items=(Listed(id="item-3", text=FILM.text),))


def add_items(app: FastAPI, service: ServiceLike) -> None:
    """Add the routes to an application."""

    @app.get(
        "/v1/items",
        response_model=Found,
        responses=GUARDED | example(FOUND, LISTED),
        openapi_extra=needs("read"),
        tags=["items"],
    )
    async def items(
        search: Annotated[str, Query(max_length=200, pattern=PRINTED)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> Response:
        """Find items by the words of their text; without words, the first ones."""
        found = await service.search_items(search, limit)
        rows = tuple(Listed(id=item, text=text) for item, text in found)
        return written(FOUND, Found(items=rows))

    @app.get(
        "/v1/items/{item:path}/similar",
        response_model=Similar,
        responses=GUARDED | documented(404) | example(SIMILAR, Similar(items=(FILM,))),
        openapi_extra=needs("read"),
        tags=["items"],
    )
    async def similar(
        item: Item, k: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> Response:
        """Tell which items' texts are nearest to an item's."""
        return written(SIMILAR, Similar(items=service.similar(item, k)))

    @app.put(
        "/v1/items",
        response_model=Put,
        responses=WITH_BODY | example(PUT, Put(accepted=1)),
        openapi_extra=needs("admin"),
        tags=["items"],
    )
    async def put(items: Annotated[Items, Body(examples=[ITEM, [ITEM]])]) -> Response:
        """Add one item or a list of them; recommendable at once, by their texts."""
        batch = items if isinstance(items, list) else [items]
        accepted = await service.put_items([item.meant() for item in batch])
        return written(PUT, Put(accepted=accepted))

    @app.get(
        "/v1/model",
        response_model=ModelCard,
        responses=GUARDED | example(CARD, SERVED),
        openapi_extra=needs("read"),
        tags=["site"],
    )
    async def model() -> Response:
        """Tell what is served at this moment."""
        return written(CARD, service.model())
