"""``tacit compare``: runs side by side, on the terminal, as a page, for TensorBoard."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.command()
def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of runs, the first to hold against.")
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Also write a page, which ends in .html.")
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(help="Also write every run's figures for TensorBoard here."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the comparison as JSON.")
    ] = False,
) -> None:
    """Set the runs in FOLDERS side by side: what was asked, what came of it.

    With --tensorboard one run is enough.
    """
    from simulations.report import compare_page, page  # noqa: PLC0415  # when it works
    from simulations.report.compare import compare as side_by_side  # noqa: PLC0415
    from simulations.report.schema import read_run  # noqa: PLC0415

    if tensorboard is not None:
        from simulations.report.tensorboard import export  # noqa: PLC0415  # torch

        for folder in folders:
            count = export(read_run(folder), tensorboard / folder.name)
            told = f"{folder}: {count} scalars in {tensorboard / folder.name}"
            typer.echo(told, err=True)
        if len(folders) == 1:
            return
    compared = side_by_side(folders)
    if out is not None:
        page.write_html(out, compare_page.page(compared))
    if as_json:
        typer.echo(json.dumps(compared, indent=2))
        return
    from rich.console import Console  # noqa: PLC0415

    console = Console(width=None if sys.stdout.isatty() else 118)
    for table in (
        compare_page.settings_table(compared),
        compare_page.arms_table(compared, ("ndcg@10",)),
    ):
        console.print(compare_page.for_terminal(table))
    if out is not None:
        typer.echo(f"Page: {out}")
