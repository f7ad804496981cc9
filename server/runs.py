"""Runs of an operator: begun, followed, gone on with after an interruption, stopped.

runs/<run>/plan.toml     what was asked
runs/<run>/run.json      Flower's number for it, tries, whether it was stopped
runs/<run>/events.jsonl  what happened
runs/<run>/registry/     a version after each round
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from server.events import read_events
from server.flower import FlowerRun, runs, start_run, stop_run
from server.operator import Operator
from server.plan_file import read_plan, settings_for
from server.registry import Registry
from shared.durable import replace_file
from shared.errors import ConfigError, ServerUnreachable

NOTE = "run.json"
MOST_TRIES = 3  # without one more version between them
PATIENCE_S = 60.0  # with a run that nobody works on, until it is taken for dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the operator's folder knows of a run.

    Attributes:
        name: The run.
        flower: Flower's number for its newest try.
        tries: Tries since the newest version.
        version: The newest version when that try began.
        since: Events of the run when that try began.
        stopped: Whether the operator stopped it.
    """

    name: str
    flower: int
    tries: int
    version: int
    since: int
    stopped: bool = False


def begin(operator: Operator, plan: Path, *, resume: bool = False) -> Run:
    """Start a run, or go on with it after its newest version.

    Raises:
        ConfigError: If the plan cannot be carried out, or its run exists already
            (or does not, with ``resume``).
        ServerUnreachable: If the SuperLink does not answer.
    """
    asked = read_plan(plan)
    settings = settings_for(operator, asked, resume=resume)
    folder = operator.runs / asked.run
    there = (folder / NOTE).exists()
    if there and not resume:
        raise ConfigError(
            f"{folder} holds a run already: give --resume, or name another run"
        )
    if there and not _over(operator, read_run(operator, asked.run)):
        raise ConfigError(f"run {asked.run!r} is under way; tacit server watch")
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "plan.toml"
    if plan.resolve() != kept.resolve():
        if kept.exists() and read_plan(kept) != asked:
            raise ConfigError(
                f"{plan} differs from {kept}: a run keeps its plan; name another run"
            )
        shutil.copyfile(plan, kept)
    since = len(read_events(folder / "events.jsonl"))
    number = start_run(operator, operator.bundle.read_bytes(), settings.flat())
    begun = Run(
        name=asked.run,
        flower=number,
        tries=_tries(operator, asked.run),
        version=_newest(folder),
        since=since,
    )
    _keep(operator, begun)
    return begun


def resume_interrupted(operator: Operator) -> list[Run]:
    """Go on with every run whose process ended before the run did.

    Such a run has no ``ended`` event after its newest begin although Flower says that
    it is over: the server was killed, not the federation given up. A run that fails
    ``MOST_TRIES`` times without a new version is left to the operator.
    """
    known = {run.id: run for run in runs(operator)}
    gone_on = []
    for run in all_runs(operator):
        if run.stopped or ended(operator, run.name) or not _lost(known, run):
            continue
        if _tries(operator, run.name) <= MOST_TRIES:
            plan = operator.runs / run.name / "plan.toml"
            gone_on.append(begin(operator, plan, resume=True))
    return gone_on


def send_release(operator: Operator) -> Run:
    """Send the release in force to the sites of the newest completed run.

    That run is taken up again with no round left, so its server app trains nothing.

    Raises:
        ConfigError: If no run is completed.
        ServerUnreachable: If the SuperLink does not answer.
    """
    done = [r for r in all_runs(operator) if ended(operator, r.name) == "Completed"]
    if not done:
        raise ConfigError("no run is completed yet, so there is nothing to send")
    newest = max(
        done, key=lambda run: (operator.runs / run.name / NOTE).stat().st_mtime
    )
    return begin(operator, operator.runs / newest.name / "plan.toml", resume=True)


def stop(operator: Operator, name: str) -> None:
    """Stop a run for good; ``begin`` with ``resume`` takes it up again.

    Raises:
        ConfigError: If there is no such run.
        ServerUnreachable: If the SuperLink does not answer.
    """
    run = read_run(operator, name)
    _keep(operator, replace(run, stopped=True))
    if not _over(operator, run):
        stop_run(operator, run.flower)


def follow(operator: Operator, name: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a run's newest try, and of later ones, until it has ended.

    A run whose process is gone is waited for a while: the server goes on with it.

    Raises:
        ServerUnreachable: If the SuperLink does not answer for ``PATIENCE_S``.
    """
    path = operator.runs / name / "events.jsonl"
    since, seen_alive = read_run(operator, name).since, time.monotonic()
    while True:
        events = read_events(path)
        yield from events[since:]
        since = max(since, len(events))
        if ended(operator, name):
            return
        try:
            if not _over(operator, read_run(operator, name)):
                seen_alive = time.monotonic()
        except ServerUnreachable:
            if time.monotonic() - seen_alive > PATIENCE_S:
                raise
        if time.monotonic() - seen_alive > PATIENCE_S:
            return
        time.sleep(1)


def ended(operator: Operator, name: str) -> str:
    """Return why the run's newest try ended; empty if it did not, or has no word."""
    events = read_events(operator.runs / name / "events.jsonl")
    tried = events[read_run(operator, name).since :]
    last = tried[-1] if tried else {}
    return str(last["reason"]) if last.get("event") == "ended" else ""


def details(operator: Operator, name: str) -> str:
    """Return what Flower says of the end of a run's newest try; empty for nothing.

    Raises:
        ServerUnreachable: If the SuperLink does not answer.
    """
    number = read_run(operator, name).flower
    return "".join(run.details for run in runs(operator) if run.id == number)


def all_runs(operator: Operator) -> list[Run]:
    """Return every run, by name."""
    notes = sorted(operator.runs.glob(f"*/{NOTE}"))
    return [read_run(operator, path.parent.name) for path in notes]


def read_run(operator: Operator, name: str) -> Run:
    """Return a run.

    Raises:
        ConfigError: If there is none of that name.
    """
    try:
        return Run(**json.loads((operator.runs / name / NOTE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        raise ConfigError(f"{operator.runs} holds no run {name!r}") from None


def _tries(operator: Operator, name: str) -> int:
    """Return which try, without a version in between, the next one is."""
    folder = operator.runs / name
    if not (folder / NOTE).exists():
        return 1
    run = read_run(operator, name)
    return run.tries + 1 if run.version == _newest(folder) else 1


def _newest(folder: Path) -> int:
    return Registry(folder / "registry", folder).newest()


def _over(operator: Operator, run: Run) -> bool:
    return _lost({known.id: known for known in runs(operator)}, run)


def _lost(known: dict[int, FlowerRun], run: Run) -> bool:
    """Return whether nothing works on the run any more."""
    return run.flower not in known or known[run.flower].over


def _keep(operator: Operator, run: Run) -> None:
    content = json.dumps(asdict(run)).encode()
    replace_file(operator.runs / run.name / NOTE, content)
