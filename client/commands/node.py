"""``tacit site join``: the site takes part until it is asked to end, or leaves."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(help="The site's folder.")]


def rotate(folder: Folder = Path()) -> None:
    """Make a new node key for the site in FOLDER; its ledger goes on.

    For a key that may have been copied, and for a site that comes back after it was
    expelled: the server never takes an expelled key again.
    """
    from client.setup import rotate as make_anew  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415

    site = open_site(folder)
    make_anew(site)
    name = site.settings.name
    typer.echo(
        f"{name} has a new node key. Send {folder / 'site.pub'} to the operator, who "
        f"runs tacit server expel {name}, then tacit server admit. A tacit site join "
        "that runs comes back by itself after that"
    )


def join(folder: Folder = Path()) -> None:
    """Keep the site in FOLDER in the federation until this command is ended.

    Connects, and connects again whenever the server or the network was away. Every
    round is held against policy and ledger here; only an approved bundle runs.
    """
    from threading import Event  # noqa: PLC0415

    from client.approval import approved  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415
    from client.standing import has_left  # noqa: PLC0415
    from client.supernode import stay  # noqa: PLC0415
    from shared.alone import alone  # noqa: PLC0415
    from shared.errors import CodeRefused, ConfigError  # noqa: PLC0415
    from shared.invitation import invitation_from  # noqa: PLC0415
    from shared.logs import speaker  # noqa: PLC0415
    from shared.programs import on_signal  # noqa: PLC0415

    site = open_site(folder)
    if has_left(folder):
        raise ConfigError(f"{folder} has left; tacit site resume brings it back")
    if not approved(site):
        raise CodeRefused(f"no bundle may run here yet; tacit site approve {folder}")
    invitation = invitation_from((folder / "join.toml").read_text("utf-8"))
    stop_asked = Event()
    on_signal(stop_asked)
    with alone(folder / "node.lock", f"end that one, or tacit site pause {folder}"):
        typer.echo(
            f"Site {site.settings.name} joins {invitation.address}; Ctrl-C ends it."
        )
        stay(site, invitation, stop_asked, speaker("node", site.settings.name))
    typer.echo("Ended.")
