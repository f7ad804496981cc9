"""The command ``tacit``: one group for each role, loaded only when it runs."""

import os
import sys
from importlib import import_module
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

from shared.errors import TacitError
from shared.programs import QUIET

ROLES = {  # name: (where, one line of help)
    "simulate": ("simulations.simulate:app", "Run a whole federation on this machine."),
    "compare": ("simulations.report.compare_cli:app", "Set runs side by side."),
    "site": ("client.cli:app", "Connect and look after one site."),
    "server": ("server.cli:app", "Run a federation of sites."),
    "bench": ("simulations.bench.cli:app", "Measure how fast it is on this machine."),
    "audit": ("simulations.audit.cli:app", "Check ledgers and the training code."),
    "datasets": (
        "simulations.datasets.cli:app",
        "List, fetch and verify public data sets.",
    ),
}


class LazyRole(click.Command):
    """A name and a help line; the real command is imported when it runs."""

    def __init__(self, name: str, target: str, text: str) -> None:
        super().__init__(name, help=text)
        self._target = target

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Hand over to the role's own command."""
        module, attribute = self._target.split(":")
        role = typer.main.get_command(getattr(import_module(module), attribute))
        return role.make_context(info_name, args, parent, **extra)


class Roles(TyperGroup):
    """The groups of ``ROLES``."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click passes it
        """Return the names of the roles."""
        return list(ROLES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click passes it
        """Return a role that is not loaded yet."""
        return LazyRole(cmd_name, *ROLES[cmd_name]) if cmd_name in ROLES else None


root = typer.Typer(cls=Roles, no_args_is_help=True, pretty_exceptions_enable=False)


@root.callback()
def tacit(
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors.")
    ] = False,
) -> None:
    """Federated recommendations that stay private."""
    os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
    os.environ["TACIT_DEBUG"] = "1" if debug else ""


def main() -> None:
    """Run the command line; an error of ours is one message and an exit code."""
    try:
        root()
    except TacitError as error:
        if os.environ.get("TACIT_DEBUG"):
            raise
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
