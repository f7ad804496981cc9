"""Routes about one user: interests, what they declare, and that they be forgotten."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Body, FastAPI, Query
from fastapi.responses import Response
from pydantic import TypeAdapter

from client.serving.contract import ServiceLike
from client.serving.guard import needs
from client.serving.interests import Interest
from client.serving.problems import documented
from client.serving.routes.shown import GUARDED, WITH_BODY, User, example, written
from client.serving.schemas import CLOSED, PRINTED, About, Edits


@dataclass(frozen=True, slots=True, kw_only=True)
class Interests:
    """A user's interests, the strongest first."""

    interests: tuple[Interest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """Ids in order; ask for those after the last one."""

    users: tuple[str, ...]


INTERESTS, USERS = TypeAdapter(Interests), TypeAdapter(Users)
SCIENCE_FICTION = Interest(
    key="attribute:genres:Sci-Fi",
    name="Sci-Fi",
    kind="attribute",
    weight=0.4,
    before=0.25,
    state="pinned",
)
LIKED = example(INTERESTS, Interests(interests=(SCIENCE_FICTION,)))
EDITS = [[{"interest": "attribute:genres:Sci-Fi", "state": "pinned"}]]
ABOUT = [{"age": "25-34", "place": "north"}]
GONE: dict[int | str, dict[str, Any]] = {204: {"description": "Done."}}


def add_people(app: FastAPI, service: ServiceLike) -> None:
    """Add the routes to an application."""

    @app.get(
        "/v1/users/{user:path}/interests",
        response_model=Interests,
        responses=GUARDED | documented(404) | LIKED,
        openapi_extra=needs("read"),
        tags=["users"],
    )
    async def interests(user: User) -> Response:
        """Tell a user's interests."""
        return written(INTERESTS, Interests(interests=service.interests(user)))

    @app.put(
        "/v1/users/{user:path}/interests",
        response_model=Interests,
        responses=WITH_BODY | documented(404) | LIKED,
        openapi_extra=needs("write"),
        tags=["users"],
    )
    async def edit_interests(
        user: User, edits: Annotated[Edits, Body(examples=EDITS)]
    ) -> Response:
        """Pin, mute or forget a user's interests; it counts in the very next answer.

        Forgotten: events until now no longer count for it. None: the edit is undone.
        """
        said = {edit.interest: edit.state for edit in edits}
        await service.edit_interests(user, said)
        return written(INTERESTS, Interests(interests=service.interests(user)))

    @app.put(
        "/v1/users/{user:path}/about",
        status_code=204,
        response_class=Response,
        responses=WITH_BODY | documented(404) | GONE,
        openapi_extra=needs("write"),
        tags=["users"],
    )
    async def declare(
        user: User,
        about: Annotated[About, Body(examples=ABOUT, json_schema_extra=CLOSED)],
    ) -> Response:
        """Keep what a user declares of themselves, over what they did before."""
        await service.declare(user, about)
        return Response(status_code=204)

    @app.get(
        "/v1/users",
        response_model=Users,
        responses=GUARDED | example(USERS, Users(users=("u-17", "u-18"))),
        openapi_extra=needs("admin"),
        tags=["site"],
    )
    async def users(
        after: Annotated[str, Query(max_length=200, pattern=PRINTED)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """List the ids of users, in order."""
        return written(USERS, Users(users=tuple(service.users(after, limit))))

    @app.delete(
        "/v1/users/{user:path}",
        status_code=204,
        response_class=Response,
        responses=GUARDED | documented(404) | GONE,
        openapi_extra=needs("admin"),
        tags=["site"],
    )
    async def remove(user: User) -> Response:
        """Forget a user for ever: nothing of theirs is kept, read or trained on."""
        await service.remove_user(user)
        return Response(status_code=204)
