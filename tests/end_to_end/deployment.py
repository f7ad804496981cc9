"""A federation of real processes on loopback: operator, sites, TLS, keys, a proxy."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from client.data import save
from server.events import read_events
from simulations.population import generate

TACIT = str(Path(sys.executable).with_name("tacit"))
USERS = 45
PLAN = """\
run = "{run}"
sites = [{sites}]
[federation]
rounds = {rounds}
quorum = {quorum}
deadline-s = {deadline_s}
[spec]
rank = 4
max-tokens = 12
[mechanism]
q = 0.2
sigma = 1.5
steps = {steps}
[recipe]
history = 6
targets = 2
negatives = 8
factors = 4
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Process:
    """A command that runs in the background, and what it has said."""

    popen: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(60)


@dataclass
class Deployment:
    """Folders of an operator and sites under ``root``, and the processes at work.

    ``host`` is where sites find the server; ``within`` holds words that put a party's
    commands where they belong, such as ``ip netns exec NAME``.
    """

    root: Path
    host: str = "127.0.0.1"
    within: dict[str, tuple[str, ...]] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    public: int = field(default_factory=free_port)
    page: int = field(default_factory=free_port)
    processes: dict[str, Process] = field(default_factory=dict)
    said: str = ""

    @property
    def operator(self) -> Path:
        return self.root / "operator"

    def site(self, name: str) -> Path:
        return self.root / name

    def tacit(self, *words: str | Path, code: int = 0) -> str:
        """Run a command to its end, with the exit code that is expected."""
        done = subprocess.run(
            [*self.within.get(str(words[0]), ()), TACIT, *map(str, words)],
            env=quiet(),
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, (
            words,
            done.stdout[-2000:],
            done.stderr[-3000:],
        )
        return done.stdout + done.stderr

    def begin(self, name: str, *words: str | Path, **more: str) -> Process:
        """Start a command in the background, with ``more`` in its environment."""
        log = self.root / f"{name}.log"
        with log.open("ab") as file:
            popen = subprocess.Popen(
                [*self.within.get(name, ()), TACIT, *map(str, words)],
                env=quiet() | more,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = Process(popen, log)
        return self.processes[name]

    def init(self) -> None:
        """Make the operator's folder."""
        self.tacit(
            *("server", "init", self.operator, "--address", self.host),
            *("--public", f"{self.host}:{self.public}", "--port", str(self.port)),
            *("--page-port", str(self.page), "--base", "tiny"),
        )

    def make_site(self, name: str, *, epsilon: float = 100.0, **policy: str) -> None:
        """Invite a site, make it, give it data of its own, and admit it."""
        folder = self.site(name)
        self.tacit("server", "invite", name, self.operator)
        self.tacit(
            *("site", "init", folder, "--base", "tiny", "--users", str(USERS)),
            *("--join", self.operator / "invitations" / f"{name}.toml"),
            *("--epsilon", str(epsilon)),
        )
        (folder / "data" / "data.toml").unlink()
        write_data(folder / "data", name)
        set_keys(folder / "policy.toml", policy)
        self.tacit("server", "admit", folder / "site.pub", self.operator)

    def start_server(self) -> None:
        self.begin("server", "server", "start", self.operator)
        wait_for(self.answers, 60, "the server answers")

    def join(self, name: str) -> None:
        """Approve the code and join."""
        self.tacit("site", "approve", self.site(name), "--yes")
        self.begin(name, "site", "join", self.site(name))

    def answers(self) -> bool:
        return "SuperLink: answers" in self.tacit("server", "status", self.operator)

    def status(self) -> dict[str, Any]:
        shown = self.tacit("server", "status", self.operator, "--json")
        return dict(json.loads(shown))

    def online(self) -> set[str]:
        return {s["name"] for s in self.status()["sites"] if s["status"] == "online"}

    def wait_online(self, *names: str, limit_s: float = 90) -> None:
        wait_for(lambda: set(names) <= self.online(), limit_s, f"{names} online")

    def write_plan(
        self,
        *sites: str,
        run: str = "spring",
        rounds: int = 3,
        quorum: int = 0,
        deadline_s: float = 60.0,
        steps: int = 3,
    ) -> Path:
        path = self.root / f"{run}.toml"
        names = ", ".join(f'"{name}"' for name in sites)
        values = {"rounds": rounds, "quorum": quorum, "deadline_s": deadline_s}
        text = PLAN.format(run=run, sites=names, steps=steps, **values)
        path.write_text(text, "utf-8")
        return path

    def events(self, run: str = "spring", kind: str = "") -> list[dict[str, Any]]:
        told = read_events(self.operator / "runs" / run / "events.jsonl")
        return [event for event in told if kind in ("", event["event"])]

    def reason(self, run: str = "spring") -> str:
        """Why a run ended; empty while it has not, or when it has begun again."""
        last = [{"event": ""}, *self.events(run)][-1]
        return str(last["reason"]) if last["event"] == "ended" else ""

    def await_end(self, run: str = "spring", limit_s: float = 240) -> None:
        """Wait until a run has ended, however often it had to begin again."""
        wait_for(lambda: self.reason(run), limit_s, f"run {run} ends")
        assert self.reason(run) == "Completed"

    def logs(self) -> str:
        """Everything that was logged, for a failed test."""
        paths = [*self.root.glob("*.log"), *self.root.glob("*/**/logs/*.log")]
        return "\n".join(f"--- {p}\n{tail(p)}" for p in sorted(paths))

    def end(self) -> None:
        """End all that was started, asked first."""
        for process in reversed(self.processes.values()):
            process.end()


@contextmanager
def deployed(
    root: Path,
    host: str = "127.0.0.1",
    within: Mapping[str, tuple[str, ...]] | None = None,
) -> Iterator[Deployment]:
    """Give a deployment, and leave no process behind."""
    made = Deployment(root, host, dict(within or {}))
    try:
        yield made
    finally:
        made.end()
        left = processes_of(root)
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=10)


def processes_of(root: Path) -> list[psutil.Process]:
    """Every process whose command or Flower home lies under ``root``."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = process.info["cmdline"] or []
        home = (process.info["environ"] or {}).get("FLWR_HOME", "")
        if any(str(root) in word for word in [*words, home]):
            found.append(process)
    return found


def write_data(folder: Path, name: str) -> None:
    """Users and events of a site, as Parquet, the same for the same name."""
    rng = np.random.default_rng([7, *name.encode()])
    save(folder, generate(rng, users=USERS, items=144).data)


def set_keys(path: Path, values: dict[str, str]) -> None:
    """Set keys of a TOML file in place; underscores in names stand for dashes."""
    text = path.read_text("utf-8")
    for name, value in values.items():
        key = name.replace("_", "-")
        text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert count == 1, key
    path.write_text(text, "utf-8")


def wait_for(
    true: Callable[[], object], limit_s: float, what: str, *, every_s: float = 0.5
) -> None:
    """Wait until ``true`` is so."""
    until = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < until, f"not within {limit_s} s: {what}"
        time.sleep(every_s)


def quiet() -> dict[str, str]:
    """The environment of every command."""
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


def tail(path: Path, lines: int = 40) -> str:
    return "\n".join(path.read_text("utf-8", errors="replace").splitlines()[-lines:])
