"""A real deployment on loopback, of one site, with a counter on the wire between.

All of it are Tacit's own commands in processes of their own: TLS, keys, admission,
approval, SuperLink and SuperNode, and nginx where it is installed. What is counted is
what TCP carries, handshakes and heartbeats among it, without TCP's own headers.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from client.data import save
from server.events import read_events
from shared.durable import replace_file
from shared.errors import TacitError
from shared.programs import QUIET, beside_python, end
from simulations.population import generate

SITE, USERS, ITEMS = "bench", 60, 144
HERE = "127.0.0.1"
PATIENCE_S = 120.0  # until the site is online
RUN_S = 600.0  # that a run may take
EPSILON = 1e6  # rounds are measured, not refused
NGINX = "/usr/sbin:/usr/local/sbin:/usr/bin:/opt/bin"  # as tacit server start looks
CALLS = Path("operator", "state", "logs", "calls.log")
LOGGED = f"""\
log_format call '$msec $uri $request_length $bytes_sent';
  access_log state/logs/{CALLS.name} call;
"""
Told = dict[str, Any]
PLAN = """\
run = "{run}"
sites = ["{site}"]
[federation]
rounds = {rounds}
quorum = 1
wire = "{wire}"
[mechanism]
steps = {steps}
"""


@dataclass(frozen=True, slots=True)
class Passed:
    """Some bytes that passed the counter: when, and how many up to the server or down.

    Attributes:
        at: Seconds since 1970.
        up: From the site to the server.
        down: From the server to the site.
    """

    at: float
    up: int
    down: int


class Counter:
    """Passes TCP connections on to another port of this machine, and counts bytes.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, listening: socket.socket, to: int) -> None:
        self.port = int(listening.getsockname()[1])
        self._listening, self._to = listening, to
        self._passed: list[Passed] = []

    def between(self, begin: float, until: float) -> Passed:
        """Return what passed in a time, taken together."""
        inside = [one for one in self._passed if begin <= one.at < until]
        return Passed(begin, sum(p.up for p in inside), sum(p.down for p in inside))

    def take(self) -> None:
        """Take connections until nobody listens any more."""
        with suppress(OSError):
            while True:
                site, _ = self._listening.accept()
                Thread(target=self._pass, args=(site,), daemon=True).start()

    def _pass(self, site: socket.socket) -> None:
        """Pass one connection on until both ends have hung up."""
        with (
            suppress(OSError),  # not up yet, or broken: the site tries again
            site,
            socket.create_connection((HERE, self._to)) as server,
        ):
            down = Thread(target=self._carry, args=(server, site, 0, 1))
            down.start()
            self._carry(site, server, 1, 0)
            down.join()

    def _carry(
        self, one: socket.socket, other: socket.socket, up: int, down: int
    ) -> None:
        """Pass on what one end says, and count it on its way ``up`` or ``down``."""
        with suppress(OSError):
            while data := one.recv(1 << 16):
                size = len(data)
                self._passed.append(Passed(time.time(), up * size, down * size))
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


@contextmanager
def counting(to: int) -> Iterator[Counter]:
    """Count what passes to a port while the block lasts."""
    with socket.create_server((HERE, 0)) as listening:
        counter = Counter(listening, to)
        taking = Thread(target=counter.take)
        taking.start()
        try:
            yield counter
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            taking.join()


@dataclass(frozen=True, slots=True)
class Deployed:
    """A server and a site that is online.

    Attributes:
        folder: Of all of it.
        counter: On the wire between the two.
        door: What the counter passes to: ``nginx``, or the ``superlink`` itself.
    """

    folder: Path
    counter: Counter
    door: str

    def run(self, name: str, *, wire: str, rounds: int, steps: int) -> list[Told]:
        """Carry out a run to its end and return its events."""
        plan = self.folder / f"{name}.toml"
        said = PLAN.format(run=name, site=SITE, rounds=rounds, wire=wire, steps=steps)
        plan.write_text(said, "utf-8")
        _tacit(self.folder, "server", "run", str(plan), "operator")
        return read_events(self.folder / "operator" / "runs" / name / "events.jsonl")

    def calls(self, begin: float, until: float) -> dict[str, list[int]]:
        """Return how often each call was made in a time, its bytes up and down.

        They are those of HTTP, as nginx counts them; nothing where there is no nginx.
        """
        log, made = self.folder / CALLS, dict[str, list[int]]()
        for line in log.read_text("utf-8").splitlines() if log.exists() else ():
            at, uri, up, down = line.split()
            if begin <= float(at) < until:
                name = uri.rpartition("/")[2]
                calls, sent, got = made.get(name, (0, 0, 0))
                made[name] = [calls + 1, sent + int(up), got + int(down)]
        return made


