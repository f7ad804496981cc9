"""``tacit datasets``: list, fetch and verify public data sets."""

from pathlib import Path
from typing import Annotated

import typer

from simulations.datasets import registry

app = typer.Typer(no_args_is_help=True)


@app.callback()
def datasets() -> None:
    """List, fetch and verify public data sets."""


@app.command("list")
def list_() -> None:
    """Show the data sets that can be fetched, and from whom."""
    for release in registry.RELEASES:
        typer.echo(f"{release.name:16} {release.summary}\n{'':16} {release.url}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="As in `tacit datasets list`.")],
    to: Annotated[Path, typer.Option(help="Folder to hold the new one.")] = Path(
        "data"
    ),
) -> None:
    """Download the data set NAME from its publisher, and check it."""
    _show(registry.fetch(name, to))


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of a data set.")],
) -> None:
    """Compare the files in FOLDER with the digests on record."""
    _show(registry.verify(folder))


def _show(checked: registry.Checked) -> None:
    """Print what was checked and what could not be."""
    typer.echo(f"{checked.folder}: {checked.name}")
    if checked.verified:
        typer.echo(f"  as published: {', '.join(checked.verified)}")
    if checked.unverified:
        typer.echo(f"  not checked, no digest known: {', '.join(checked.unverified)}")
