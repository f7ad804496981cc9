"""Routes about the process itself, and the page; these alone ask for no key.

The figures and the description of the API do ask for one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry, generate_latest

from client.serving.contract import ServiceLike
from client.serving.figures import Model, Requests
from client.serving.guard import needs
from client.serving.problems import Fault, documented, problem
from client.serving.routes.shown import GUARDED
from shared import page
from shared.page import PROMETHEUS

SCRIPTS = ("page", "api", "cards", "choose", "element", "interests", "request", "whom")
NOT_READY = "no good answer can be given at this moment"


def add_standing(app: FastAPI, service: ServiceLike, requests: Requests) -> None:
    """Add the routes to an application."""

    async def livez() -> PlainTextResponse:
        """Tell that the process answers."""
        return PlainTextResponse("alive\n")

    async def readyz() -> Response:
        """Tell whether good answers can be given, and if not, why."""
        if reasons := service.unready():
            faults = [Fault(place="", detail=reason) for reason in reasons]
            return problem(503, NOT_READY, {"Retry-After": "5"}, faults)
        return PlainTextResponse("ready\n")

    open_to_all(app, "/livez", livez, response_class=PlainTextResponse)
    unready = documented(503)
    open_to_all(
        app, "/readyz", readyz, response_class=PlainTextResponse, responses=unready
    )

    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses=GUARDED,
        openapi_extra=needs("read", "admin"),
        tags=["site"],
    )
    async def metrics() -> Response:
        """Tell this process's figures, in the text format of Prometheus."""
        registry = CollectorRegistry()
        for figures in (requests, Model(service.model()), service.figures()):
            registry.register(figures)
        return Response(generate_latest(registry), media_type=PROMETHEUS)

    @app.get("/openapi.json", include_in_schema=False, openapi_extra=needs("read"))
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())


def add_page(app: FastAPI, folder: Path) -> None:
    """Add the files of the page in ``folder``, each by name; it holds no secret."""
    for route, path in _files(folder).items():
        if path.is_file():
            sender = _sender(path)
            open_to_all(app, route, sender, include_in_schema=False)


def open_to_all(
    app: FastAPI, path: str, endpoint: Callable[..., Any], **said: Any
) -> None:
    """Add a route that anyone may ask, without a key."""
    app.router.add_api_route(
        path, endpoint, methods=["GET"], route_class_override=APIRoute, **said
    )


def _files(folder: Path) -> dict[str, Path]:
    names = ["page.css", *(f"{name}.js" for name in SCRIPTS)]
    return {
        "/": folder / "index.html",
        **{f"/{name}": folder / name for name in names},
        "/icon.svg": Path(page.__file__).parent / "icon.svg",
    }


def _sender(path: Path) -> Callable[[], FileResponse]:
    def send() -> FileResponse:
        return FileResponse(path)

    return send
