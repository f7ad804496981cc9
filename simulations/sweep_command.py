"""``tacit simulate --sweep``: plan the runs, show how they go, print the result."""

import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from simulations.scenario import Scenario
from simulations.sweep import Asked, Ended, Told, sweep
from simulations.sweep_plan import points, read_sweeps

Ask = Callable[[Sequence[str]], Scenario]  # given more settings, as --set has them


def run_sweep(  # noqa: PLR0913  # what the command was given
    scenario: str,
    ask: Ask,
    sweeps: Sequence[str],
    seeds: int,
    out: Path,
    *,
    resume: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Run a sweep and print what it found.

    Args:
        scenario: Its name.
        ask: Returns the scenario with more settings.
        sweeps: Such as ``epsilon=1,2,4``.
        seeds: How many, from the scenario's own on.
        out: The sweep's folder.
        resume: Whether to go on with what is there.
        workers: Runs at a time; 0 is as many as pay.
        as_json: Whether to print the report as JSON.

    Raises:
        ConfigError: If a setting is wrong, or ``out`` holds something else.
        Exit: With 1 if a run failed.
    """
    asked = planned(scenario, ask, sweeps, seeds)
    try:
        with _progress(len(asked.runs)) as tell:
            made = sweep(asked, out, resume=resume, workers=workers, tell=tell)
    except KeyboardInterrupt:
        typer.echo(f"stopped; go on with: --out {out} --resume", err=True)
        raise
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 118)
        console.print(_table(made))
        typer.echo(f"Runs and report: {out}")
    if made["failures"]:
        raise typer.Exit(1)


def planned(scenario: str, ask: Ask, sweeps: Sequence[str], seeds: int) -> Asked:
    """Return all runs of a sweep; every one of them is read before the first begins.

    Raises:
        ConfigError: If a setting is wrong at any point.
    """
    base, swept = ask(()).simulation, read_sweeps(sweeps)
    every = range(base.seed, base.seed + seeds)
    runs = [
        (point, ask(point.sets()))
        for point in points(scenario, swept, every, base.arms)
    ]
    command = shlex.join(["tacit", *sys.argv[1:]])
    return Asked(command, scenario, swept, every, runs)


@contextmanager
def _progress(runs: int) -> Iterator[Told]:
    """Show runs and time left; a line for each run without a terminal."""
    if not sys.stderr.isatty():
        yield _lines(runs)
        return
    columns = (
        TextColumn("runs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=runs)

        def tell(ended: Ended) -> None:
            bar.update(task, advance=1, description=ended.point.name)
            if ended.error:
                bar.console.print(_said(ended), style="red", markup=False)

        yield tell


def _lines(runs: int) -> Told:
    """Return what prints a line for each run, with the time that is left."""
    begun, told, worked = time.monotonic(), 0, 0

    def tell(ended: Ended) -> None:
        nonlocal told, worked
        told, worked = told + 1, worked + bool(ended.seconds)
        left = runs - told
        pace = (time.monotonic() - begun) / max(1, worked)
        more = f"; about {pace * left / 60:.1f} min left" if worked and left else ""
        typer.echo(f"[{told}/{runs}] {_said(ended)}{more}", err=True)

    return tell


def _said(ended: Ended) -> str:
    if ended.error:
        return f"{ended.point.name}: FAILED after {ended.seconds:.0f} s: {ended.error}"
    if not ended.seconds:
        return f"{ended.point.name}: there already"
    return f"{ended.point.name}: {ended.seconds:.1f} s"


def _table(made: Mapping[str, Any]) -> Table:
    """Return every arm at every point."""
    table = Table(title=made["asked"]["scenario"], caption=made["interval"])
    keys = list(made["asked"]["keys"])
    for column in (*keys, "arm", "seeds", "NDCG@10", "HR@10", "privacy"):
        table.add_column(column)
    for row in made["rows"]:
        own = [str(row["keys"].get(key, "any")) for key in keys]
        figures = [
            "{mean:.4f} [{low:.4f}, {high:.4f}]".format(**row[cut])
            for cut in ("ndcg@10", "hr@10")
        ]
        privacy = row.get("label") or f"epsilon {row['spent']:.3f}"
        table.add_row(*own, row["arm"], str(row["seeds"]), *figures, privacy)
    return table
