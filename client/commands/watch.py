"""``tacit site watch``: the site's own view, live."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

HERE = Path()


def watch(
    folder: Annotated[Path, typer.Argument(help="The site's folder.")] = HERE,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show it once.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, once.")] = False,
    page: Annotated[
        int | None,
        typer.Option(help="Serve the page at this port of 127.0.0.1 instead."),
    ] = None,
) -> None:
    """Show the site of FOLDER: node, budget, rounds, what left; live in a terminal.

    Nothing is changed. Where there is no terminal it is shown once.
    """
    from rich.console import Console  # noqa: PLC0415

    from client.live.view import View, look  # noqa: PLC0415
    from client.live.watch import follow, screen  # noqa: PLC0415
    from shared.page import plain, serve  # noqa: PLC0415

    def view() -> View:
        return look(folder, datetime.now(UTC))

    first, console = view(), Console()
    if page is not None:
        from client.live.page import app  # noqa: PLC0415

        serve(app(folder), page)
    elif as_json:
        typer.echo(json.dumps(plain(first), indent=2))
    elif once or not console.is_terminal:
        console.print(screen(first))
    else:
        with suppress(KeyboardInterrupt):
            follow(view, console)
