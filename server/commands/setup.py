"""``tacit server``: the folder, and who is invited, admitted and expelled."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import ConfigError, ServerUnreachable

if TYPE_CHECKING:
    from server.operator import Operator

Folder = Annotated[Path, typer.Argument(help="The operator's folder.")]
HERE = Path()


def init(  # noqa: PLR0913  # each is an option of the command
    folder: Folder = HERE,
    *,
    address: Annotated[
        list[str],
        typer.Option(
            help="DNS name or IP address of this server; repeat it for more. Sites are "
            "told the first."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the federation.")] = "tacit",
    public: Annotated[
        str, typer.Option(help="Where the proxy listens for sites.")
    ] = "0.0.0.0:9443",
    port: Annotated[
        int, typer.Option(help="Where SuperLink listens, on loopback.")
    ] = 8000,
    page_port: Annotated[
        int, typer.Option(help="Where the live page is served, on loopback.")
    ] = 8080,
    base: Annotated[
        str, typer.Option(help="Encoder: minilm, tiny, a folder or a hub id.")
    ] = "minilm",
) -> None:
    """Make an operator's folder in FOLDER, which must be empty.

    It gets keys, certificates, the app bundle, commented settings, and the texts with
    which nginx, systemd or compose run the server.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from server.operator import ServerSettings  # noqa: PLC0415
    from server.setup import init as make  # noqa: PLC0415
    from server.setup import kept_bundle  # noqa: PLC0415

    settings = ServerSettings(
        name=name,
        addresses=tuple(address),
        public=public,
        port=port,
        page_port=page_port,
        base=base,
    )
    operator = make(folder, settings, datetime.now(UTC))
    typer.echo(f"Made {operator.folder}, readable by you alone")
    typer.echo(f"Sites will reach {settings.address}; bundle {kept_bundle(operator)}")
    _tell_fingerprint(operator)
    typer.echo("Back up operator.key and tls/ca.key: sites believe these two.")
    typer.echo(f"Next: look over {operator.folder / 'server.toml'}, then")
    typer.echo("  tacit server start, tacit server invite NAME")


def renew(folder: Folder = HERE) -> None:
    """Make the server's certificate in FOLDER anew, from the same authority.

    Also writes nginx.conf, the systemd unit and the compose file anew, as server.toml
    says. Sites notice nothing.
    """
    from datetime import UTC, datetime  # noqa: PLC0415

    from server.certificates import days_left  # noqa: PLC0415
    from server.operator import open_operator  # noqa: PLC0415
    from server.setup import renew as make_anew  # noqa: PLC0415

    operator, now = open_operator(folder), datetime.now(UTC)
    make_anew(operator, now)
    for name in ("server.crt", "ca.crt"):
        left = days_left(operator.tls / name, now)
        typer.echo(f"{name:<10}  {left:.0f} days left")
    typer.echo("To use it: tacit server stop, tacit server start")


def upgrade(folder: Folder = HERE) -> None:
    """Build the app bundle in FOLDER anew from the installed source."""
    from server.operator import open_operator  # noqa: PLC0415
    from server.setup import keep_bundle, kept_bundle  # noqa: PLC0415

    operator = open_operator(folder)
    old = kept_bundle(operator) if operator.bundle.exists() else "none"
    new = keep_bundle(operator)
    if new == old:
        typer.echo(f"The bundle is the same as before: {new}")
        return
    typer.echo(f"Old bundle: {old}\nNew bundle: {new}")
    typer.echo(
        f"Send {operator.bundle} to every site: it runs nothing of this before it has "
        "approved it (tacit site approve)"
    )


def invite(
    name: Annotated[str, typer.Argument(help="Name of the site.")],
    folder: Folder = HERE,
    *,
    out: Annotated[
        Path | None, typer.Option(help="File to write, instead of one in FOLDER.")
    ] = None,
) -> None:
    """Write a join file for the site NAME, signed by the operator of FOLDER."""
    from server.operator import open_operator  # noqa: PLC0415
    from server.sites import invite as invitation  # noqa: PLC0415
    from shared.durable import replace_file  # noqa: PLC0415

    operator = open_operator(folder)
    text = invitation(operator, name)
    path = operator.invitations / f"{name}.toml" if out is None else out
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    typer.echo(f"Send {path} to {name}; it holds no secret")
    _tell_fingerprint(operator)


def admit(
    site_pub: Annotated[Path, typer.Argument(help="The site's site.pub.")],
    folder: Folder = HERE,
) -> None:
    """Admit the site whose identity is in the file SITE_PUB to the server of FOLDER."""
    from server.operator import open_operator  # noqa: PLC0415
    from server.sites import admit as take  # noqa: PLC0415
    from shared.invitation import fingerprint  # noqa: PLC0415

    operator = open_operator(folder)
    try:
        text = site_pub.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{site_pub} cannot be read ({type(error).__name__}); ask the site for its "
            "site.pub"
        ) from None
    identity = take(operator, text)
    typer.echo(f"Admitted {identity.site}; compare its fingerprint by telephone:")
    typer.echo(f"  {fingerprint(identity.ledger)}")
    try:
        from server.flower import register_admitted  # noqa: PLC0415

        register_admitted(operator)
    except ServerUnreachable:
        typer.echo("No server answers: known from the next tacit server start on")


def expel(
    name: Annotated[str, typer.Argument(help="Name of the site.")],
    folder: Folder = HERE,
) -> None:
    """Let the site NAME take part no more in the federation of FOLDER.

    What it contributed stays in the versions that were made with it.
    """
    from server.operator import open_operator  # noqa: PLC0415
    from server.sites import expel as forget  # noqa: PLC0415

    operator = open_operator(folder)
    forget(operator, name)
    typer.echo(f"Expelled {name}")
    try:
        from server.flower import expel_node  # noqa: PLC0415

        expel_node(operator, name)
    except ServerUnreachable:
        typer.echo(
            "No server runs: its node is refused from the next tacit server start"
        )


def sites(
    folder: Folder = HERE,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the sites that are admitted to the federation of FOLDER."""
    from server.operator import open_operator  # noqa: PLC0415

    rows = _rows(open_operator(folder))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    typer.echo(f"{'site':<20} {'fingerprint':<39}  {'admitted (UTC)':<16}  node")
    for row in rows:
        typer.echo(
            f"{row['name']:<20} {row['fingerprint']}  {row['admitted'][:16]:<16}  "
            f"{row['status']}"
        )
    typer.echo(f"{len(rows)} sites")


def _rows(operator: "Operator") -> list[dict[str, Any]]:
    """Return one row for each admitted site; ``-`` where the server does not answer."""
    from server.flower import nodes  # noqa: PLC0415
    from server.sites import admitted, admitted_at  # noqa: PLC0415
    from shared.invitation import fingerprint  # noqa: PLC0415

    try:
        status = {node.name: node.status for node in nodes(operator)}
    except ServerUnreachable:
        status = {}
    return [
        {
            "name": identity.site,
            "fingerprint": fingerprint(identity.ledger),
            "admitted": admitted_at(operator, identity.site).isoformat(),
            "status": status.get(identity.site, "-"),
        }
        for identity in admitted(operator)
    ]


def _tell_fingerprint(operator: "Operator") -> None:
    from shared.invitation import fingerprint  # noqa: PLC0415

    typer.echo("Your fingerprint, for sites to compare by telephone:")
    typer.echo(f"  {fingerprint(operator.public_key())}")
