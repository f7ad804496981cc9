"""``tacit site data``: what a site would train on."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.sources.check import Checked

app = typer.Typer(no_args_is_help=True, help="Look at what a site would train on.")
Folder = Annotated[Path, typer.Argument(help="The site's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def data() -> None:
    """Look at what a site would train on."""


@app.command()
def check(
    folder: Folder = Path(),
    *,
    full: Annotated[
        bool,
        typer.Option("--full", help="Read a database anew from its first event."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Read and check the data of the site in FOLDER; nothing is trained or sent.

    The counts are exact, so they are for this screen only. Items and catalogue (a
    digest of the items) are public: a plan that shares popularity names them.

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
    counts = (*people, "events", "likes", "likes_trained")
    names = ("items", "catalogue", *counts, "oldest", "newest")
    return shown | {name.replace("_", " "): getattr(checked, name) for name in names}
