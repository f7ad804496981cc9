"""``tacit site serve`` as it is run: a process of its own, asked over HTTP."""

import asyncio
import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from filelock import FileLock

from client.forgotten import LIST
from client.serving.schema import connected, file_of
from simulations.bench.load import Load, closed, request
from tests.end_to_end.deployment import TACIT, free_port

PATIENCE_S = 120.0
ALONE = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def command(folder: Path, *options: str, log: Path) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own; what it says goes to a file."""
    with log.open("ab") as said:
        return subprocess.Popen(
            [TACIT, "site", "serve", str(folder), *options],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ALONE},
            start_new_session=True,
        )


@dataclass
class Serving:
    """A site that is served.

    Attributes:
        folder: The site's.
        log: What the command has said, over all its lives.
        options: Of the command, without the port.
        trust: What verifies its certificate; None for plain HTTP.
    """

    folder: Path
    log: Path
    options: tuple[str, ...] = ()
    trust: ssl.SSLContext | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.port = free_port()
        options = (*self.options, "--port", str(self.port))
        self.process = command(self.folder, *options, log=self.log)
        until(self._is_ready)
        page = next(word for word in reversed(self.said().split()) if "#key=" in word)
        self.address, _, self.key = page.partition("/#key=")

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def client(self, key: str = "") -> httpx.Client:
        """Return a client with a key; without one, with the page's."""
        return httpx.Client(
            base_url=f"http{'s' if self.trust else ''}://127.0.0.1:{self.port}",
            headers={"X-API-Key": key or self.key},
            verify=self.trust or False,
            timeout=60.0,
            trust_env=False,
        )

    def ask(
        self, method: str, path: str, body: object = None, *, key: str = ""
    ) -> httpx.Response:
        """Return the answer to one request on a connection of its own."""
        with self.client(key) as client:
            return client.request(method, path, json=body)

    def told(self, method: str, path: str, body: object = None) -> Any:
        """Return what is in an answer that must be a success."""
        answer = self.ask(method, path, body)
        return answer.raise_for_status().json() if answer.content else None

    def recommended(self, user: str, **wish: object) -> list[str]:
        """Return the items that a user is recommended."""
        answer = self.told("POST", "/v1/recommendations", {"user": user, **wish})
        return [each["item"] for each in answer["items"]]

    def workers(self) -> list[psutil.Process]:
        """Return the processes that answer."""
        family = self.running()
        workers = [p for p in family if "--multiprocessing-fork" in p.cmdline()]
        return workers or family[:1]

    def running(self) -> list[psutil.Process]:
        """Return the processes that the command consists of; none after its end."""
        return [one for one in psutil.process_iter() if self._is_ours(one)]

    @contextmanager
    def asked_by(self, worker: psutil.Process | None) -> Iterator[None]:
        """Let one worker answer alone, or none, for a moment."""
        with ExitStack() as resumed:
            with self._locks():  # or who is stopped might hold one
                for other in self.workers():
                    if other != worker:
                        other.suspend()
                        resumed.callback(other.resume)
            yield

    def each_says(self, path: str) -> list[Any]:
        """Return what each worker answers."""
        said = []
        for worker in self.workers():
            with self.asked_by(worker):
                said.append(self.told("GET", path))
        return said

    def end(self, number: int = signal.SIGTERM) -> float:
        """Send a signal to the command; return the seconds until nothing is left of it.

        Python's own tracker of semaphores ends a moment after the command.
        """
        begun = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        until(lambda: not self.running())
        return time.monotonic() - begun

    def kill(self) -> None:
        """Kill whatever is left of it."""
        for one in self.running():
            one.kill()
        self.process.wait(PATIENCE_S)

    @contextmanager
    def _locks(self) -> Iterator[None]:
        """Hold the locks that requests may have to wait for."""
        store = connected(file_of(self.folder), "rw")
        with closing(store), FileLock(self.folder / f"{LIST}.lock"):
            store.execute("BEGIN IMMEDIATE")
            yield
            store.execute("ROLLBACK")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.said()
        try:
            with self.client("none") as client:
                ready: bool = client.get("/readyz").is_success
                return ready
        except httpx.TransportError:
            return False

    def _is_ours(self, one: psutil.Process) -> bool:
        try:
            ours = os.getpgid(one.pid) == self.process.pid
            return ours and one.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, ProcessLookupError):
            return False


@contextmanager
def serving(
    folder: Path,
    log: Path,
    *options: str,
    trust: ssl.SSLContext | None = None,
) -> Iterator[Serving]:
    """Serve a site by the command, and leave nothing of it running."""
    made = Serving(folder, log, options, trust)
    made.start()
    try:
        yield made
        made.end()
    finally:
        made.kill()


@contextmanager
def under_load(server: Serving, wish: object, clients: int) -> Iterator[list[Load]]:
    """Let clients ask over and over, and return all answers once the block ends."""
    stop, came = threading.Event(), list[Load]()
    one = request("POST", "/v1/recommendations", wish, {"X-API-Key": server.key})

    def ask() -> None:
        asking = closed(
            server.port,
            iter(lambda: b"" if stop.is_set() else one, b""),
            connections=clients,
            seconds=PATIENCE_S,
        )
        came.append(asyncio.run(asking))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield came
    finally:
        stop.set()
        thread.join()


def until(holds: Callable[[], bool]) -> None:
    """Return once something holds."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.25)  # asking stops workers for a moment
