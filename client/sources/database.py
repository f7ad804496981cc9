"""A database as a source of rows: one read-only transaction, streamed in batches.

It refuses to write, to connect to a distant PostgreSQL without TLS unless the site's
own file says so, and to repeat what a database says once rows are read: by then its
words may quote a user.
"""

import logging
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    URL,
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    DateTime,
    Engine,
    Select,
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
from sqlalchemy.types import TypeEngine

from client.sources.cells import Rows
from client.sources.cursor import Kind, Place, parameter
from client.sources.settings import DRIVERS, Database, password
from shared.errors import ConfigError, DataError

BATCH = 20_000  # rows in memory as Python values
STATEMENT_S = 600  # no single statement, and no single batch, may take longer
LOCAL = {"", "localhost", "127.0.0.1", "::1"}
_ENGINE = "tacit"
_QUIET: dict[str, Any] = {"hide_parameters": True, "logging_name": _ENGINE}
_CONNECT = {"connect_timeout": "10", "tcp_user_timeout": "30000"}  # s, ms
_TYPES: dict[Kind, TypeEngine[Any]] = {
    "number": BigInteger(),
    "instant": DateTime(timezone=True),
    "local": DateTime(),
    "text": Text(),
}
# At level DEBUG this logger would write rows, whatever level its parents have.
logging.getLogger(f"sqlalchemy.engine.Engine.{_ENGINE}").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Since:
    """From where to read on: rows whose ``column`` is at least ``place``, or null."""

    column: str
    kind: Kind
    place: Place

    def clause(self) -> ColumnElement[bool]:
        """Return the condition; what has no cursor is read, so that it is noticed."""
        least: BindParameter[Any] = bindparam(
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
    nothing: Select[Any] = (
        select(literal_column("*")).select_from(_table(query)).where(false())
    )
    with telling(f"query {name!r} is refused", in_its_words=True):
        return list(connection.execute(nothing).keys())


def batches(
    connection: Connection,
    name: str,
    query: str,
    columns: Sequence[str],
    since: Since | None = None,
) -> Generator[Rows, None, None]:
    """Yield rows of a query, at most ``BATCH`` at a time; no other column is read.

    Close the generator if it is left early, to free what the database holds for it.

    Raises:
        DataError: If reading ends before the last row; without the database's words.
    """
    wanted: list[ColumnElement[Any]] = [column(name) for name in columns]
    rows = select(*wanted).select_from(_table(query))
    if since:
        rows = rows.where(since.clause())
    with telling(f"query {name!r} failed", in_its_words=False):
        streamed = connection.execute(rows, execution_options={"yield_per": BATCH})
        with closing(streamed) as result:
            for part in result.partitions():
                yield [tuple(row) for row in part]


def _table(query: str) -> Subquery:
    """Return the site's query as a table; its colons and percent signs are its own."""
    words = query.strip().rstrip(";").replace(":", r"\:")
    return text(f"{words}\n").columns().subquery("source")  # it may end in a comment


def _engine(source: Database, folder: Path) -> Engine:
    """Return where to connect, with the credentials in no printable place."""
    url = make_url(source.url)
    secret = password(source, folder)
    if url.drivername == "sqlite":
        path = quote(str(folder / (url.database or "")))

        def connect() -> sqlite3.Connection:
            opened = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            opened.isolation_level = None  # the transaction is ours to begin
            return opened

        return create_engine("sqlite://", creator=connect, poolclass=NullPool, **_QUIET)
    found = _CONNECT | ({"password": secret} if secret else {})
    try:
        return create_engine(
            _encrypted(url).set(drivername=DRIVERS[url.drivername]),
            connect_args=found,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
            poolclass=NullPool,
            **_QUIET,
        )
    except ImportError:
        raise ConfigError(
            "the driver of PostgreSQL is not installed: pip install 'tacit[postgres]'"
        ) from None


def _encrypted(url: URL) -> URL:
    """Return a distant server's URL with TLS verified, unless it says otherwise."""
    named = url.query.get("host", ())
    hosts = {url.host or "", *((named,) if isinstance(named, str) else named)}
    distant = [h for h in hosts - LOCAL if not h.startswith("/")]
    if "sslmode" in url.query or not distant:
        return url
    return url.update_query_dict({"sslmode": "verify-full"})


@contextmanager
def telling(what: str, *, in_its_words: bool) -> Iterator[None]:
    """Turn a database's error into ours.

    Args:
        what: What went wrong.
        in_its_words: Whether to repeat the database's message: only before it has read
            any row.
    """
    try:
        yield
    except SQLAlchemyError as error:
        raised = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(raised, "sqlstate", None)
        said = f"{type(raised).__name__}{f', SQLSTATE {state}' if state else ''}"
        if in_its_words:
            primary = getattr(getattr(raised, "diag", None), "message_primary", None)
            said += f": {' '.join(str(primary or raised).split())}"
        else:
            said += "; its words may quote a user: run the query by hand to read them"
        raise DataError(f"{what} ({said})") from None
