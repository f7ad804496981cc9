"""``tacit server watch``: the federation, live."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from server.flower import Node
    from server.operator import Operator

HERE = Path()


def watch(
    folder: Annotated[Path, typer.Argument(help="The operator's folder.")] = HERE,
    *,
    once: Annotated[bool, typer.Option("--once", help="Show it once.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, once.")] = False,
    page: Annotated[
        int | None,
        typer.Option(help="Serve the page at this port of 127.0.0.1 instead."),
    ] = None,
) -> None:
    """Show the server of FOLDER: run, rounds, sites, releases; live in a terminal.

    Nothing is changed. Where there is no terminal it is shown once.
    """
    from rich.console import Console  # noqa: PLC0415

    from server.live.view import View, look  # noqa: PLC0415
    from server.live.watch import follow, screen  # noqa: PLC0415
    from server.operator import open_operator  # noqa: PLC0415
    from shared.page import plain, serve  # noqa: PLC0415

    operator = open_operator(folder)
    nodes = nodes_of(operator)

    def view() -> View:
        return look(operator.folder, nodes(), datetime.now(UTC))

    console = Console()
    if page is not None:
        from server.live.page import app  # noqa: PLC0415

        serve(app(operator.folder, nodes), page)
    elif as_json:
        typer.echo(json.dumps(plain(view()), indent=2))
    elif once or not console.is_terminal:
        console.print(screen(view()))
    else:
        with suppress(KeyboardInterrupt):
            follow(view, console)


def nodes_of(operator: "Operator") -> "Callable[[], list[Node] | None]":
    """Return what asks Flower for its nodes; it gives None where nothing answers."""
    from server.flower import nodes  # noqa: PLC0415
    from shared.errors import ServerUnreachable  # noqa: PLC0415

    def ask() -> "list[Node] | None":
        try:
            return nodes(operator)
        except (ServerUnreachable, OSError):  # the latter: a CA that cannot be read
            return None

    return ask
