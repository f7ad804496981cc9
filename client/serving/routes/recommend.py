"""Routes by which users are served: recommendations, and what they did with them."""

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Body, FastAPI
from fastapi.responses import Response
from pydantic import TypeAdapter

from client.serving.ask import Answer, Cause, Parts, Reason, Recommended
from client.serving.contract import ServiceLike
from client.serving.guard import needs
from client.serving.routes.shown import WITH_BODY, example, written
from client.serving.schemas import Happenings, Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of events.

    Attributes:
        accepted: How many are kept now, durably, and count from the next answer on.
        repeated: How many were not: the same user's event of that id was kept before.
    """

    accepted: int
    repeated: int


ANSWER, KEPT = TypeAdapter(Answer), TypeAdapter(Kept)
FILM = Recommended(
    item="item-3",
    text="A storm between two stars. Sci-Fi",
    attributes={"genres": ("Sci-Fi",), "year": ("1994",)},
    score=3.5,
    parts=Parts(text=2.0, query=0.0, cf=1.0, prior=0.5, interests=0.0, rules=0.0),
    explored=False,
    reason=Reason(
        sentence="Because you liked A harbour of comets.",
        causes=(
            Cause(
                kind="history",
                name="item-8",
                text="A harbour of comets. Sci-Fi",
                amount=1.25,
            ),
        ),
    ),
)
ANSWERED = Answer(
    list="b7f0c2",
    release="spring/3",
    items=(FILM,),
    alpha=0.6,
    diversity=0.0,
    understood=None,
    conversation="",
)
EVENTS = [
    {"id": "e-1", "user": "u-17", "kind": "like", "item": "item-3", "shown": "b7f0c2"},
    [
        {"id": "e-2", "user": "u-17", "kind": "rate", "item": "item-8", "rating": 4.5},
        {"id": "e-3", "user": "u-17", "kind": "search", "text": "a quiet film"},
    ],
]


def add_recommend(app: FastAPI, service: ServiceLike) -> None:
    """Add the routes to an application."""

    @app.post(
        "/v1/recommendations",
        response_model=Answer,
        responses=WITH_BODY | example(ANSWER, ANSWERED),
        openapi_extra=needs("read"),
        tags=["users"],
    )
    async def recommendations(wish: Wish) -> Response:
        """Recommend items.

        By a user's id, an anonymous history, a request in plain language, or any of
        them together; by none of them what is popular.
        """
        return written(ANSWER, await service.recommend(wish.meant()))

    @app.post(
        "/v1/events",
        response_model=Kept,
        responses=WITH_BODY | example(KEPT, Kept(accepted=2, repeated=0)),
        openapi_extra=needs("write"),
        tags=["users"],
    )
    async def events(
        happened: Annotated[Happenings, Body(examples=EVENTS)],
    ) -> Response:
        """Keep one event or a batch of them.

        They are durable when this answers, and count in the very next recommendations.
        An id counts once for a user, so a batch may be sent again.
        """
        now = int(time.time())
        batch = happened if isinstance(happened, list) else [happened]
        new = await service.add_events([event.meant(now) for event in batch])
        return written(KEPT, Kept(accepted=new, repeated=len(batch) - new))
