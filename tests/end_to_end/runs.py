"""Whole small runs on this machine, and what is found in their folders afterwards."""

import hashlib
import io
import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from client.data import save
from server.events import RoundReport
from shared.accounting import GaussianEvent
from simulations import ranking
from simulations.cli import main
from simulations.population import generate
from simulations.ranking import Ranking
from simulations.run import simulate
from simulations.scenario import Scenario
from simulations.scenario_file import read_scenario

USERS = 90
TINY = (  # as little work as there can be
    "base=tiny", f"users={USERS}", "insecure-test-noise=true", "spec.rank=4",
    "recipe.history=6", "recipe.targets=2", "recipe.negatives=8", "recipe.factors=4",
)  # fmt: skip
STEPS = (  # a head and an adapter that move in every step, so that each round counts
    "spec.down=seed", "mechanism.q=0.2", "mechanism.steps=3", "mechanism.clip=0.3",
    "recipe.optimizer=adam", "recipe.learning-rate=0.02", "recipe.head=steps",
    "recipe.prior=own", "federation.rule=fedavg",
)  # fmt: skip
SMALL = (*TINY, *STEPS)  # what the runs here have in common
WEIGHTS = "adapter_model.safetensors"
A_USER = rb"user-\d"  # how every id of a generated user begins

Charge = tuple[object, ...]


class Crash(BaseException):
    """The process dies: like a kill, nobody catches it."""


@dataclass(frozen=True)
class Printed:
    """A command that ended: its exit code and what it printed."""

    code: int
    stdout: str
    stderr: str


def write_small_data(folder: Path) -> Path:
    """The generated population over few items, as a data set."""
    save(folder, generate(np.random.default_rng(3), users=USERS, items=144).data)
    return folder


def scenario(data: Path, *sets: str, **options: object) -> Scenario:
    """Two sites, two rounds, one federated arm, unless ``options`` say otherwise."""
    usual = {"sites": 2, "rounds": 2, "epsilon": 2.0, "arms": ["federated"]}
    return read_scenario(None, {"data": str(data), **usual, **options}, [*SMALL, *sets])


def measured(asked: Scenario, metric_sigma: float) -> Scenario:
    """The same, and every round asks every site for its metric."""
    noise = {**asked.overrides["mechanism"], "metric-sigma": metric_sigma}
    return replace(asked, overrides={**asked.overrides, "mechanism": noise})


def run(asked: Scenario, out: Path, *, resume: bool = False) -> dict[str, Any]:
    """Run to the end and return the report."""
    return simulate(asked, out, resume=resume, tell=lambda *_told: None)


def run_until(asked: Scenario, out: Path, last: int, *, resume: bool = False) -> None:
    """Run, and crash right after round ``last`` was told."""

    def tell(_arm: str, _of: int, told: RoundReport) -> None:
        if told.number == last:
            raise Crash

    with pytest.raises(Crash):
        simulate(asked, out, resume=resume, tell=tell)


def arguments(asked: Scenario, out: Path, *more: str) -> list[str]:
    """The command line of ``tacit simulate`` for a scenario."""
    tables = asked.tables()
    bare = {f"no-dp.{name}": keys for name, keys in tables.pop("no-dp", {}).items()}
    sets = [
        f"{table}.{key}={json.dumps(value)}"
        for table, keys in (tables | bare).items()
        for key, value in keys.items()
    ]
    given = [word for text in sets for word in ("--set", text)]
    return ["simulate", "--out", str(out), *given, *more]


def tacit(*words: str) -> Printed:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["tacit", *words]),
        patch.dict(os.environ),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return Printed(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@contextmanager
def rankings() -> Iterator[list[Ranking]]:
    """Collect how each site's held-out items are ranked inside the block."""
    seen: list[Ranking] = []
    honest = ranking.rank_site

    def rank_site(*args: Any, **kwargs: Any) -> Ranking:
        seen.append(honest(*args, **kwargs))
        return seen[-1]

    with patch.object(ranking, "rank_site", rank_site):
        yield seen


def ledger_lines(out: Path, site: str) -> list[dict[str, Any]]:
    """Entries of a site's ledger, read without our own code."""
    with closing(sqlite3.connect(out / "sites" / site / "ledger.sqlite")) as db:
        rows = db.execute("SELECT line FROM entry ORDER BY n").fetchall()
    return [json.loads(line) for (line,) in rows]


def charges(out: Path, site: str) -> list[Charge]:
    """Everything a site was charged, in order: for which round, what, how much."""
    fields = ("run", "round", "what", "q", "sigma", "steps", "clip", "plan")
    return [
        tuple(line[name] for name in fields)
        for line in ledger_lines(out, site)
        if line["state"] == "planned"
    ]


def charged_events(out: Path, site: str) -> list[GaussianEvent]:
    return [
        GaussianEvent(q=line["q"], sigma=line["sigma"], steps=line["steps"])
        for line in ledger_lines(out, site)
        if line["state"] == "planned"
    ]


def seals(out: Path, site: str, what: str = "training") -> dict[int, str]:
    """Round -> SHA-256 of what a site sealed for it; no round is sealed twice."""
    lines = ledger_lines(out, site)
    sealed = [
        line
        for line in lines
        if line["state"] == "sealed" and lines[line["planned"]]["what"] == what
    ]
    found = {line["round"]: line["sha256"] for line in sealed}
    assert len(found) == len(sealed)
    return found


def weights(out: Path) -> bytes:
    return (out / "adapter" / WEIGHTS).read_bytes()


def report_of(out: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((out / "report.json").read_text("utf-8"))
    return made


def naming_users(out: Path) -> list[Path]:
    """Files of a run that name a user, outside the data of its sites."""
    return [
        path
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] != "data"
        if re.search(A_USER, path.read_bytes())
    ]


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Path -> digest and time of change of every file."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
