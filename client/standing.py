"""Where a site stands: taking part, paused or gone, and how its node is.

    paused       while it is there: pausing, until the time in it, or without an end
    left         while it is there: the site has left
    node.json    what the process under ``tacit site join`` last said of itself

A site that is paused or has left refuses every round before it reads any data. A
marker that cannot be understood counts as one without an end.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

import psutil

from shared.config import read
from shared.durable import replace_file, sync_folder
from shared.errors import ConfigError, PolicyRefused
from shared.programs import is_alive

PAUSED, LEFT, NODE = "paused", "left", "node.json"
State = Literal["starting", "connecting", "online", "paused", "stopped", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a site's node last said of itself.

    Attributes:
        state: What it was doing; ``stopped`` if its process is gone.
        since: From when on, ISO 8601; empty if it was never started.
        pid: Its process.
        born: When that process began, in epoch seconds: a number may be used again.
        detail: A few words; never of a user.
        restarts: How often it has started a program anew.
    """

    state: str
    since: str
    pid: int
    born: float
    detail: str
    restarts: int

    def faults(self) -> list[str]:
        """Return one sentence if the state is none."""
        known = get_args(State)
        return [] if self.state in known else [f"state is none of {', '.join(known)}"]


NEVER = Standing(
    state="stopped", since="", pid=0, born=0.0, detail="was never started", restarts=0
)


def pause(folder: Path, until: datetime | None = None) -> None:
    """Let the site refuse rounds until then, or until it resumes.

    Raises:
        ConfigError: If the time names no offset.
    """
    if until is not None and until.tzinfo is None:
        raise ConfigError(f"until={until} names no offset from UTC")
    replace_file(folder / PAUSED, until.isoformat().encode() if until else b"")


def leave(folder: Path) -> None:
    """Let the site refuse every round from now on."""
    replace_file(folder / LEFT, b"")


def resume(folder: Path) -> None:
    """Let the site take part again, whether it was paused or had left."""
    for marker in (PAUSED, LEFT):
        (folder / marker).unlink(missing_ok=True)
    sync_folder(folder)


def is_paused(folder: Path, now: datetime | None = None) -> bool:
    """Return whether the site pauses now, or then."""
    if not (folder / PAUSED).exists():
        return False
    until = paused_until(folder)
    return until is None or (now or datetime.now(UTC)) < until


def paused_until(folder: Path) -> datetime | None:
    """Return when the pause ends, or None where it has no end that is understood."""
    with suppress(OSError, ValueError):
        until = datetime.fromisoformat((folder / PAUSED).read_text("utf-8").strip())
        return until if until.tzinfo else None
    return None


def has_left(folder: Path) -> bool:
    """Return whether the site has left."""
    return (folder / LEFT).exists()


def require_taking_part(folder: Path, number: int) -> None:
    """Return if the site takes part in rounds at present.

    Raises:
        PolicyRefused: If it pauses or has left.
    """
    if has_left(folder):
        raise PolicyRefused(f"round {number} refused: this site has left")
    if is_paused(folder):
        raise PolicyRefused(f"round {number} refused: this site is paused")


def note(
    folder: Path, state: State, detail: str = "", *, restarted: bool = False
) -> Standing:
    """Write what this process does now, whole or not at all.

    Args:
        folder: The site's.
        state: What it does. The time is that of the first such note in a row.
        detail: A few words; never of a user.
        restarted: Whether it has just started a program anew.
    """
    me, before = psutil.Process(), _noted(folder)
    same = (before.pid, before.born) == (me.pid, me.create_time())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = Standing(
        state=state,
        since=before.since if same and before.state == state else now,
        pid=me.pid,
        born=me.create_time(),
        detail=detail,
        restarts=(before.restarts if same else 0) + restarted,
    )
    replace_file(folder / NODE, json.dumps(asdict(made)).encode())
    return made


def standing(folder: Path) -> Standing:
    """Return how the site's node is, as its process last said if that lives."""
    said = _noted(folder)
    if said.state in {"stopped", "refused"} or is_alive(said.pid, said.born):
        return said
    return Standing(
        **asdict(said) | {"state": "stopped", "detail": f"died while {said.state}"}
    )


def _noted(folder: Path) -> Standing:
    """Return what was noted last; a note that is not one says nothing."""
    with suppress(FileNotFoundError, ValueError, AttributeError, ConfigError):
        return read(Standing, json.loads((folder / NODE).read_text("utf-8")), NODE)
    return NEVER
