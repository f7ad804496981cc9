"""``tacit server releases``: what was published, what is in force, and going back."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shared.release import Release

app = typer.Typer(no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="RUN/ROUND, such as spring/3.")]
Folder = Annotated[Path, typer.Argument(help="The operator's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
HERE = Path()


@app.callback()
def releases() -> None:
    """List, show, verify, export and put in force the releases of all runs."""


@app.command(name="list")
def list_all(folder: Folder = HERE, *, as_json: Json = False) -> None:
    """List the releases in FOLDER, oldest first; an asterisk marks the one in force."""
    from server.operator import open_operator  # noqa: PLC0415
    from server.releases import pointers, unreadable  # noqa: PLC0415
    from server.releases import releases as every  # noqa: PLC0415

    signed = pointers(open_operator(folder))
    current = signed[-1].digest if signed else ""
    found = every(folder)
    faults = unreadable(folder)
    if as_json:
        rows = [_row(release, current) for release in found]
        typer.echo(json.dumps({"releases": rows, "unreadable": faults}, indent=2))
        return
    for row in (_row(release, current) for release in found):
        mark = "*" if row["in_force"] else " "
        typer.echo(
            f"{mark} {row['name']:<24} {row['time']}  {row['sites']:>3} sites  "
            f"{row['epsilon']}"
        )
    for fault in faults.values():
        typer.echo(f"! {fault}")
    typer.echo(f"{len(found)} releases")


@app.command()
def show(name: Name, folder: Folder = HERE, *, as_json: Json = False) -> None:
    """Show what the manifest of release NAME in FOLDER says, after verifying it."""
    from server.releases import find  # noqa: PLC0415

    release = find(folder, name)
    said = release.manifest
    if as_json:
        typer.echo(json.dumps(dict(said), indent=2, sort_keys=True))
        return
    typer.echo(f"Release {release.name}, published {said['time']}")
    rows = {
        "encoder": said["base"],
        "adapter": said["adapter"],
        "parent": said["parent"],
        "modules, rank": f"{release.spec.modules}, {release.spec.rank}",
        "rule": said["rule"],
        "sites": ", ".join(sorted(said["sites"])),
        "made with": ", ".join(f"{k} {v}" for k, v in said["libraries"].items()),
        "manifest": release.digest,
        "signed by": said["key"],
    }
    for key, value in rows.items():
        typer.echo(f"{key:>14}  {value}")
    typer.echo(f"Unit of privacy: {said['privacy']['unit']}")
    typer.echo(said["privacy"]["statement"])


@app.command()
def verify(name: Name, folder: Folder = HERE) -> None:
    """Check every byte of release NAME in FOLDER against the operator's key."""
    from server.releases import find  # noqa: PLC0415

    release = find(folder, name)
    files = len(release.manifest["files"])
    typer.echo(f"Release {release.name} holds: {files} files and the signature agree")


@app.command()
def export(
    name: Name,
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    folder: Folder = HERE,
) -> None:
    """Copy release NAME of FOLDER to OUT, ready for PEFT and sentence-transformers."""
    from server.export import export as write  # noqa: PLC0415

    release = write(folder, name, out)
    typer.echo(f"Release {release.name} is in {out}; README.md says how to load it")


@app.command()
def rollback(name: Name, folder: Folder = HERE) -> None:
    """Put release NAME of FOLDER in force, though it may be an older one.

    Sites are told by tacit server releases send, or at the end of the next run.
    """
    from server.releases import rollback as put_in_force  # noqa: PLC0415

    done = put_in_force(folder, name)
    typer.echo(
        f"Release {done.release.name} is in force since {done.pointer.time}, by "
        f"pointer {done.pointer.number}; tell the sites: tacit server releases send"
    )


@app.command()
def send(folder: Folder = HERE) -> None:
    """Send the release in force to every site of FOLDER that is online."""
    from server.commands.run import describe  # noqa: PLC0415
    from server.operator import open_operator  # noqa: PLC0415
    from server.runs import follow, send_release  # noqa: PLC0415

    operator = open_operator(folder)
    for event in follow(operator, send_release(operator).name):
        if event["event"] == "released":
            typer.echo(describe(event))


def _row(release: "Release", current: str) -> dict[str, str | int | bool]:
    """Return a release as one line of the list."""
    said = release.manifest
    spent = said["privacy"]["epsilon"]
    return {
        "name": release.name,
        "time": said["time"],
        "sites": len(said["sites"]),
        "epsilon": "NOT PRIVATE" if spent is None else f"epsilon >= {spent:.4f}",
        "in_force": release.digest == current,
    }
