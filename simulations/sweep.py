"""A sweep: many runs of one scenario, side by side, each in a process of its own.

A run that fails is told and left behind; the others go on. What is finished is kept
when a sweep that was stopped goes on: its folder says what was asked.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from shared.durable import replace_file
from shared.errors import ConfigError
from simulations import sweep_report
from simulations.crew import MIB_PER_WORKER, TICK_S, Worker, be_ready, cores
from simulations.report.schema import NAME
from simulations.scenario import Scenario
from simulations.sweep_plan import Point

ASKED, RUNS = "sweep.json", "runs"
MIB_PER_1000_USERS = 40  # of one run; measured with 100,000 users at five sites


@dataclass(frozen=True, slots=True)
class Ended:
    """One run of a sweep that ended.

    Attributes:
        point: What it was.
        seconds: How long it took; 0 if it was there already.
        error: Why it failed, or "".
    """

    point: Point
    seconds: float
    error: str = ""


Told = Callable[[Ended], None]
Job = tuple[Point, Scenario]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a sweep is asked.

    Attributes:
        command: The exact command line.
        scenario: Name of the scenario.
        keys: Key -> the values that it takes.
        seeds: Of the runs.
        runs: Every point, with the scenario that it runs.
    """

    command: str
    scenario: str
    keys: Mapping[str, Sequence[object]]
    seeds: Sequence[int]
    runs: Sequence[Job]

    def told(self) -> dict[str, Any]:
        """Return the sweep as its report tells it."""
        return {
            "command": self.command,
            "scenario": self.scenario,
            "keys": {key: list(values) for key, values in self.keys.items()},
            "seeds": list(self.seeds),
        }


def sweep(
    asked: Asked, out: Path, *, resume: bool, workers: int, tell: Told
) -> dict[str, Any]:
    """Run all points in ``out`` and return the report, which is also written there.

    Args:
        asked: What to run.
        out: The sweep's folder.
        resume: Whether to go on with what is there.
        workers: Runs at a time; 0 is as many as pay.
        tell: Told of every run that ended.

    Raises:
        ConfigError: If ``out`` holds another sweep, or this one without ``resume``.
    """
    from simulations.report import files, page  # noqa: PLC0415  # not at the workers

    _claim(out, asked, resume=resume)
    left = []
    for point, scenario in asked.runs:
        if (out / RUNS / point.name / NAME).is_file():
            tell(Ended(point, 0.0))
        else:
            left.append((point, scenario))
    failures = []
    for ended in _side_by_side(left, out / RUNS, workers or at_a_time(left)):
        tell(ended)
        if ended.error:
            failures.append({"run": ended.point.name, "error": ended.error})
    made = sweep_report.build(
        asked.told(), [point for point, _ in asked.runs], out / RUNS, failures
    )
    files.write(out, made)
    page.write_page(out, made)
    return made


def at_a_time(runs: Sequence[Job]) -> int:
    """Return how many of these runs pay: one a core, if memory holds the largest."""
    users = max((run.simulation.users for _, run in runs), default=0)
    free = int(psutil.virtual_memory().available) >> 20
    fit = free // (MIB_PER_WORKER + MIB_PER_1000_USERS * users // 1000)
    return max(1, min(cores(), len(runs), fit))


def _claim(out: Path, asked: Asked, *, resume: bool) -> None:
    """Make the folder this sweep's own, or make sure that it is."""
    file, told = out / ASKED, asked.told()
    told["runs"] = {point.name: scenario.tables() for point, scenario in asked.runs}
    if file.exists():
        if not resume:
            raise ConfigError(
                f"{out} holds a sweep already: give --resume, or another --out"
            )
        known = json.loads(file.read_text("utf-8"))
        if known["runs"] != json.loads(json.dumps(told["runs"])):
            raise ConfigError(
                f"{file} differs from what is asked: resume with the same settings"
            )
    elif out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no sweep: give another --out")
    (out / RUNS).mkdir(parents=True, exist_ok=True)
    replace_file(file, (json.dumps(told, indent=2) + "\n").encode())


def _side_by_side(runs: Sequence[Job], folder: Path, workers: int) -> Iterator[Ended]:
    """Yield each run as it ends; what still runs ends with whoever stops asking."""
    waiting = list(runs)
    running: dict[Future[None], _Run] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                point, scenario = waiting.pop(0)
                begun = _begin(point, scenario, folder / point.name, workers)
                running[begun.done] = begun
            # a signal is heard in between, not while waiting
            for done in wait(running, TICK_S, FIRST_COMPLETED).done:
                yield running.pop(done).end()
    finally:
        for run in running.values():
            run.worker.end()


@dataclass(frozen=True, slots=True)
class _Run:
    """A run under way, and the process that is its own."""

    point: Point
    worker: Worker
    done: Future[None]
    begun: float

    def end(self) -> Ended:
        """Let the process go; say how it went."""
        self.worker.end()
        error, seconds = self.done.exception(), time.monotonic() - self.begun
        why = f"{type(error).__name__}: {error}" if error else ""
        return Ended(self.point, round(seconds, 3), why)


def _begin(point: Point, scenario: Scenario, folder: Path, workers: int) -> _Run:
    """Start a run in a new process."""
    threads = max(1, cores() // workers)
    worker = Worker(partial(be_ready, scenario.simulation.base, threads))
    done = worker.submit(worker.call, run_point, scenario, folder)
    return _Run(point, worker, done, time.monotonic())


def run_point(scenario: Scenario, folder: Path) -> None:
    """Run a point from its beginning: what the process of a run does.

    What an interrupted run left goes. Its sites were charged for a round that nobody
    got, and what they would still learn within their budget is not what was asked.
    """
    from simulations.run import simulate  # noqa: PLC0415  # torch, at the worker

    logging.getLogger("flwr").setLevel(logging.ERROR)
    shutil.rmtree(folder, ignore_errors=True)
    simulate(scenario, folder, resume=False, tell=lambda *_told: None)
