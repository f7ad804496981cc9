"""The server's live view in a terminal: the same as on its page, as tables."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from server.live.view import RunView, SiteView, View

PERIOD_S = 1.0
BLOCKS = "▁▂▃▄▅▆▇█"
STYLES = {  # of a node and of what a site does
    "online": "green",
    "unregistered": "yellow",
    "unknown": "dim",
    "training": "cyan",
    "answered": "green",
    "refused": "red",
    "absent": "yellow",
}


def follow(look: Callable[[], View], console: Console) -> None:
    """Show the view, and again every second, until it is interrupted."""
    with Live(screen(look()), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(PERIOD_S)
            live.update(screen(look()), refresh=True)


def screen(view: View) -> RenderableType:
    """Return the view for a terminal."""
    faults = [Text(fault, "red") for fault in view.faults]
    if not view.reachable:
        faults.insert(0, Text("The SuperLink does not answer.", "red"))
    run = [_headline(view.run), *_progress(view.run)] if view.run else []
    empty = [] if run else [Text("No run yet: tacit server run PLAN")]
    return Group(*faults, *run, *empty, _sites(view.sites), *_releases(view))


def sparkline(values: Sequence[float]) -> str:
    """Return values as blocks, the largest as the highest."""
    top = max(values, default=0.0) or 1.0
    return "".join(BLOCKS[round(value / top * (len(BLOCKS) - 1))] for value in values)


def _headline(run: RunView) -> Text:
    state = f"{run.state}, {run.reason}" if run.reason else run.state
    left = "" if run.left_s is None else f", about {_duration(run.left_s)} left"
    return Text(
        f"Run {run.name}: round {run.number} of {run.of}, {state}{left}", "bold"
    )


def _progress(run: RunView) -> list[RenderableType]:
    norms = [report.update_norm for report in run.rounds][-60:]
    last = f"{norms[-1]:.4g}" if norms else "none yet"
    refused = ", ".join(f"{why} {times}" for why, times in run.refusals.items())
    done = run.rounds[-1].number if run.rounds else 0
    return [
        Padding(ProgressBar(total=run.of, completed=done, width=60), 0),
        Text(f"step of the adapter  {sparkline(norms)}  {last}"),
        Text(f"bytes up {run.bytes_up:,}, down {run.bytes_down:,}"),
        *([Text(f"did not count: {refused}", "yellow")] if refused else []),
    ]


def _sites(sites: Sequence[SiteView]) -> Table:
    columns = ("Site", "Node", "Came or went", "Now", "Rounds", "Bytes up", "Metric")
    table = Table(*columns, box=None, pad_edge=False)
    for site in sites:
        now = f"{site.doing}: {site.why}" if site.why else site.doing
        table.add_row(
            Text(site.name, "bold"),
            Text(site.status, STYLES.get(site.status, "")),
            Text(_clock(site.last_seen)),
            Text(now, STYLES.get(site.doing, "")),
            str(site.rounds),
            f"{site.bytes_up:,}",
            Text(_metrics(site.metrics)),
        )
    return table


def _releases(view: View) -> list[Text]:
    current = next((one.name for one in view.releases if one.in_force), "none")
    newest = ", ".join(one.name for one in view.releases[:5]) or "none"
    return [Text(f"In force: {current}. Newest releases: {newest}")]


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()) or "-"


def _clock(iso: str) -> str:
    """Return a time as this terminal's clock shows it."""
    if not iso:
        return "-"
    return datetime.fromisoformat(iso).astimezone().strftime("%d %b %H:%M:%S")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
