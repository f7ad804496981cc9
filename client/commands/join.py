"""What a partner types first: ``tacit site init`` and ``tacit site doctor``."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from client.doctor.verdict import Verdict

Folder = Annotated[Path, typer.Argument(help="The site's folder.")]

NEXT = """\
Made {folder}, for its owner alone.

The invitation is signed by the key below. Call the operator of {address}
on a number that you know already, and compare:

    {fingerprint}

Next:
  1. say in {folder}/data/data.toml where your data are, and try it:
     tacit site data check {folder}
  2. read {folder}/policy.toml, which alone decides what this site does
  3. send {folder}/site.pub to the operator; keep the two .key files to yourself. The
     operator will read a fingerprint to you: yours is
     {own}
  4. review the code and approve it: tacit site approve {folder}
  5. tacit site doctor {folder}
  6. tacit site join {folder}, or install {folder}/tacit-site.service"""


def init(
    folder: Folder = Path(),
    *,
    join: Annotated[Path, typer.Option(help="The invitation that the operator sent.")],
    users: Annotated[
        int, typer.Option(help="Number of users to declare, public: a round one.")
    ],
    epsilon: Annotated[
        float, typer.Option(help="Privacy budget over the site's whole life.")
    ] = 8.0,
    delta: Annotated[
        float, typer.Option(help="Chance that epsilon may fail; at most 1/users.")
    ] = 1e-5,
    base: Annotated[
        str, typer.Option(help="Encoder: minilm, a folder or a hub id.")
    ] = "minilm",
) -> None:
    """Make a site in FOLDER from an invitation: keys, settings, policy, service files.

    FOLDER must be new or empty; by default it is the present one.

    Nothing is sent. What goes to the operator is site.pub, and you send it.
    """
    from client.setup import init as make  # noqa: PLC0415
    from shared.invitation import fingerprint  # noqa: PLC0415
    from shared.signing import load_key, public_key  # noqa: PLC0415

    invitation = make(
        folder, _read(join), users=users, epsilon=epsilon, delta=delta, base=base
    )
    typer.echo(
        NEXT.format(
            folder=folder,
            address=invitation.address,
            fingerprint=fingerprint(invitation.operator),
            own=fingerprint(public_key(load_key(folder / "site.key"))),
        )
    )


def doctor(
    folder: Folder = Path(),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at everything that the site in FOLDER needs, and say what to do about it.

    Nothing is changed here or at the server, but a database is read on as before a
    round. Nothing that is printed tells of any user. Exit code 2: there is a fault.
    """
    from client.doctor.examine import examine  # noqa: PLC0415

    verdicts = examine(folder)
    faults = sum(verdict.state == "FAULT" for verdict in verdicts)
    if as_json:
        shown = {"faults": faults, "checks": [asdict(verdict) for verdict in verdicts]}
        typer.echo(json.dumps(shown, indent=2))
    else:
        for verdict in verdicts:
            typer.echo(_line(verdict))
        typer.echo(_summary(faults))
    if faults:
        raise typer.Exit(2)


def _read(path: Path) -> str:
    """Return the text of an invitation."""
    from shared.errors import ConfigError  # noqa: PLC0415

    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"invitation {path} cannot be read ({type(error).__name__}); give the file "
            "that the operator sent"
        ) from None


def _line(verdict: "Verdict") -> str:
    line = f"{verdict.state:<8} {verdict.check:<14} {verdict.found}"
    return f"{line}\n{'':<8} {'':<14} -> {verdict.remedy}" if verdict.remedy else line


def _summary(faults: int) -> str:
    if faults:
        return f"{faults} fault(s): this site cannot join yet"
    return "No fault: tacit site join"
