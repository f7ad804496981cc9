"""The processes that serve a site: addresses, TLS, the page's key, workers.

It refuses to listen beyond this machine without TLS: what passes there is behaviour.
"""

import asyncio
import hashlib
import ipaddress
import json
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from client.serving.app import make_app, uvicorn_settings
from client.serving.keys import Keys
from client.serving.service import Service, open_service
from client.serving.settings import read_settings
from client.site import open_site
from shared.errors import ConfigError
from shared.logs import log_as_asked
from shared.page import NAMES

ENVIRONMENT = "TACIT_SERVING"  # how a worker is told what to serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """What is served, and where.

    Attributes:
        folder: The site's.
        release: Folder of a release to serve in place of the one in force; empty: none.
        host, port: Where to listen.
        names: Under which the site is asked, beside ``host`` and this machine's own.
        cert, key: TLS certificate and private key, both or neither.
    """

    folder: str
    release: str
    host: str
    port: int
    names: tuple[str, ...]
    cert: str
    key: str

    def check(self) -> None:
        """Raise if these premises cannot be used.

        Raises:
            ConfigError: Naming every fault at once.
        """
        files = {"--cert": self.cert, "--key": self.key}
        faults = [
            f"{name} {path} is no file"
            for name, path in files.items()
            if path and not Path(path).is_file()
        ]
        checks = {
            "--cert and --key go together": bool(self.cert) == bool(self.key),
            f"--release {self.release} is no folder": not self.release
            or Path(self.release).is_dir(),
            f"--host {self.host} is beyond this machine: give --cert and --key, or "
            "listen at 127.0.0.1 behind a proxy that speaks TLS": bool(self.cert)
            or _is_loopback(self.host),
            f"--port {self.port} is not in 1..65535": 1 <= self.port <= 65_535,
        }
        faults += [fault for fault, holds in checks.items() if not holds]
        if faults:
            raise ConfigError("\n  ".join(["this cannot be served:", *faults]))

    @property
    def release_folder(self) -> Path | None:
        """The release to serve in place of the one in force."""
        return Path(self.release) if self.release else None

    @property
    def address(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.cert else ''}://{host}:{self.port}"


def serve_forever(
    premises: Premises, workers: int, tell: Callable[[str], None]
) -> None:
    """Serve until the process is told to end.

    The page's key is random, handed to the workers as a hash, and gone with them.

    Raises:
        TacitError: If premises, site, release or data cannot be used.
    """
    premises.check()
    folder = Path(premises.folder)
    page_key = secrets.token_urlsafe(32)
    hashed = hashlib.sha256(page_key.encode()).hexdigest()
    os.environ[ENVIRONMENT] = json.dumps({**asdict(premises), "page_key": hashed})
    tell("Loading; the first start reads the whole catalogue.")
    app: FastAPI | str = "client.serving.process:application"
    if workers == 1:
        app = application()
    else:  # what can go wrong is told here, and the workers find the caches warm
        open_service(folder, premises.release_folder).close()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="tacit-")
    tell(
        f"Site {open_site(folder).settings.name} serves; Ctrl-C ends it.\n"
        f"  page  {premises.address}/#key={page_key}"
    )
    uvicorn.run(
        app,
        factory=workers > 1,
        host=premises.host,
        port=premises.port,
        workers=workers,
        ssl_certfile=premises.cert or None,
        ssl_keyfile=premises.key or None,
        **uvicorn_settings(read_settings(folder)),
    )


def application() -> FastAPI:
    """Return one worker's application; uvicorn calls it in each."""
    log_as_asked()
    said = json.loads(os.environ[ENVIRONMENT])
    page_key = said.pop("page_key")
    premises = Premises(**said)
    folder = Path(premises.folder)
    service = open_service(folder, premises.release_folder)
    keys = Keys.of(folder, page_key=page_key)
    hosts = (premises.host, *premises.names, *NAMES)
    app = make_app(service, keys, read_settings(folder), hosts=hosts)
    app.router.lifespan_context = lambda _app: _closing(service)
    return app


@asynccontextmanager
async def _closing(service: Service) -> AsyncIterator[None]:
    """Let the service end with the application: what waits is written first."""
    yield
    await asyncio.to_thread(service.close)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
