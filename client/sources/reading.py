"""What a site's two queries give now: no column but those that are named, as text."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from sqlalchemy import Connection

from client.mapping import DataMapping
from client.sources import cells
from client.sources.cursor import Kind, Place, Position
from client.sources.database import Since, batches, columns_of, reading
from client.sources.settings import Database
from client.tables import Faults
from shared.errors import DataError


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Fresh:
    """What was read.

    Args:
        events: Columns as text; with their places, if there is a cursor.
        items: Columns as text or lists of text.
        kind: Of the cursor; None: there is no cursor, or no row that has one.
        place: From where events were read; None: all of them.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    kind: Kind | None
    place: Place | None


def read(folder: Path, mapped: DataMapping, position: Position | None) -> Fresh:
    """Read both tables as they were at one moment.

    Args:
        folder: Of ``data.toml``.
        mapped: What it says.
        position: How far events were read before; None reads all.

    Raises:
        ConfigError: If credentials or the driver are missing.
        DataError: If the database fails, or does not give the columns that are named.
    """
    source = mapped.source
    if source is None:
        raise DataError(f"{folder} names no database; files are read where they lie")
    event_columns = list(dict.fromkeys(mapped.interactions.columns().values()))
    if source.cursor and source.cursor not in event_columns:
        event_columns.append(source.cursor)
    item_columns = list(dict.fromkeys(mapped.items.columns().values()))
    with reading(source, folder) as connection:
        faults = Faults(folder)
        _find(connection, "interactions", source.interactions, event_columns, faults)
        _find(connection, "items", source.items, item_columns, faults)
        faults.raise_if_any()
        given = batches(connection, "items", source.items, item_columns)
        with closing(given):
            items = cells.table(given, item_columns)
        return _events(connection, source, event_columns, items, position)


def _find(
    connection: Connection, name: str, query: str, columns: list[str], faults: Faults
) -> None:
    """Note the columns that a query does not give."""
    for missing in sorted(set(columns) - set(columns_of(connection, name, query))):
        faults.add(f"query {name!r}", f"column {missing!r} is missing")


def _events(
    connection: Connection,
    source: Database,
    columns: list[str],
    items: pl.DataFrame,
    position: Position | None,
) -> Fresh:
    """Read events from where they were read before."""
    since: Since | None = None
    if position:
        least = position.earlier(source.overlap)
        since = Since(column=source.cursor, kind=position.kind, place=least)
    parts = batches(connection, "interactions", source.interactions, columns, since)
    with closing(parts):
        if not source.cursor:
            events, kind = cells.table(parts, columns), None
        else:
            events, kind = cells.events(
                parts,
                columns,
                source.cursor,
                text=source.sqlite,
                kind=position.kind if position else None,
            )
    place = since.place if since else None
    return Fresh(events=events, items=items, kind=kind, place=place)
