"""``tacit server``: what the operator of a federation asks of it."""

import typer

from server.commands.releases import app as releases
from server.commands.run import run, start, status, stop
from server.commands.setup import admit, expel, init, invite, renew, sites, upgrade
from server.commands.watch import watch

app = typer.Typer(no_args_is_help=True)


@app.callback()
def server() -> None:
    """Run a federation: invite sites, admit them, train with them, release."""


for command in (
    *(init, invite, admit, sites, expel, renew, upgrade),
    *(start, run, status, stop, watch),
):
    app.command()(command)
app.add_typer(releases, name="releases")
