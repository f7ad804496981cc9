"""``tacit site forget``, ``pause``, ``resume``, ``leave`` and ``status``."""

import json
import math
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import ConfigError

if TYPE_CHECKING:
    from client.forget import Forgetting, Learned
    from client.status import Round, Status

Folder = Annotated[Path, typer.Argument(help="The site's folder.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

HELD = "Forgotten. Rows of the user were there; no round, check or snapshot"
NOT_HELD = """\
NO ROW OF THE USER WAS THERE: is the id written as in the data? It is on the list all
the same: should rows of it come, no round, check or snapshot"""
NOW = """\
{held} of {folder} holds
them from now on.
  the source   {source} is yours and was not changed: its rows of the user are ignored
               from now on; delete them there too.
  the list     {folder}/forgotten holds a keyed hash, not the id. Back it up with
               forgotten.key: without both nothing is read.
  running      A round that is under way may end with the user; the next begins without.
  policy.toml  'users' stays as it is: it is declared in public, and a change would tell
               that somebody came or went.
  the past     {past}"""
LEARNED = """\
What was learned so far, in adapter, head and popularity, stays. All of
               it is differentially private: with or without the user, whatever is seen
               of it is as likely up to a factor of e^{epsilon:.2f} (epsilon
               {epsilon:.4f}, delta {delta:g}: the ledger's, over all rounds). It
               cannot be taken back, and need not be."""
EXPOSED = """\
Something was released without noise, so what was learned may tell of
               the user: NOT PRIVATE."""
NOTHING = "Nothing was learned here yet: the ledger holds no charge."
LEFT = """\
{name} has left: every round is refused from now on, and `tacit site join` ends.
Tell the operator of the server, who removes the site: tacit server expel {name}
What stays: ledger, witness, site.key, policy.toml and site.toml. An auditor may ask for
them, and whoever comes back goes on with them: what was spent stays spent.
To come back: tacit site rotate {folder} (a server never takes an expelled key again),
send site.pub to be admitted anew, then tacit site resume {folder}"""


def forget(
    user: Annotated[str, typer.Argument(help="The user's id, or - to be asked.")],
    folder: Folder = Path(),
    *,
    yes: Yes = False,
) -> None:
    """Forget USER: out of the data, snapshots and all training of the site in FOLDER.

    USER is the id as it stands in the data. With - it is read from a line of standard
    input, and so stays out of the shell's history. There is no way back.

    The partner's own files and database are not changed.
    """
    if not (folder / "site.toml").is_file():
        raise ConfigError("FOLDER is no site: it has no site.toml; USER comes first")
    from client.forget import forget as do_forget  # noqa: PLC0415
    from client.forget import learned  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415

    site = open_site(folder)
    if user == "-":
        user = sys.stdin.readline().rstrip("\r\n")
    if not user.strip():
        raise ConfigError("the user's id is empty; give it as it stands in the data")
    if not yes:
        typer.confirm(f"Forget {user!r} at {site.settings.name} for ever?", abort=True)
    done = do_forget(site, user)
    typer.echo(_told(folder, done, learned(site)))


def pause(
    folder: Folder = Path(),
    *,
    hours: Annotated[
        float | None, typer.Option(help="For so long; default: until it resumes.")
    ] = None,
) -> None:
    """Let the site in FOLDER refuse rounds; nothing is read or spent meanwhile."""
    from client.site import open_site  # noqa: PLC0415
    from client.standing import pause as begin  # noqa: PLC0415

    if hours is not None and not 0 < hours <= 24 * 366:
        raise ConfigError(f"{hours=} is not above 0 and within a year; leave it out")
    site = open_site(folder)
    until = None if hours is None else datetime.now(UTC) + timedelta(hours=hours)
    begin(folder, until)
    end = until.isoformat(timespec="seconds") if until else "it resumes"
    typer.echo(f"{site.settings.name} pauses until {end}: tacit site resume {folder}")


def resume(folder: Folder = Path()) -> None:
    """Let the site in FOLDER take part again after a pause, or after it had left."""
    from client.site import open_site  # noqa: PLC0415
    from client.standing import has_left  # noqa: PLC0415
    from client.standing import resume as end  # noqa: PLC0415

    site, back = open_site(folder), has_left(folder)
    end(folder)
    typer.echo(f"{site.settings.name} refuses rounds no longer.")
    if back:
        typer.echo(
            f"If it was expelled meanwhile: tacit site rotate {folder}, and send "
            "site.pub to be admitted anew; then tacit site join"
        )


def leave(
    folder: Folder = Path(),
    *,
    erase: Annotated[
        bool,
        typer.Option(
            "--erase",
            help="Delete runs, cache, snapshots, approvals, releases and serving.",
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Leave the federation: the site in FOLDER refuses every round from now on.

    With --erase what it no longer needs is deleted; never ledger, witness, key, policy,
    settings or data.
    """
    from client.site import open_site  # noqa: PLC0415
    from client.standing import leave as go  # noqa: PLC0415

    site = open_site(folder)
    go(folder)
    typer.echo(LEFT.format(name=site.settings.name, folder=folder))
    if erase:
        _erase(folder, yes=yes)


def status(
    folder: Folder = Path(),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how the site in FOLDER is: its node, last round and refusal, approval.

    Nothing is asked of the server.
    """
    from client.site import open_site  # noqa: PLC0415
    from client.status import status as look  # noqa: PLC0415

    found = look(open_site(folder))
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    for name, shown in _status_rows(found).items():
        typer.echo(f"{name:>14}  {shown}")


def _told(folder: Path, done: "Forgetting", learned: "Learned | None") -> str:
    """Return what was done and what it means; never the user's id."""
    held = HELD if done.held else NOT_HELD
    past = NOTHING
    if learned is not None:
        past = EXPOSED
        if math.isfinite(learned.epsilon):
            past = LEARNED.format(epsilon=learned.epsilon, delta=learned.delta)
    return NOW.format(folder=folder, held=held, source=done.source, past=past)


def _erase(folder: Path, *, yes: bool) -> None:
    """Delete once the node and any round have ended."""
    from contextlib import nullcontext  # noqa: PLC0415

    from client.erase import erasable, erase  # noqa: PLC0415
    from client.site import open_site  # noqa: PLC0415
    from shared.alone import alone  # noqa: PLC0415

    site = open_site(folder)
    names = ", ".join(str(path) for path in erasable(site))
    if not names:
        typer.echo("Nothing to erase.")
        return
    if not yes:
        typer.confirm(f"Erase {names}?", abort=True)
    quiet = site.open_ledger().alone() if site.ledger.exists() else nullcontext()
    ending = "it has not ended although the site has left: end it, then --erase again"
    with alone(folder / "node.lock", ending, wait_s=60.0), quiet:
        erase(site)
    typer.echo(f"Erased: {names}")


def _status_rows(found: "Status") -> dict[str, str]:
    node = found.node
    ends = f" until {found.paused_until}" if found.paused_until else ""
    since = f" since {node.since}" if node.since else ""
    rows = {
        "site": found.site,
        "fingerprint": found.fingerprint,
        "takes part": "yes" if found.part == "taking part" else found.part + ends,
        "node": f"{node.state}{since}{f', {node.detail}' if node.detail else ''}",
        "restarts": str(node.restarts),
        "last round": _round(found.last_round),
        "last refusal": _round(found.last_refusal),
        "approved": found.approved or "no bundle may run: tacit site approve",
    }
    if found.waiting:
        rows["waits"] = f"{found.waiting} was refused: tacit site approve BUNDLE"
    return rows


def _round(found: "Round | None") -> str:
    if found is None:
        return "none"
    return f"{found.run}/{found.number} at {found.time} {found.reason}".rstrip()
