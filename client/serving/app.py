"""The HTTP API of a site: who may ask what, how much, and how it is answered.

It holds no behaviour and decides nothing about recommendations: a service does, behind
``contract.ServiceLike``. No line is logged for a request that is answered.
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from client.serving.connection import Connection
from client.serving.contract import ServiceLike
from client.serving.edge import Edge
from client.serving.figures import Requests
from client.serving.guard import SCHEMES, Gate, Guarded
from client.serving.keys import Keys
from client.serving.limits import Rates, Room
from client.serving.problems import Problem, answer_problems
from client.serving.routes.items import add_items
from client.serving.routes.people import add_people
from client.serving.routes.recommend import add_recommend
from client.serving.routes.standing import add_page, add_standing
from client.serving.settings import ServingSettings
from shared.page import NAMES

TITLE, VERSION = "Tacit: recommendations of one site", "1"
ABOUT = """\
Recommendations for the users of one site, from its own machine: what users do never
leaves it. Errors are problem documents (RFC 9457) that repeat nothing they were sent.
"""
IDLE_S, END_S = 30, 5
CONNECTIONS = 512  # of one process; it also has files and a database open
PAGE = Path(__file__).parent / "page"


def make_app(
    service: ServiceLike,
    keys: Keys,
    settings: ServingSettings,
    *,
    hosts: Sequence[str] = tuple(NAMES),
) -> FastAPI:
    """Return the application of one process.

    Args:
        service: What answers.
        keys: Who may ask.
        settings: How much of everything.
        hosts: Names under which the site is asked; others are refused.
    """
    room = Room(settings.most_waiting)
    requests = Requests(room)
    app = FastAPI(
        openapi_url=None, redirect_slashes=False, title=TITLE, version=VERSION
    )
    app.state.gate = Gate(
        keys=keys,
        per_minute=settings.requests_per_minute,
        rates=Rates(settings.requests_per_minute),
        room=room,
        body_kib=settings.largest_body_kib,
        timeout_s=settings.timeout_s,
    )
    app.router.route_class = Guarded
    answer_problems(app)
    add_recommend(app, service)
    add_people(app, service)
    add_items(app, service)
    add_standing(app, service, requests)
    add_page(app, PAGE)
    app.add_middleware(Edge, hosts=hosts, requests=requests)
    app.openapi = cache(partial(_described, app))  # type: ignore[method-assign]  # as FastAPI's docs do
    return app


def uvicorn_settings(settings: ServingSettings) -> dict[str, Any]:
    """Return what uvicorn is told beside its application, address and certificate.

    No line is logged for a request: its path may hold a user's id.
    """
    return {
        "http": Connection,
        "ws": "none",
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": IDLE_S,
        "timeout_graceful_shutdown": max(END_S, round(settings.timeout_s)),
        "limit_concurrency": max(CONNECTIONS, 2 * settings.most_waiting),
    }


def _described(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with our problems in place of FastAPI's."""
    whole = get_openapi(
        title=TITLE, version=VERSION, description=ABOUT, routes=app.routes
    )
    reference = "#/components/schemas/{model}"
    problem = TypeAdapter(Problem).json_schema(ref_template=reference)
    components = whole["components"]
    components["schemas"] |= problem.pop("$defs") | {"Problem": problem}
    components["securitySchemes"] = SCHEMES
    return whole
