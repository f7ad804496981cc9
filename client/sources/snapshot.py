"""The last good copy of a database's rows, beside ``data.toml``: all or nothing.

    snapshots/state.json   which snapshot is in use, and how far its source was read
    snapshots/000007/      interactions.parquet, items.parquet; never changed

Whatever happens while a new one is written, ``state.json`` names a whole one. The
folder is its owner's alone: it holds raw behaviour.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from filelock import FileLock
from polars.exceptions import PolarsError

from client.sources.cursor import Position
from shared.durable import replace_file, sync_folder
from shared.errors import DataError

FOLDER = "snapshots"
EVENTS, ITEMS = "interactions.parquet", "items.parquet"


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Tables:
    """Events and items as a snapshot holds them: raw behaviour, never printed."""

    events: pl.DataFrame
    items: pl.DataFrame

    def equals(self, other: "Tables") -> bool:
        """Return whether both tables are the same, row for row."""
        return self.events.equals(other.events) and self.items.equals(other.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Which snapshot is in use, and where it comes from.

    Args:
        number: Of the snapshot, from 1.
        source: Digest of the ``data.toml`` that it was read by.
        read: When the source was last read, ISO 8601 in UTC.
        reader: For whom, e.g. ``run/3``: one round reads once.
        position: How far; None where everything is always read.
    """

    number: int
    source: str
    read: str
    reader: str
    position: Position | None

    def with_reader(self, reader: str) -> "State":
        """Return the same state, read for somebody else."""
        return State(
            number=self.number,
            source=self.source,
            read=self.read,
            reader=reader,
            position=self.position,
        )

    def rewritten(self, position: Position | None) -> "State":
        """Return the state of the same reading, written anew with fewer rows."""
        return State(
            number=self.number + 1,
            source=self.source,
            read=self.read,
            reader=self.reader,
            position=position,
        )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from changing the snapshots of a data folder."""
    inside = folder / FOLDER
    inside.mkdir(mode=0o700, exist_ok=True)
    inside.chmod(0o700)
    with FileLock(inside / "lock"):
        yield


def current(folder: Path) -> State | None:
    """Return the state of the snapshot in use, or None before the first.

    Raises:
        DataError: If ``state.json`` cannot be read.
    """
    path = folder / FOLDER / "state.json"
    try:
        held = json.loads(path.read_text("utf-8"))
        at = held.pop("position")
        return State(**held, position=Position(**at) if at else None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        raise DataError(
            f"{path} cannot be read; delete the folder {FOLDER} to read the source anew"
        ) from None


def tables(folder: Path, number: int) -> Path:
    """Return the folder of a snapshot's two tables."""
    return folder / FOLDER / f"{number:06}"


def read(folder: Path, number: int) -> Tables:
    """Return the tables of a snapshot.

    Raises:
        DataError: If they are not there or were changed.
    """
    inside = tables(folder, number)
    try:
        return Tables(
            events=pl.read_parquet(inside / EVENTS),
            items=pl.read_parquet(inside / ITEMS),
        )
    except (OSError, PolarsError):
        raise DataError(
            f"{inside} cannot be read; delete the folder {FOLDER} to read the source "
            "anew"
        ) from None


def write(folder: Path, number: int, new: Tables) -> None:
    """Write a snapshot durably; it is not in use before ``use`` says so."""
    inside = tables(folder, number)
    shutil.rmtree(inside, ignore_errors=True)  # what was refused, or died
    inside.mkdir(mode=0o700)
    for name, frame in ((EVENTS, new.events), (ITEMS, new.items)):
        with (inside / name).open("wb") as file:
            frame.write_parquet(file)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(inside)
    sync_folder(inside.parent)


def use(folder: Path, state: State) -> None:
    """Put a written snapshot into use durably, and delete all others."""
    inside = folder / FOLDER
    replace_file(inside / "state.json", json.dumps(asdict(state)).encode())
    for other in inside.iterdir():
        if other.is_dir() and other != tables(folder, state.number):
            shutil.rmtree(other)


def clear(folder: Path) -> None:
    """Delete every snapshot; the source is then read anew, from its first event."""
    inside = folder / FOLDER
    (inside / "state.json").unlink(missing_ok=True)
    for tables_of_one in inside.iterdir():
        if tables_of_one.is_dir():
            shutil.rmtree(tables_of_one)


def discard(folder: Path, number: int) -> None:
    """Delete the tables of a snapshot that was refused: they are raw behaviour."""
    shutil.rmtree(tables(folder, number))
