"""A comparison of runs as a page, and as tables for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table as RichTable

from simulations.report import plots
from simulations.report.compare import CUTS
from simulations.report.content import (
    NDCG,
    NOTHING,
    OPEN,
    Cell,
    Figure,
    Page,
    Section,
    Table,
    interval,
    named,
    plain,
    promise,
    setting,
)
from simulations.report.run_page import bars
from simulations.report.table import said

Made = Mapping[str, Any]


def page(compared: Made) -> Page:
    """Return the comparison as a page."""
    runs = compared["runs"]
    same = [
        key
        for key, digest in runs[0]["digests"].items()
        if all(run["digests"][key] == digest for run in runs)
    ]
    return Page(
        title="Comparison of runs",
        subtitle=", ".join(run["name"] for run in runs),
        verdict="; ".join(map(_claim, runs)) + ".",
        sections=[
            Section(
                key="asked",
                title="What was asked",
                says=[f"The same in all, by digest: {', '.join(same) or 'nothing'}."],
                code="\n".join(run["command"] for run in runs),
                tables=[settings_table(compared)],
            ),
            Section(
                key="arms",
                title="Arms",
                figures=list(_figures(compared)),
                tables=[arms_table(compared)],
            ),
        ],
    )


def for_terminal(table: Table) -> RichTable:
    """Return a table of a page as a terminal shows it."""
    shown = RichTable(title=table.caption)
    for column in table.columns:
        shown.add_column(column, overflow="fold")
    for row in table.rows:
        shown.add_row(*map(said, row))
    return shown


def settings_table(compared: Made) -> Table:
    """Return what was asked differently, run by run."""
    names = [run["name"] for run in compared["runs"]]
    return Table(
        "What was asked differently",
        ["setting", "run", "value"],
        [
            plain(key, name, setting(value))
            for key, values in compared["settings"].items()
            for name, value in zip(names, values, strict=True)
        ],
    )


def arms_table(compared: Made, cuts: Sequence[str] = tuple(CUTS)) -> Table:
    """Return each arm in each run that has it, and its change since the first run."""
    runs = compared["runs"]
    rows = [
        [
            named(arm, found),
            Cell(run["name"]),
            *(interval(found[cut]) for cut in cuts),
            _change(figures[0], found),
            promise(found),
        ]
        for arm, figures in compared["arms"].items()
        for run, found in zip(runs, figures, strict=True)
        if found
    ]
    columns = ["arm", "run", *(CUTS[cut] for cut in cuts), "since the first", "privacy"]
    return Table("Held-out events, full ranking; 95 % bootstrap", columns, rows)


def _claim(run: Made) -> str:
    spent = "" if run["claim"] == OPEN else f", epsilon {run['epsilon_max']:.3f}"
    return f"{run['name']}: {run['claim']}{spent}"


def _change(first: Made | None, found: Made) -> Cell:
    if not first or first is found:
        return Cell(NOTHING)
    return Cell(f"{found[NDCG]['mean'] - first[NDCG]['mean']:+.4f}")


def _figures(compared: Made) -> Iterator[Figure]:
    """Yield a chart of NDCG@10 for each run, all arms of it."""
    for place, run in enumerate(compared["runs"]):
        drawn = {
            arm: figures[place]
            for arm, figures in compared["arms"].items()
            if figures[place]
        }
        title = f"NDCG@10 of {run['name']}"
        rows = bars({"metrics": drawn}, NDCG)
        yield Figure(title, plots.bars(title, "NDCG@10", rows))
