"""The processes that serve a site: one, or several workers, and the page's key."""

import asyncio
import hashlib
import json
import os
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from uvicorn import Config, Server
from uvicorn.supervisors import Multiprocess

from client.serving.app import make_app, uvicorn_settings
from client.serving.figures import SHARED
from client.serving.keys import Keys
from client.serving.premises import Premises
from client.serving.service import Service, open_service
from client.serving.settings import read_settings
from client.serving.worker import work
from client.site import open_site
from shared.logs import log_as_asked
from shared.page import NAMES

ENVIRONMENT = "TACIT_SERVING"  # how a worker is told what to serve
SILENT_S = 30  # a worker that says nothing for so long is killed


def serve_forever(
    premises: Premises, workers: int, tell: Callable[[str], None], *, page: bool = True
) -> None:
    """Serve until the process is told to end.

    Args:
        premises: What, and where.
        workers: How many processes answer.
        tell: Shows a line to whoever started this.
        page: Whether the page gets a key of its own: random, told once, handed to the
            workers as a hash, and gone with them. Without it the page asks for a key.

    Raises:
        TacitError: If address, site, release or data cannot be used.
    """
    folder = Path(premises.folder)
    site = open_site(folder)
    Keys.of(folder)  # or each worker would find out by itself that it cannot be read
    page_key = secrets.token_urlsafe(32) if page else ""
    hashed = hashlib.sha256(page_key.encode()).hexdigest() if page else ""
    os.environ[ENVIRONMENT] = json.dumps({**asdict(premises), "page_key": hashed})
    with premises.listen() as listening, suppress(KeyboardInterrupt):
        tell("Loading; the first start reads the whole catalogue.")
        if workers == 1:
            run = partial(server().run, [listening])
        else:  # what can go wrong is told here, and the workers find the caches warm
            open_service(folder, premises.release_folder).close()
            run = partial(_supervise, workers, listening)
        tell(
            f"Site {site.settings.name} serves; Ctrl-C ends it.\n"
            f"  page  {premises.address}/" + (f"#key={page_key}" if page else "")
        )
        run()


def server() -> Server:
    """Return what serves in this process, by what its environment says.

    Raises:
        TacitError: If there is nothing that could be served.
    """
    log_as_asked()
    said = json.loads(os.environ[ENVIRONMENT])
    page_key = said.pop("page_key")
    premises = Premises(**said)
    folder = Path(premises.folder)
    settings = read_settings(folder)
    service = open_service(folder, premises.release_folder)
    keys = Keys.of(folder, page_key=page_key)
    hosts = (premises.host, *premises.names, *NAMES)
    app = make_app(service, keys, settings, hosts=hosts)
    app.router.lifespan_context = lambda _app: _closing(service)
    return Server(
        Config(
            app,
            ssl_certfile=premises.cert or None,
            ssl_keyfile=premises.key or None,
            **uvicorn_settings(settings),
        )
    )


def _supervise(workers: int, listening: socket.socket) -> None:
    """Let so many workers serve, and sum their figures; one that ends is replaced."""
    config = Config(
        "",  # work says what
        workers=workers,
        log_level="warning",
        timeout_worker_healthcheck=SILENT_S,
    )
    with tempfile.TemporaryDirectory() as os.environ[SHARED]:
        Multiprocess(config, work, [listening]).run()


@asynccontextmanager
async def _closing(service: Service) -> AsyncIterator[None]:
    """Let the service end with the application: what waits is written first.

    While a renewal is in torch's hands Python could not end the process but by a crash,
    so then this does.
    """
    yield
    if not await asyncio.to_thread(service.close):
        os._exit(0)
