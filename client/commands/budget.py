"""``tacit site budget | egress | ledger``: what is spent and what left."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.budget import Budget

Folder = Annotated[Path, typer.Argument(help="The site's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def budget(  # noqa: PLR0913 - one for each option
    folder: Folder = Path(),
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
    prior_sigma: Annotated[
        float, typer.Option(help="Of the popularity release before them; 0: none.")
    ] = 0.0,
    head_sigma: Annotated[
        float, typer.Option(help="Of the co-occurrence release before them; 0: none.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Show what is spent, what is left, and what the next round would cost.

    FOLDER is the site's. The next round is as the last one, or as the protocol's
    default before there was any; options change it. With --rounds, also the least noise
    with which so many rounds fit in what is left, after the releases that a new run
    begins with, and what is spent after them all: with SIGMA, or with that least. The
    ledger is only read.
    """
    from client.account import believed, coming  # noqa: PLC0415
    from client.budget import budget as compute  # noqa: PLC0415
    from client.budget import noise_for_rounds  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415
    from shared.accounting import GaussianEvent, epsilon  # noqa: PLC0415
    from shared.entries import UNIT  # noqa: PLC0415

    site = open_site(folder)
    chain, policy = believed(site), site.policy
    usual = coming(chain.entries)
    event = GaussianEvent(
        q=usual.q if q is None else q,
        sigma=usual.sigma if sigma is None else sigma,
        steps=usual.steps if steps is None else steps,
    )
    state = compute(
        chain.events, policy.epsilon, policy.delta, event, exposed=chain.exposed
    )
    shown = _budget_rows(state)
    if rounds is not None:
        releases = [
            GaussianEvent(q=1.0, sigma=each, steps=1)
            for each in (prior_sigma, head_sigma)
            if each
        ]
        before = [*chain.events, *releases]
        needed = noise_for_rounds(
            before,
            policy.epsilon,
            policy.delta,
            q=event.q,
            steps=event.steps,
            rounds=rounds,
            exposed=chain.exposed,
        )
        least = max(needed, policy.min_sigma)  # of the two, what the site would take
        shown[f"sigma for {rounds} more rounds"] = least
        planned = GaussianEvent(
            q=event.q, sigma=sigma or least, steps=event.steps * rounds
        )
        shown["spent after them"] = epsilon([*before, planned], policy.delta)
    if as_json:
        typer.echo(json.dumps({key: _finite(value) for key, value in shown.items()}))
        return
    typer.echo(f"Site {site.settings.name}, delta {policy.delta:g}, {UNIT}")
    for key, value in shown.items():
        typer.echo(f"{key:>24}  {_figure(value)}")


def egress(folder: Folder = Path(), *, as_json: Json = False) -> None:
    """List everything that ever left the site in FOLDER: when, what, how large."""
    from dataclasses import asdict  # noqa: PLC0415

    from client.account import believed, left  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415

    rows = left(believed(open_site(folder)).entries)[::-1]
    if as_json:
        shown = [asdict(row) for row in rows]
        for one in shown:
            one["round"] = one.pop("number")
        typer.echo(json.dumps(shown, indent=2))
        return
    typer.echo(
        f"{'time (UTC)':<25}  {'run':<12} {'round':>5} {'bytes':>9}  sha256, tensors"
    )
    for row in rows:
        typer.echo(
            f"{row.time:<25}  {row.run:<12} {row.number:>5} {row.bytes:>9}  "
            f"{row.sha256}  {', '.join(row.tensors)}"
        )
    total = sum(row.bytes for row in rows)
    typer.echo(f"{len(rows)} releases, {total} bytes; nothing else has a way out")


def ledger(
    folder: Folder = Path(),
    *,
    out: Annotated[Path, typer.Option(help="File for the export, JSON Lines.")],
) -> None:
    """Export the ledger of the site in FOLDER for an auditor.

    It holds nothing about any user.
    """
    from client.site import open_site  # noqa: PLC0415

    open_site(folder).open_ledger().export(out)
    typer.echo(f"Verify it anywhere: tacit audit ledger {out}")


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
