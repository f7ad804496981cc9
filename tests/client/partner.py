"""An operator and a partner of tests: an invitation, a site made from it, a server."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from fastapi import Request
from fastapi.responses import Response
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.main import create_app
from starlette.middleware.base import RequestResponseEndpoint

from client.setup import init
from server.certificates import (
    make_authority,
    make_server_certificate,
    read_authority,
)
from shared.invitation import Invitation, to_text
from shared.signing import public_key
from tests.factories import tiny_digest
from tests.standin import key_of

USERS = 40
DATA = """\
[interactions]
file = "interactions.csv"
user = "customer"
item = "sku"
timestamp = "time"
[items]
file = "items.csv"
item = "sku"
text = ["title"]
"""


def make_tls(folder: Path, start: datetime | None = None) -> Path:
    """An authority and a certificate for loopback, valid from ``start`` on."""
    folder.mkdir()
    start = start or datetime.now(UTC)
    make_authority(folder, "test", start)
    make_server_certificate(folder, "test", [], start)
    return folder


def an_invitation(tls: Path, **changes: Any) -> Invitation:
    """What the operator would send; nothing listens there."""
    made = Invitation(
        site="north",
        address="127.0.0.1:1",
        ca=read_authority(tls),
        operator=public_key(key_of("operator")),
        base=tiny_digest(),
        bundle="b" * 64,
        tacit=version("tacit"),
        flwr="1.41.0",
    )
    return replace(made, **changes)


def join_text(invitation: Invitation) -> str:
    """The file of an invitation, signed by the operator of tests."""
    return to_text(invitation, key_of("operator"))


def make_site(folder: Path, invitation: Invitation) -> Path:
    """A partner's new site, with data of its own."""
    init(folder, join_text(invitation), users=USERS, base="tiny")
    rows = [f"customer-{n},sku-{n % 7},{1000 + n}" for n in range(USERS)]
    items = [f"sku-{n},the {n}th thing" for n in range(7)]
    tables = {
        "data.toml": DATA,
        "interactions.csv": "\n".join(["customer,sku,time", *rows]) + "\n",
        "items.csv": "\n".join(["sku,title", *items]) + "\n",
    }
    for name, text in tables.items():
        (folder / "data" / name).write_text(text, "utf-8")
    return folder


@dataclass(frozen=True, slots=True)
class SuperLink:
    """Flower's own server app under TLS, as partners meet it."""

    address: str
    state: Any

    def admit(self, site: Path) -> int:
        """Register a site's node as ``tacit server admit`` does; return its id."""
        key = load_ssh_public_key((site / "node.pub").read_bytes())
        assert isinstance(key, EllipticCurvePublicKey)
        found: int = self.state.create_node("", "", public_key_to_bytes(key), 0)
        return found

    def status(self, node: int) -> str:
        """What the server says of a node."""
        (info,) = self.state.get_node_info(node_ids=[node])
        return str(info.status)


@contextmanager
def superlink(tls: Path) -> Iterator[SuperLink]:
    """Run Flower's real SuperLink app in a thread, with authentication of nodes."""
    app = create_app()
    app.state.enable_supernode_auth = True

    @app.middleware("http")
    async def dated(request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Tell the time as nginx does; uvicorn's own may be seconds old."""
        response = await call_next(request)
        response.headers["date"] = format_datetime(datetime.now(UTC), usegmt=True)
        return response

    config = uvicorn.Config(
        app,
        host="0.0.0.0",  # noqa: S104 - so that 127.0.0.2 is answered too
        port=0,
        log_config=None,
        date_header=False,
        ws="none",  # deprecated in a library, and not spoken here
        ssl_certfile=tls / "server.crt",
        ssl_keyfile=tls / "server.key",
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while thread.is_alive() and not running.started:
        time.sleep(0.01)
    port = running.servers[0].sockets[0].getsockname()[1]
    try:
        yield SuperLink(f"127.0.0.1:{port}", app.state.linkstate_factory.state())
    finally:
        running.should_exit = True
        thread.join(10)
