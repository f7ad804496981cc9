"""Programs that run beside us: started, watched, started again, and ended together.

A program that ends is started again after a pause that doubles each time, up to a
minute, and is short again once the program has stayed up. Programs that an earlier,
killed supervisor left behind are ended first, and so is what a killed program left
behind, such as a worker that still holds its port: nothing runs twice.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import psutil

from shared.durable import replace_file

QUIET = {  # nothing phones home, nothing is installed while it runs
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STEADY_S = 60.0  # a program that stayed up so long failed for another reason
TICK_S = 0.5
GRACE_S = 10.0  # from the request to end until the program is killed
LARGEST_LOG = 10 * 2**20
Tell = Callable[[str, int, float], None]  # name, exit status, pause before the next try


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program to keep running.

    Attributes:
        name: What logs and messages call it.
        command: Absolute path and arguments; no secret among them, as others see it.
        environment: All of its environment.
        log: File that its output is appended to.
        renews: Names of programs that are started anew too when this one ends, for
            they wait in vain for what it had begun.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    renews: tuple[str, ...] = ()


@dataclass(slots=True)
class _Running:
    """A program, its process while there is one, and when it may be started next.

    ``ended`` is the process that ended last, whose children may live.
    """

    program: Program
    pause: float
    process: subprocess.Popen[bytes] | None = None
    ended: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    due: float = field(default_factory=time.monotonic)


def beside_python(name: str) -> str:
    """Return the path of a program that is installed with this Python."""
    return str(Path(sys.executable).with_name(name))


def environment(flwr_home: Path, **more: str) -> dict[str, str]:
    """Return an environment in which Flower finds its programs and calls no one."""
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        **QUIET,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "FLWR_HOME": str(flwr_home.resolve()),
        **more,
    }


def keep_running(
    programs: Sequence[Program],
    pids: Path,
    stop: Event,
    tell: Tell = lambda *_: None,
    each_tick: Callable[[], None] = lambda: None,
) -> None:
    """Keep ``programs`` running until ``stop`` is set, then end them all.

    Args:
        programs: Started in this order, ended in the other.
        pids: File that holds who runs, for a later supervisor.
        stop: Set by a signal's handler.
        tell: Hears of each program that ended on its own.
        each_tick: Called twice a second, between looks at the programs.
    """
    end_left_behind(pids)
    running = [_Running(program, FIRST_PAUSE_S) for program in programs]
    noted = True
    try:
        while not stop.is_set():
            for one in running:
                if _look_after(one, tell):
                    noted = False
                    _renew(one, running)
            noted = noted or _note(pids, running)
            each_tick()
            stop.wait(TICK_S)
    finally:
        for one in reversed(running):
            _end_left_by(one)
            if one.process is not None:
                end(one.process.pid)
                one.process.wait()
        pids.unlink(missing_ok=True)


def end_left_behind(pids: Path) -> None:
    """End the programs that an earlier supervisor noted in ``pids``, if any live."""
    # gone: they have ended meanwhile; torn: nothing to go by
    with suppress(FileNotFoundError, ValueError, TypeError, KeyError):
        for noted in json.loads(pids.read_text("utf-8")):
            if is_alive(noted["pid"], noted["born"]):
                end(noted["pid"])
    pids.unlink(missing_ok=True)


def end(pid: int) -> None:
    """End a process and all that it started: asked first, killed after a while."""
    with suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        family = [*leader.children(recursive=True), leader]
        for asked in (family[-1:], family):  # the leader first: it may end the others
            _signal(asked, signal.SIGTERM)
            psutil.wait_procs(asked, timeout=GRACE_S)
        _signal(family, signal.SIGKILL)
        psutil.wait_procs(family, timeout=GRACE_S)


def is_alive(pid: int, born: float) -> bool:
    """Return whether the process of that number is still the one born then."""
    try:
        process = psutil.Process(pid)
        same = bool(abs(process.create_time() - born) < 1)
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def on_signal(stop: Event) -> None:
    """Set ``stop`` when this process is asked to end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())


def _look_after(one: _Running, tell: Tell) -> bool:
    """Start the program if it is due, note its end; return whether anything changed."""
    now = time.monotonic()
    if one.process is None:
        if now < one.due:
            return False
        _end_left_by(one)
        one.process, one.since = _start(one.program), now
        return True
    code = one.process.poll()
    if code is None:
        return False
    if now - one.since > STEADY_S:
        one.pause = FIRST_PAUSE_S
    tell(one.program.name, code, one.pause)
    one.ended, one.process, one.due = one.process, None, now + one.pause
    one.pause = min(2 * one.pause, LONGEST_PAUSE_S)
    return True


def _renew(ended: _Running, running: Iterable[_Running]) -> None:
    """End what cannot go on without a program that has ended; it starts with it."""
    if ended.process is not None:
        return
    for one in running:
        if one.program.name in ended.program.renews and one.process is not None:
            end(one.process.pid)
            one.process.wait()
            one.ended, one.process, one.due = one.process, None, ended.due


def _end_left_by(one: _Running) -> None:
    """End what the process that ended last had started: all of its group."""
    if one.ended is not None:
        with suppress(ProcessLookupError):  # nobody, as usual
            os.killpg(one.ended.pid, signal.SIGTERM)
        one.ended = None


def _start(program: Program) -> subprocess.Popen[bytes]:
    program.log.parent.mkdir(parents=True, exist_ok=True)
    if program.log.exists() and program.log.stat().st_size > LARGEST_LOG:
        program.log.replace(program.log.with_suffix(".log.1"))
    with program.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603  # our own program and arguments
            program.command,
            env=dict(program.environment),
            cwd=program.log.parent,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is for the supervisor alone
        )


def _note(pids: Path, running: Iterable[_Running]) -> bool:
    """Write down who runs, so that a later supervisor can end it.

    Returns whether there was room: a full disk ends no program.
    """
    noted = []
    for one in running:
        if one.process is not None:
            with suppress(psutil.NoSuchProcess):
                born = psutil.Process(one.process.pid).create_time()
                noted.append(
                    {"name": one.program.name, "pid": one.process.pid, "born": born}
                )
    try:
        replace_file(pids, json.dumps(noted).encode())
    except OSError:
        return False
    return True


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
