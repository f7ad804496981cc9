"""From a database to a new snapshot: all of it good, or the last good one stays.

Events from an overlap before the newest place on are read again, and replace those of
the snapshot: nothing is lost or doubled, and what changed or went within the overlap is
noticed. What changed or went below it is not, before everything is read anew.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from client.data import read_tables
from client.forgotten import Forgotten, forgotten_at
from client.mapping import DataMapping, read_mapping
from client.sources import merge, snapshot
from client.sources.cursor import COLUMN, Kind, Position, position, require_one_way
from client.sources.reading import read
from client.sources.snapshot import State, Tables
from shared.errors import DataError, InputError

FIRST = "first"  # reader of a snapshot that no round has used yet
log = logging.getLogger("tacit.site")


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What reading a source came to; for the site's own screen.

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


def for_round(folder: Path, reader: str, site: Path | None = None) -> None:
    """Read a site's database once for a round; a folder of files is left alone.

    Guarantee: whatever fails, what a round trains on is the last snapshot that was good
    as a whole.

    Args:
        folder: Of ``data.toml``.
        reader: Names the round. Asked again for the same one, nothing is read.
        site: Folder of the site that the data are of; None: of no site.

    Raises:
        InputError: If the source fails before there was any snapshot.
    """
    if read_mapping(folder).source is None:
        return
    with snapshot.alone(folder):
        state = snapshot.current(folder)
        if state and state.reader in {FIRST, reader}:
            snapshot.use(folder, state.with_reader(reader))
            return
    try:
        refresh(folder, site, reader=reader)
    except InputError as error:
        if state is None:
            raise
        log.warning("round %s goes on with what was read before: %s", reader, error)


def first_read(folder: Path, site: Path | None = None) -> None:
    """Read a site's database if that was never done; a folder of files is left alone.

    Args:
        folder: Of ``data.toml``.
        site: Folder of the site that the data are of; None: of no site.

    Raises:
        InputError: If the source fails.
    """
    if read_mapping(folder).source and snapshot.current(folder) is None:
        refresh(folder, site, reader=FIRST)


def refresh(
    folder: Path,
    site: Path | None = None,
    *,
    reader: str = "",
    full: bool = False,
    now: datetime | None = None,
) -> Refreshed:
    """Read a site's database on from where it was read, and check all that is known.

    Guarantee: no row of a user whom the site has forgotten is in the new snapshot.

    Args:
        folder: Of ``data.toml``.
        site: Folder of the site that the data are of; None: of no site.
        reader: For whom; kept in the state.
        full: Read everything anew and forget what the database no longer gives.
        now: When reading begins; by default by the clock.

    Raises:
        ConfigError: If ``data.toml`` or the credentials are not fit.
        DataError: If the database fails, or with every class of bad row at once. In
            each case the last good snapshot stays in use, and the message says so.
    """
    mapped = read_mapping(folder)
    began = now or datetime.now(UTC)
    with snapshot.alone(folder):
        state = snapshot.current(folder)
        try:
            hidden = forgotten_at(site)
            return _read_on(folder, mapped, state, began, reader, hidden, full=full)
        except InputError as error:
            if state is None:
                raise
            stays = f"the snapshot read {state.read} stays in use"
            raise type(error)(f"{error}\n  {stays}") from None


def cleanse(folder: Path, site: Path) -> bool:
    """Take the users whom a site has forgotten out of its snapshots, all or nothing.

    Guarantee: afterwards no file of the snapshots holds a row of such a user.

    Args:
        folder: Of ``data.toml``.
        site: The site's folder.

    Returns:
        Whether the snapshot in use held such a row.

    Raises:
        DataError: If it was read by another ``data.toml``, so that its users are not
            known.
    """
    mapped = read_mapping(folder)
    if not (folder / snapshot.FOLDER).is_dir():
        return False
    with snapshot.alone(folder):
        state = snapshot.current(folder)
        if mapped.source is None or state is None:
            snapshot.clear(folder)
            return False
        if state.source != mapped.digest():
            raise DataError(
                f"{folder}: data.toml was changed since its database was read, so the "
                "snapshot cannot be searched: tacit site data check FOLDER"
            )
        old = snapshot.read(folder, state.number)
        events = forgotten_at(site).without(old.events, mapped.interactions.user)
        held = len(events) < len(old.events)
        if held:
            kind = state.position.kind if state.position else None
            began = datetime.fromisoformat(state.read)
            state = state.rewritten(_position(mapped, events, kind, began))
            snapshot.write(folder, state.number, Tables(events=events, items=old.items))
        snapshot.use(folder, state)
        return held


def _read_on(  # noqa: PLR0913 - one reading: what, how far, for whom, without whom
    folder: Path,
    mapped: DataMapping,
    state: State | None,
    began: datetime,
    reader: str,
    forgotten: Forgotten,
    *,
    full: bool,
) -> Refreshed:
    """Read, join with what is known, check, and put into use."""
    digest = mapped.digest()
    on = bool(state and state.source == digest and not full)
    old = snapshot.read(folder, state.number) if state else None
    fresh = read(folder, mapped, state.position if state and on else None)
    events = merge.events(old.events if old else None, fresh.events, fresh.place)
    new = Tables(
        events=forgotten.without(events, mapped.interactions.user),
        items=merge.items(
            old.items if old else None,
            fresh.items,
            mapped.items.item,
            keep_gone=not full,
        ),
    )
    changed = old is None or not new.equals(old)
    number = (state.number if state else 0) + changed
    try:
        if changed:
            snapshot.write(folder, number, new)
            read_tables(snapshot.tables(folder, number), mapped, folder, forgotten)
        place = _position(mapped, new.events, fresh.kind, began)
    except DataError:
        if changed:
            snapshot.discard(folder, number)
        raise
    made = State(
        number=number,
        source=digest,
        read=began.isoformat(timespec="seconds"),
        reader=reader,
        position=place,
    )
    snapshot.use(folder, made)
    whole = fresh.place is None
    return Refreshed(made, changed=changed, whole=whole, rows=len(fresh.events))


def _position(
    mapped: DataMapping, events: pl.DataFrame, kind: Kind | None, began: datetime
) -> Position | None:
    """Return how far the source was read, or None where there is no cursor.

    Raises:
        DataError: If the cursor is not fit.
    """
    source, places = mapped.source, events.get_column(COLUMN, default=None)
    if source is None or kind is None or places is None or places.is_empty():
        return None
    if places.has_nulls():
        raise DataError(
            f"column {source.cursor!r} has no value in {places.null_count()} event(s); "
            "a row without a cursor is never read again: leave it out in the query"
        )
    if kind == "text":
        require_one_way(places, source.cursor)
    clock = source.cursor == mapped.interactions.timestamp
    return position(places, kind, began, clock=clock)
