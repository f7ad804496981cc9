"""``tacit site``: what a site's operator asks of it."""

import typer

from client.commands.approve import approve
from client.commands.budget import budget, egress, ledger
from client.commands.data import app as data
from client.commands.join import doctor, init
from client.commands.key import app as key
from client.commands.node import join, rotate
from client.commands.report import report
from client.commands.serve import rollback, serve
from client.commands.standing import forget, leave, pause, resume, status
from client.commands.tune import tune
from client.commands.watch import watch

app = typer.Typer(no_args_is_help=True)


@app.callback()
def site() -> None:
    """Connect and look after one site: its data, budget, ledger, node and serving."""


for command in (
    *(init, doctor, approve, join, status, watch),
    *(serve, report, tune, rollback),
    *(budget, egress, ledger),
    *(pause, resume, leave, rotate, forget),
):
    app.command()(command)
app.add_typer(data, name="data")
app.add_typer(key, name="key")
