"""A site's live view in a terminal: its node, and its budget burning down."""

import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from client.account import Left, RoundView
from client.budget import Budget
from client.live.view import TOOK_PART, NodeView, View

PERIOD_S, ROWS, WIDTH = 1.0, 8, 60


def follow(look: Callable[[], View], console: Console) -> None:
    """Show the view, and again every second, until it is interrupted."""
    with Live(screen(look()), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(PERIOD_S)
            live.update(screen(look()), refresh=True)


def screen(view: View) -> RenderableType:
    """Return the view for a terminal."""
    refused = ", ".join(f"{why} {times}" for why, times in view.refusals.items())
    return Group(
        *(Text(fault, "red") for fault in view.faults),
        Text(f"Site {view.site}: {_standing(view.node)}", "bold"),
        *(_budget(view.budget) if view.budget else []),
        Text(f"Rounds taken part in: {view.took_part}"),
        *([_rounds(view.rounds[:ROWS])] if view.rounds else []),
        *([Text(f"refused: {refused}", "yellow")] if refused else []),
        Text(f"Left this site: {view.releases} releases, {view.bytes:,} bytes"),
        *([_left(view.left[:ROWS])] if view.left else []),
        Text(f"Release in force here: {view.serving or 'none yet'}"),
    )


def _standing(node: NodeView) -> str:
    if node.left:
        return "has left the federation"
    if node.paused:
        return f"paused until {_clock(node.until)}" if node.until else "paused"
    detail = f" ({node.detail})" if node.detail else ""
    since = f", since {_clock(node.since)}" if node.since else ""
    return f"node {node.state}{detail}{since}"


def _budget(budget: Budget) -> list[RenderableType]:
    """Return a bar of what is left, and the figures."""
    if budget.exposed:
        return [Text("NOT PRIVATE: something left without noise", "red")]
    if budget.limit == float("inf"):
        return [Text(f"Epsilon {budget.spent:.4f} spent; no limit, nothing promised")]
    cost = "-" if budget.next_cost is None else f"{budget.next_cost:.4f}"
    rounds = "-" if budget.rounds_left is None else str(budget.rounds_left)
    figures = (
        f"Epsilon {budget.spent:.4f} of {budget.limit:g} spent, {budget.left:.4f} left"
        f" at delta {budget.delta:g}"
    )
    return [
        Padding(ProgressBar(total=budget.limit, completed=budget.left, width=WIDTH), 0),
        Text(figures),
        Text(f"The next round costs {cost}; such rounds left: {rounds}"),
    ]


def _rounds(rounds: tuple[RoundView, ...]) -> Table:
    table = Table("Round", "Run", "Began", "Outcome", box=None, pad_edge=False)
    for row in rounds:
        took = row.outcome in TOOK_PART
        said = Text(row.outcome) if took else Text(f"refused: {row.outcome}", "yellow")
        table.add_row(str(row.number), Text(row.run), _clock(row.time), said)
    return table


def _left(rows: tuple[Left, ...]) -> Table:
    columns = ("When", "Run", "Round", "Bytes", "SHA-256")
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        when, digest = _clock(row.time), row.sha256[:16]
        table.add_row(when, Text(row.run), str(row.number), f"{row.bytes:,}", digest)
    return table


def _clock(iso: str) -> str:
    """Return a time as this terminal's clock shows it."""
    return datetime.fromisoformat(iso).astimezone().strftime("%d %b %H:%M:%S")
