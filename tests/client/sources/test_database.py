"""A database as a source: read-only, of one moment, in batches, by TLS if far."""

import sys
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from client.mapping import read_mapping
from client.sources import database
from client.sources.database import batches, columns_of, reading
from client.sources.settings import Database
from shared.errors import ConfigError, DataError
from tests.client.sources.shop import QUERY, START, PostgresShop, SqliteShop

COLUMNS = ["who", "what"]


def source(shop: PostgresShop | SqliteShop) -> Database:
    found = read_mapping(shop.folder).source
    assert found is not None
    return found


def rows(shop: PostgresShop | SqliteShop, query: str, *columns: str) -> list[Any]:
    with (
        reading(source(shop), shop.folder) as connection,
        closing(batches(connection, "events", query, columns)) as parts,
    ):
        return [row for part in parts for row in part]


def test_a_query_that_writes_is_refused_by_postgresql(pg_shop: PostgresShop) -> None:
    """As the owner, who may write: it is the transaction that refuses."""
    pg_shop.cluster.run(
        "CREATE FUNCTION sneak() RETURNS text LANGUAGE sql AS "
        "$$ INSERT INTO events VALUES ('mallory') RETURNING who $$",
        "GRANT INSERT ON events TO reader",
    )

    with pytest.raises(DataError, match="ReadOnlySqlTransaction, SQLSTATE 25006"):
        rows(pg_shop, "SELECT sneak() AS who", "who")

    assert pg_shop.cluster.run("SELECT count(*) FROM events") == [(4,)]


@pytest.mark.parametrize("query", ["DELETE FROM events", "SELECT 1; DROP TABLE events"])
def test_what_is_no_single_query_is_refused(
    pg_shop: PostgresShop, shop: SqliteShop, query: str
) -> None:
    for one in (pg_shop, shop):
        with (
            reading(source(one), one.folder) as connection,
            pytest.raises(DataError, match="query 'q' is refused"),
        ):
            columns_of(connection, "q", query)


def test_a_file_of_sqlite_is_opened_for_reading_and_never_made(
    shop: SqliteShop,
) -> None:
    with (
        reading(source(shop), shop.folder) as connection,
        pytest.raises(OperationalError, match="readonly database"),
    ):
        connection.exec_driver_sql("DELETE FROM events")
    shop.file.unlink()

    with pytest.raises(DataError, match="unable to open database file"):
        rows(shop, QUERY, "who")

    assert not shop.file.exists()


@pytest.mark.parametrize("kind", ["pg_shop", "shop"])
def test_all_queries_see_the_same_moment(
    kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "shop":
        sqlite: SqliteShop = request.getfixturevalue("shop")
        sqlite.run("PRAGMA journal_mode=WAL")
    shop: PostgresShop | SqliteShop = request.getfixturevalue(kind)
    with reading(source(shop), shop.folder) as connection:
        before = sum(map(len, batches(connection, "q", QUERY, COLUMNS)))
        shop.add(("cy", "x", START + 40, 5))
        after = sum(map(len, batches(connection, "q", QUERY, COLUMNS)))

    assert (before, after) == (4, 4)
    assert len(rows(shop, QUERY, "who")) == 5


def test_rows_come_in_batches_and_only_the_columns_that_are_named(
    pg_shop: PostgresShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BATCH", 3)
    with reading(source(pg_shop), pg_shop.folder) as connection:
        parts = list(batches(connection, "q", QUERY, COLUMNS))
        held = "SELECT statement FROM pg_cursors"
        with closing(batches(connection, "q", QUERY, COLUMNS)) as streamed:
            next(streamed)
            (cursor,) = connection.exec_driver_sql(held).scalars()

    assert list(map(len, parts)) == [3, 1]
    assert parts[0][0] == ("ann", "x")
    assert "DECLARE" in cursor


def test_colons_percent_signs_and_comments_of_a_query_are_its_own(
    pg_shop: PostgresShop, shop: SqliteShop
) -> None:
    query = "SELECT ' :a 10:30 50%s' AS \"Who Is\"{} -- that is all;"

    cast = rows(pg_shop, query.format(", '1'::text AS b"), "Who Is", "b")
    plain = rows(shop, query.format(""), "Who Is")

    assert cast == [(" :a 10:30 50%s", "1")]
    assert plain == [(" :a 10:30 50%s",)]


@pytest.mark.parametrize(
    ("rest", "mode"),
    [
        ("db.example.org/shop", "verify-full"),
        ("db.example.org/shop?sslmode=require", "require"),
        ("/shop?host=db.example.org", "verify-full"),
        ("localhost/shop?host=/run&host=db.example.org", "verify-full"),
        ("localhost/shop", None),
        ("[::1]/shop", None),
        ("/shop?host=/run/postgresql", None),
    ],
)
def test_a_distant_server_is_verified_unless_the_site_says_otherwise(
    rest: str, mode: str | None
) -> None:
    url = make_url(f"postgresql://reader@{rest}")

    assert database._encrypted(url).query.get("sslmode") == mode


def test_a_statement_that_takes_too_long_ends(
    pg_shop: PostgresShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "STATEMENT_S", 0.1)

    with pytest.raises(DataError, match="QueryCanceled, SQLSTATE 57014"):
        rows(pg_shop, "SELECT pg_sleep(20)::text AS who", "who")


def test_without_the_driver_the_extra_is_named(
    shop: SqliteShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    asked = Database(url="postgresql://a@/b", interactions="q", items="q")

    with (
        pytest.raises(ConfigError, match=r"pip install 'tacit\[postgres\]'"),
        reading(asked, shop.folder),
    ):
        pass
