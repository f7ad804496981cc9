"""A database as a source of rows: one read-only transaction, streamed in batches.

It refuses to write, to connect to a distant PostgreSQL without TLS unless the site's
own file says so, and to repeat what a database says once rows are read: by then its
words may quote a user.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
from sqlalchemy import (
    URL,
    BigInteger,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Subquery,
    Text,
    bindparam,
    column,
    create_engine,
    false,
    literal_column,
    make_url,
    or_,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from client.sources.cells import cells
from client.sources.cursor import Kind, Place, kinds, parameter, places, the_kind
from client.sources.settings import DRIVERS, Database, password
from shared.errors import ConfigError, DataError

BATCH = 20_000  # rows in memory as Python values
STATEMENT_S = 600  # no single statement, and no single batch, may take longer
_CONNECT = {"connect_timeout": "10", "tcp_user_timeout": "30000"}  # s, ms
_TYPES = {
    "number": BigInteger(),
    "instant": DateTime(timezone=True),
    "local": DateTime(),
    "text": Text(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """From where to read on: rows of which ``column`` is at least ``place``, or null."""

    column: str
    kind: Kind
    place: Place

    def clause(self) -> ColumnElement[bool]:
        """Return the condition; what has no cursor is read, so that it is noticed."""
        least = bindparam(
            "since", parameter(self.kind, self.place), type_=_TYPES[self.kind]
        )
        return or_(column(self.column) >= least, column(self.column).is_(None))


@contextmanager
def reading(source: Database, folder: Path) -> Iterator[Connection]:
    """Open one read-only transaction in which every query sees the same moment.

    Args:
        source: Where and as whom.
        folder: What relative paths are relative to.

    Raises:
        ConfigError: If credentials or the driver are missing.
        DataError: If the database cannot be reached.
    """
    engine = _engine(source, folder)
    with telling("the database cannot be reached", in_its_words=True):
        connection = engine.connect()
    with connection:
        with telling("no read-only transaction", in_its_words=True):
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            else:
                limit = f"SET LOCAL statement_timeout = '{STATEMENT_S}s'"
                connection.exec_driver_sql(limit)
        yield connection


def columns_of(connection: Connection, name: str, query: str) -> list[str]:
    """Return what the columns of a query are called; no row is read.

    Raises:
        DataError: If the database does not understand the query, in its own words.
    """
    nothing = select(literal_column("*")).select_from(_table(query)).where(false())
    with telling(f"query {name!r} is refused", in_its_words=True):
        return list(connection.execute(nothing).keys())


def batches(
    connection: Connection,
    name: str,
    query: str,
    columns: Sequence[str],
    since: Since | None = None,
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield rows of a query, at most ``BATCH`` at a time; no other column is read.

    Raises:
        DataError: If reading ends before the last row; without the database's words.
    """
    rows = select(*map(column, columns)).select_from(_table(query))
    if since:
        rows = rows.where(since.clause())
    with telling(f"query {name!r} failed", in_its_words=False):
        result = connection.execution_options(max_row_buffer=BATCH).execute(
            rows, execution_options={"stream_results": True}
        )
        for part in result.partitions(BATCH):
            yield [tuple(row) for row in part]


def table(parts: Iterator[list[tuple[Any, ...]]], columns: Sequence[str]) -> pl.DataFrame:
    """Return rows as columns of text, see ``cells``."""
    frames = [_frame(part, columns) for part in parts]
    return _joined([_frame([], columns), *frames])


def events(
    parts: Iterator[list[tuple[Any, ...]]],
    columns: Sequence[str],
    cursor: str,
    *,
    text: bool,
) -> tuple[pl.DataFrame, Kind | None]:
    """Return rows as columns of text and their places, with the kind of the cursor.

    Args:
        parts: The rows.
        columns: What they hold; ``cursor`` is among them.
        cursor: The column to read on by.
        text: Whether text may be a cursor.

    Raises:
        DataError: If the cursor's column is not fit for one.
    """
    where, kind = columns.index(cursor), None
    frames = [_frame([], columns)]
    for part in parts:
        found = [row[where] for row in part]
        if seen := kinds(found) | ({kind} if kind else set()):
            kind = the_kind(seen, name=cursor, text=text)
            frames.append(_frame(part, columns).with_columns(places(found, kind)))
    return _joined(frames), kind
