"""``tacit site tune``: let serving adapt to what users chose, for its price."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.serving.feedback.tune import Cost

Folder = Annotated[Path, typer.Argument(help="The site's folder.")]

EXPOSED = "Something was released without noise: NOT PRIVATE, with or without this."


def tune(
    folder: Folder = Path(),
    *,
    sigma: Annotated[
        float | None,
        typer.Option(help="Noise multiplier; default: 10, or the policy's least."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what it would cost, and end.")
    ] = False,
) -> None:
    """Adapt serving at the site in FOLDER to its users' feedback, by one noised count.

    Which of two compared ways to serve users chose, and what groups of them like, is
    counted with noise and charged to the site's ledger like a round. Nothing leaves the
    site. What it costs is told first; the policy must list "serving" under releases.
    """
    from client.serving.feedback.tune import cost, usual_sigma  # noqa: PLC0415
    from client.serving.feedback.tune import tune as release  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415

    site = open_site(folder)
    price = cost(site, usual_sigma(site) if sigma is None else sigma)
    typer.echo(_told(price))
    if dry_run:
        return
    if (
        price.after <= price.limit and not yes
    ):  # else the ledger refuses, for the record
        typer.confirm(f"Spend it at {site.settings.name}?", abort=True)
    made = release(site, price.sigma)
    typer.echo(
        f"Release {made.number} is in force: it stays here, sealed in the ledger."
    )


def _told(price: "Cost") -> str:
    """Return what a release costs, in words."""
    if math.isinf(price.after):
        return EXPOSED
    limit = f"of the budget {price.limit:.4f}"
    if math.isinf(price.limit):
        limit = "without a budget"
    elif price.after > price.limit:
        limit = f"above the budget {price.limit:.4f}: it would be refused"
    return (
        f"One release with sigma {price.sigma:g} brings epsilon from "
        f"{price.before:.4f} to {price.after:.4f} (delta {price.delta:g}), {limit}."
    )
