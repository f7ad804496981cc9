"""``tacit site``: what a site's operator asks of it."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client.commands_approve import approve
from client.commands_forget import forget, leave, pause, resume, status
from client.commands_join import doctor, init
from client.commands_node import join, rotate
from client.commands_watch import watch

if TYPE_CHECKING:
    from client.budget import Budget
    from client.sources.check import Checked
    from shared.accounting import GaussianEvent
    from shared.chain import Chain

app = typer.Typer(no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(help="The site's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def site() -> None:
    """Connect and look after one site: its data, budget, ledger and node."""


for command in (
    *(init, doctor, approve, join, status, watch),
    *(pause, resume, leave, rotate, forget),
):
    app.command()(command)


@app.command()
def budget(
    folder: Folder,
    *,
    sigma: Annotated[
        float | None,
        typer.Option(help="Noise of a coming round; default: as the last one."),
    ] = None,
    q: Annotated[float | None, typer.Option(help="Sampling rate of it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of it.")] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Plan: how much noise do so many rounds need?")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is spent, what is left, and what the next round would cost.

    FOLDER is the site's. The next round is as the last one, or as the protocol's
    default before there was any; options change it. With --rounds, also the least noise
    with which so many rounds fit in what is left.
    """
    from client.budget import budget as compute  # noqa: PLC0415
    from client.budget import noise_for_rounds  # noqa: PLC0415

    chain, limit, delta = _opened(folder)
    coming = _coming(chain, sigma, q, steps)
    state = compute(chain.events, limit, delta, coming, exposed=chain.exposed)
    shown = _budget_rows(state)
    if rounds is not None:
        needed = noise_for_rounds(
            chain.events, limit, delta, q=coming.q, steps=coming.steps, rounds=rounds
        )
        shown[f"sigma for {rounds} more rounds"] = needed
    if as_json:
        typer.echo(json.dumps({key: _finite(value) for key, value in shown.items()}))
        return
    typer.echo(
        f"Site {chain.opening['site']}, delta {delta:g}, {chain.opening['unit']}"
    )
    for key, value in shown.items():
        typer.echo(f"{key:>24}  {_figure(value)}")


@app.command()
def egress(folder: Folder, *, as_json: Json = False) -> None:
    """List everything that ever left the site in FOLDER: when, what, how large."""
    rows = left(_opened(folder)[0])
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    typer.echo(
        f"{'time (UTC)':<25}  {'run':<12} {'round':>5} {'bytes':>9}  sha256, tensors"
    )
    for row in rows:
        names = ", ".join(row["tensors"])
        typer.echo(
            f"{row['time']:<25}  {row['run']:<12} {row['round']:>5} {row['bytes']:>9}  "
            f"{row['sha256']}  {names}"
        )
    total = sum(row["bytes"] for row in rows)
    typer.echo(f"{len(rows)} releases, {total} bytes; nothing else has a way out")


@app.command()
def ledger(
    folder: Folder,
    *,
    out: Annotated[Path, typer.Option(help="File for the export, JSON Lines.")],
) -> None:
    """Export the ledger of the site in FOLDER for an auditor.

    It holds nothing about any user.
    """
    from client.site import open_site  # noqa: PLC0415

    open_site(folder).open_ledger().export(out)
    typer.echo(f"Verify it anywhere: tacit audit ledger {out}")


def left(chain: "Chain") -> list[dict[str, Any]]:
    """Return what left, one row for each release, oldest first."""
    names = ("run", "round", "bytes", "sha256", "tensors")
    return [
        {"time": entry.body["date"], **{name: entry.body[name] for name in names}}
        for entry in chain.entries
        if entry.state == "sealed" and entry.body["leaves"]
    ]


def _opened(folder: Path) -> "tuple[Chain, float, float]":
    """Return the site's verified chain, its budget and delta."""
    from client.site import open_site  # noqa: PLC0415

    opened = open_site(folder)
    chain = opened.open_ledger().chain()
    return chain, opened.policy.epsilon, opened.policy.delta


def _coming(
    chain: "Chain", sigma: float | None, q: float | None, steps: int | None
) -> "GaussianEvent":
    """Return a coming round: as the last one with noise, or else as by default.

    Whatever is given wins over either.
    """
    from shared.accounting import GaussianEvent  # noqa: PLC0415
    from shared.entries import NOISY  # noqa: PLC0415
    from shared.protocol import Mechanism  # noqa: PLC0415

    usual = asdict(Mechanism())
    for entry in chain.entries:
        body = entry.body
        if (body.get("what"), body.get("mechanism")) == ("training", NOISY):
            usual = dict(body)
    return GaussianEvent(
        q=usual["q"] if q is None else q,
        sigma=usual["sigma"] if sigma is None else sigma,
        steps=usual["steps"] if steps is None else steps,
    )


def _budget_rows(state: "Budget") -> dict[str, float | int | None]:
    return {
        "budget": state.limit,
        "spent": state.spent,
        "spent, replace-one": state.spent_replace_one,
        "left": state.left,
        "charges": state.events,
        "next round would cost": state.next_cost,
        "such rounds left": state.rounds_left,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if math.isfinite(value) else "infinite: NOT PRIVATE"


data = typer.Typer(no_args_is_help=True, help="Look at what a site would train on.")
app.add_typer(data, name="data")


@data.command()
def check(
    folder: Folder,
    *,
    full: Annotated[
        bool,
        typer.Option("--full", help="Read a database anew from its first event."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Read and check the data of the site in FOLDER; nothing is trained or sent.

    The counts are exact, so they are for this screen only.

    A database is read on from where it was read before.

    What was deleted or changed below the overlap is noticed with --full alone.
    """
    from client.site import open_site  # noqa: PLC0415
    from client.sources.check import check as count  # noqa: PLC0415

    site = open_site(folder)
    shown = _check_rows(count(site.data, site.folder, full=full))
    shown["users, as the policy says"] = site.policy.users
    if as_json:
        typer.echo(json.dumps(shown))
        return
    for key, value in shown.items():
        typer.echo(f"{key:>26}  {value}")


def _check_rows(checked: "Checked") -> dict[str, str | int | bool]:
    shown: dict[str, str | int | bool] = {"source": checked.source}
    if read := checked.refreshed:
        shown |= {
            "read": "everything" if read.whole else "on from the last time",
            "events read": read.rows,
            "anything new": read.changed,
            "snapshot": read.state.number,
        }
    people = ("users", "users_with_likes")
    names = ("items", *people, "events", "likes", "likes_trained", "oldest", "newest")
    return shown | {name.replace("_", " "): getattr(checked, name) for name in names}
