"""``tacit site approve``: which code a site lets run, decided by a person."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import CodeRefused, ConfigError

if TYPE_CHECKING:
    from client.site import Site

Bundle = Annotated[Path | None, typer.Argument(help="The app bundle, a file.")]
Folder = Annotated[Path, typer.Argument(help="The site's folder.")]


def approve(  # noqa: PLR0913  # one for each option
    bundle: Bundle = None,
    folder: Folder = Path(),
    *,
    source: Annotated[
        Path | None,
        typer.Option(help="Checkout that was reviewed; default: what is installed."),
    ] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show each changed line.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    listed: Annotated[
        bool, typer.Option("--list", help="List what is approved, approve nothing.")
    ] = False,
    revoked: Annotated[
        str | None,
        typer.Option("--revoke", metavar="DIGEST", help="Take an approval back."),
    ] = None,
) -> None:
    """Approve the app BUNDLE that a server wants the site in FOLDER to run.

    The bundle is built again from reviewed source: one that differs by a byte is
    refused. What changed since the bundle approved last is shown first.

    Without BUNDLE (FOLDER may then stand alone) the source itself is approved, if it
    builds the bundle of the site's invitation.
    """
    from client.approval import revoke  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415

    alone = bundle is not None and bundle.is_dir() and folder == Path()
    given = None if alone else bundle
    site = open_site(bundle if alone and bundle else folder)
    if listed:
        _list(site)
    elif revoked is not None:
        revoke(site, revoked)
        typer.echo(
            f"No longer approved: {revoked}; end a run of it with tacit site pause"
        )
    else:
        content = _invited(site, source) if given is None else _read(given)
        _decide(site, content, source, diff=diff, yes=yes)


def _decide(
    site: "Site", content: bytes, source: Path | None, *, diff: bool, yes: bool
) -> None:
    """Check, show, ask, sign."""
    from client.approval import approve as sign  # noqa: PLC0415
    from client.approval import approved, require_built  # noqa: PLC0415
    from shared.bundle import bundle_digest, bundle_versions  # noqa: PLC0415

    require_built(content, source)
    digest = bundle_digest(content)
    typer.echo(f"bundle {digest}, for {bundle_versions(content)}")
    typer.echo(f"It is byte for byte what {source or 'the installed source'} builds.")
    if any(one.bundle == digest for one in approved(site)):
        typer.echo("It is approved already.")
        return
    _show(site, content, diff=diff)
    if not yes:
        typer.confirm(f"May it run at {site.settings.name}?", abort=True)
    made = sign(site, content, source)
    typer.echo(
        "Approved. To let policy.toml pin what it runs here, write:\n"
        f'  code = "{made.code}"'
    )


def _show(site: "Site", content: bytes, *, diff: bool) -> None:
    """Show what differs from the bundle approved last, or how much there is to read."""
    from client.approval import approved, changes, kept  # noqa: PLC0415
    from shared.bundle import bundle_files  # noqa: PLC0415

    last = next(iter(approved(site)[::-1]), None)
    old = kept(site, last) if last else None
    if last is None or old is None:
        files = [t for name, t in bundle_files(content).items() if name.endswith(".py")]
        lines = sum(text.count(b"\n") for text in files)
        none = "the one approved last is gone" if last else "none was approved before"
        typer.echo(f"There is nothing to compare it with: {none}.")
        typer.echo(f"It holds {len(files)} files of Python, {lines} lines.")
        return
    found = changes(old, content)
    typer.echo(f"Since {last.bundle}, approved {last.time}:")
    for change in found:
        typer.echo(f"  +{change.added:<5} -{change.removed:<5} {change.path}")
    typer.echo(f"  {len(found)} files changed")
    if diff:
        typer.echo("\n".join(change.diff for change in found))


def _invited(site: "Site", source: Path | None) -> bytes:
    """Return what the source builds, if it is what the site was invited to run."""
    from shared.bundle import (  # noqa: PLC0415
        INSTALLED,
        build_bundle,
        bundle_digest,
        bundle_versions,
        installed_versions,
        source_packages,
    )
    from shared.invitation import invitation_from  # noqa: PLC0415

    invitation = invitation_from(
        _read(site.folder / "join.toml").decode("utf-8", "replace")
    )
    root = source or INSTALLED
    content = build_bundle(source_packages(root))
    if bundle_digest(content) != invitation.bundle:
        raise CodeRefused(
            f"the invitation asks for bundle {invitation.bundle} (tacit "
            f"{invitation.tacit}, flwr {invitation.flwr}), but {root} builds "
            f"{bundle_digest(content)} ({bundle_versions(content)}; here runs "
            f"{installed_versions()}). Install that release, give a checkout of it as "
            "--source, or ask the operator for the bundle's file and give it as BUNDLE "
            "to see which files differ"
        )
    return content


def _list(site: "Site") -> None:
    from client.approval import approved, waiting  # noqa: PLC0415

    found = approved(site)
    for one in found:
        typer.echo(f"{one.time}  {one.bundle}")
    typer.echo(f"{len(found)} bundles may run at {site.settings.name}")
    if refusal := waiting(site.folder):
        typer.echo(f"Refused {refusal.time}, not approved since: {refusal.digest}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
