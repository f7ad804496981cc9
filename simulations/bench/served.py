"""A real ``tacit site serve`` in a process of its own, while it is measured."""

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from client.serving.keys import make, revoke
from shared.errors import TacitError
from shared.programs import QUIET, beside_python, end
from simulations.bench.machine import THREADS

KEY = "bench"
PATIENCE_S = 900.0  # until it is ready: a request's language is learned first
SERVER_THREADS = dict.fromkeys(THREADS, "1")  # as tacit site serve itself sets them


@dataclass(frozen=True, slots=True)
class Served:
    """A server that is ready.

    Attributes:
        port: On this machine.
        headers: That let a reader in.
        start_s: From its start until it was ready.
        process: Its own.
    """

    port: int
    headers: dict[str, str]
    start_s: float
    process: psutil.Process

    def __repr__(self) -> str:
        return f"Served(port={self.port})"

    def memory_mib(self) -> int:
        """Return the memory that is its own, without the files that it maps."""
        return int(self.process.memory_full_info().uss) >> 20

    def cpu_s(self) -> float:
        """Return the seconds of a core that it has used, whatever else ran."""
        used = self.process.cpu_times()
        return float(used.user + used.system)


@contextmanager
def served(folder: Path, release: Path | None, log: Path) -> Iterator[Served]:
    """Serve the site in ``folder`` with one worker, by the command itself.

    Args:
        folder: The site's.
        release: Folder of the release to serve in place of the one in force.
        log: File for what it says.

    Raises:
        TacitError: If it ends, or is not ready in time; with the end of its log.
    """
    port, begin = _free_port(), time.monotonic()
    secret = make(folder, KEY, ["read", "write"])
    command = [beside_python("tacit"), "site", "serve", str(folder)]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--release", str(release)] if release else []
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603  # our own program and arguments
            command,
            env={**os.environ, **QUIET},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(port, process, log, begin + PATIENCE_S)
        yield Served(
            port,
            {"Authorization": f"Bearer {secret}"},
            time.monotonic() - begin,
            psutil.Process(process.pid),
        )
    finally:
        end(process.pid)
        process.wait()
        revoke(folder, KEY)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path, until: float) -> None:
    """Return when the server is ready."""
    while process.poll() is None and time.monotonic() < until:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError, http.client.HTTPException), closing(asking):
            asking.request("GET", "/readyz")
            if asking.getresponse().status == 200:
                return
        time.sleep(0.2)
    said = log.read_text("utf-8", "replace")[-2000:]
    raise TacitError(f"tacit site serve did not get ready:\n{said}")


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
