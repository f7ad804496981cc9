"""``tacit site key``: who may ask what the site serves."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import ConfigError

if TYPE_CHECKING:
    from client.serving.keys import Role

app = typer.Typer(no_args_is_help=True, help="Say who may ask what the site serves.")
Folder = Annotated[Path, typer.Argument(help="The site's folder.")]
Name = Annotated[str, typer.Argument(help="Of whoever uses the key.")]


@app.callback()
def key() -> None:
    """Say who may ask what the site serves."""


@app.command()
def add(
    folder: Folder,
    name: Name,
    *,
    role: Annotated[
        list[str],
        typer.Option(help="read, write (events, edits) or admin; may be repeated."),
    ],
) -> None:
    """Make a key called NAME for the site in FOLDER and print it: it is shown once.

    The site keeps its hash alone. A tacit site serve that runs knows it at once.
    """
    from client.serving.keys import ROLES, make  # noqa: PLC0415

    _require_site(folder)
    roles: list[Role] = [known for known in ROLES if known in role]
    if set(role) - set(roles):
        raise ConfigError(f"a --role is none of {', '.join(ROLES)}")
    typer.echo(make(folder, name, roles))
    typer.echo(
        "Send it as: Authorization: Bearer KEY. It cannot be shown again.", err=True
    )


@app.command("list")
def list_keys(
    folder: Folder = Path(),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the keys of the site in FOLDER by name; no key can be shown again."""
    from client.serving.keys import listed  # noqa: PLC0415

    _require_site(folder)
    rows = [
        {"name": one.name, "roles": list(one.roles), "created": one.created}
        for one in listed(folder)
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for one in rows:
        typer.echo(f"{one['name']:<24}  {one['created']}  {', '.join(one['roles'])}")
    if not rows:
        typer.echo(f"No keys yet: tacit site key add {folder} NAME --role read")


@app.command()
def revoke(folder: Folder, name: Name) -> None:
    """Take the key called NAME away from the site in FOLDER, at once and for ever."""
    from client.serving.keys import revoke as take_away  # noqa: PLC0415

    _require_site(folder)
    take_away(folder, name)
    typer.echo(f"{name} is revoked; requests with it are refused from now on.")


def _require_site(folder: Path) -> None:
    if not (folder / "site.toml").is_file():
        raise ConfigError(f"{folder} is no site: it has no site.toml")