@contextmanager
def deployed(folder: Path, base: str) -> Iterator[Deployed]:
    """Make a server and a site in ``folder``, start both, and end them afterwards.

    Raises:
        TacitError: If a command fails, or the site is not online in time.
    """
    by_nginx = shutil.which("nginx", path=NGINX) is not None
    superlink, page, door = (free_port() for _ in range(3))
    with counting(door if by_nginx else superlink) as counter, ExitStack() as running:
        public = ("--public", f"{HERE}:{counter.port}")
        ports = ("--port", str(superlink), "--page-port", str(page))
        where = ("--address", HERE, *public, *ports, "--base", base)
        _tacit(folder, "server", "init", "operator", *where)
        _let_in(folder, base)
        _behind(folder / "operator" / "nginx.conf", counter.port, door)
        running.enter_context(_running(folder, "server", "start", "operator"))
        _wait(folder, lambda said: said is not None, "the server answers")
        _tacit(folder, "site", "approve", SITE, "--yes")
        running.enter_context(_running(folder, "site", "join", SITE))
        _wait(folder, _online, "the site is online")
        yield Deployed(folder, counter, "nginx" if by_nginx else "superlink")


def _let_in(folder: Path, base: str) -> None:
    """Invite the site, make it with data of its own, and admit it."""
    site, operator = folder / SITE, folder / "operator"
    _tacit(folder, "server", "invite", SITE, "operator")
    join = ("--join", str(operator / "invitations" / f"{SITE}.toml"))
    declared = ("--users", str(USERS), "--epsilon", str(EPSILON))
    _tacit(folder, "site", "init", SITE, "--base", base, *declared, *join)
    (site / "data" / "data.toml").unlink()
    rng = np.random.default_rng(1)
    save(site / "data", generate(rng, users=USERS, items=ITEMS).data)
    _tacit(folder, "server", "admit", str(site / "site.pub"), "operator")


def _behind(conf: Path, public: int, door: int) -> None:
    """Let nginx listen behind the counter, and log each call."""
    text = conf.read_text("utf-8").replace(f"{HERE}:{public}", f"{HERE}:{door}")
    replace_file(conf, re.sub("access_log off;.*", LOGGED, text).encode())


@contextmanager
def _running(folder: Path, *words: str) -> Iterator[None]:
    """Run a command in the background while the block lasts."""
    with (folder / f"{words[0]}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # our own program and arguments
            [beside_python("tacit"), *words],
            env=_environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        end(process.pid)
        process.wait()


def _tacit(folder: Path, *words: str) -> str:
    """Run a command to its end and return what it says.

    Raises:
        TacitError: If it fails; with what it said.
    """
    done = subprocess.run(  # noqa: S603  # our own program and arguments
        [beside_python("tacit"), *words],
        env=_environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise TacitError(
            f"tacit {' '.join(words)} ended with {done.returncode}:\n{said}"
        )
    return done.stdout


def _wait(folder: Path, true: Callable[[Told | None], bool], what: str) -> None:
    """Return when the server's status is as wanted; it is None while none answers.

    Raises:
        TacitError: If that takes too long; with the ends of all logs.
    """
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            status = json.loads(
                _tacit(folder, "server", "status", "operator", "--json")
            )
        except (TacitError, ValueError):
            status = None
        if true(status):
            return
        time.sleep(0.5)
    logs = [
        f"--- {log}\n{log.read_text('utf-8', 'replace')[-1000:]}"
        for log in sorted(folder.rglob("*.log"))
    ]
    raise TacitError("\n".join([f"not within {PATIENCE_S:.0f} s: {what}", *logs]))


def _online(status: Told | None) -> bool:
    return status is not None and status["sites"][0]["status"] == "online"


def _environment() -> dict[str, str]:
    return {**os.environ, **QUIET, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}


def free_port() -> int:
    """Return a port of this machine that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])
