"""From a database to a new snapshot: all of it good, or the last good one stays.

Rows at or above the place that was read so far, less an overlap, take the place of those
that the snapshot holds from there on: nothing is lost or doubled, and what changed or
went within the overlap is noticed. What changed or went below it is not, before
everything is read anew.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from sqlalchemy import Connection

from client.data import read_tables
from client.mapping import DataMapping, read_mapping
from client.sources import cells, cursor, snapshot
from client.sources.cursor import COLUMN, Position
from client.sources.database import Since, batches, columns_of, reading
from client.sources.settings import Database
from client.sources.snapshot import State
from client.tables import Faults
from shared.errors import DataError, InputError

FIRST = "first"  # reader of a snapshot that no round has used yet
log = logging.getLogger("tacit.site")


@dataclass(frozen=True, slots=True, repr=False)
class Refreshed:
    """What reading a source came to; counts are for the screen of the site alone.

    Args:
        state: Of the snapshot that is now in use.
        changed: Whether it differs from the one before.
        whole: Whether everything was read.
        rows: How many events were read.
    """

    state: State
    changed: bool
    whole: bool
    rows: int


@dataclass(frozen=True, slots=True, repr=False)
class Tables:
    """Events and items as the snapshot holds them, or would."""

    events: pl.DataFrame
    items: pl.DataFrame

    def equals(self, other: "Tables") -> bool:
        """Return whether both tables are the same, row for row."""
        return self.events.equals(other.events) and self.items.equals(other.items)


def for_round(folder: Path, reader: str) -> None:
    """Read a site's database once for a round; a folder of files is left alone.

    Guarantee: whatever fails, what a round trains on is the last snapshot that was good
    as a whole.

    Args:
        folder: Of ``data.toml``.
        reader: Names the round. Asked again for the same one, nothing is read.

    Raises:
        InputError: If the source fails before there was any snapshot.
    """
    if read_mapping(folder).source is None:
        return
    with snapshot.alone(folder):
        state = snapshot.current(folder)
        if state and state.reader in {FIRST, reader}:
            snapshot.use(folder, replace(state, reader=reader))
            return
    try:
        refresh(folder, reader=reader)
    except InputError as error:
        if state is None:
            raise
        log.warning("round %s goes on with what was read before: %s", reader, error)


def first_read(folder: Path) -> None:
    """Read a site's database if that was never done; a folder of files is left alone.

    Raises:
        InputError: If the source fails.
    """
    if read_mapping(folder).source and snapshot.current(folder) is None:
        refresh(folder, reader=FIRST)


def refresh(
    folder: Path, *, reader: str = "", full: bool = False, now: datetime | None = None
) -> Refreshed:
    """Read a site's database on from where it was read, and check all that is known.

    Args:
        folder: Of ``data.toml``.
        reader: For whom; kept in the state.
        full: Read everything anew and forget what the database no longer gives.
        now: When reading begins; by default by the clock.

    Raises:
        ConfigError: If ``data.toml`` or the credentials are not fit.
        DataError: If the database fails, or with every class of bad row at once. In
            each case the last good snapshot stays in use, and the message says so.
    """
    mapped = read_mapping(folder)
    if mapped.source is None:
        raise DataError(f"{folder} names no database; files are read where they lie")
    began = now or datetime.now(UTC)
    with snapshot.alone(folder):
        state = snapshot.current(folder)
        try:
            return _refresh(folder, mapped, mapped.source, state, reader, began, full)
        except InputError as error:
            if state is None:
                raise
            stays = f"the snapshot read {state.read} stays in use"
            raise type(error)(f"{error}\n  {stays}") from None


def _refresh(
    folder: Path,
    mapped: DataMapping,
    source: Database,
    state: State | None,
    reader: str,
    began: datetime,
    full: bool,
) -> Refreshed:
    """Read, join with what is known, check, and put into use."""
    digest = _digest(mapped, source)
    old = _old(folder, state) if state else None
    known = state if state and state.source == digest and not full else None
    position = known.position if known else None
    fresh, kind = _read(folder, mapped, source, position)
    new = _joined(old, fresh, mapped, source, position)
    faults = Faults(folder)
