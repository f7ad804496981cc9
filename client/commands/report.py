"""``tacit site report``: how a site's recommendations fare, for its own operator."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from client.serving.feedback.findings import Report, Slice
    from client.serving.feedback.intervals import Estimate

Folder = Annotated[Path, typer.Argument(help="The site's folder.")]

FIGURES = ("ctr", "conversion", "diversity", "novelty", "popular")


def report(
    folder: Folder = Path(),
    *,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="First day (UTC); default: all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how recommendations of the site in FOLDER fare, by day, release and group.

    The figures are exact and stay at this site: they are its operator's, and nothing
    that is served reads them. Each has an interval of 95 %, by resampling users.

    Lists are told apart by release, segment, declared attributes ("groups" in
    serving.toml) and provider ("provider"). A release that does worse is warned of.
    """
    from client.serving.feedback.report import report as look  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415

    begin = since.replace(tzinfo=UTC) if since else None
    found = look(open_site(folder), begin, datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
        return
    _show(found)


def _show(found: "Report") -> None:
    """Print what there is, one table after the other."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    console.print(Text(f"Site {found.site}, {found.since} to {found.until}", "bold"))
    console.print(Text(found.label))
    for warning in found.warnings:
        console.print(Text(f"WARNING: {warning}", "red"))
    for table in _tables(found):
        if table.row_count:
            console.print()
            console.print(table)


def _tables(found: "Report") -> "Iterable[Table]":
    parts = {
        "All": (found.whole,),
        "By day": found.days,
        "By release": found.releases,
        "By segment of users": found.segments,
        "By group of users": tuple(group.figures for group in found.groups),
    }
    for title, slices in parts.items():
        yield _sliced(title, slices)
    yield _table(
        "From release to release",
        ("before", "after", "change of ctr", "change of conversion"),
        (
            (c.before, c.after, *map(_signed, (c.ctr, c.conversion)))
            for c in found.changes
        ),
    )
    yield _table(
        "Groups: CTR above that of all others",
        ("attribute", "value", "gap"),
        ((g.attribute, g.figures.name, _signed(g.gap)) for g in found.groups),
    )
    yield _table(
        "Providers",
        ("provider", "share of what is shown", "of the catalogue"),
        ((p.name, _said(p.shown), f"{p.catalogue:.3f}") for p in found.providers),
    )
    yield _table(
        "Compared ways to serve, by users",
        ("segment", "first", "second", "won", "lost", "tied", "share won"),
        (
            (
                d.segment,
                d.first,
                d.second,
                *map(str, (d.won, d.lost, d.tied)),
                _said(d.share),
            )
            for d in found.duels
        ),
    )


def _sliced(title: str, slices: "Sequence[Slice]") -> "Table":
    rows = (
        (
            one.name,
            f"{one.users:,}",
            f"{one.lists:,}",
            *(_said(getattr(one, figure)) for figure in FIGURES),
            f"{one.coverage:.3f}",
        )
        for one in slices
    )
    return _table(title, ("", "users", "lists", *FIGURES, "coverage"), rows)


def _table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> "Table":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _said(figure: "Estimate | None") -> str:
    if figure is None:
        return "-"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _signed(figure: "Estimate | None") -> str:
    if figure is None:
        return "-"
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"
