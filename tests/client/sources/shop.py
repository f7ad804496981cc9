"""A shop's database and the ``data.toml`` that reads it; small and honest."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from tests.client.sources.cluster import Cluster

Event = tuple[str, str, Any, int]  # who, what, at, stars
PASSWORD = "reader-pw-93e"  # noqa: S105  # of a role that lives for one test
START = 1_700_000_000
EVENTS: tuple[Event, ...] = (
    ("ann", "x", START + 30, 5),
    ("bob", "y", START + 10, 3),
    ("ann", "y", START + 20, 2),
    ("ann", "z", START + 10, 4),
)
ITEMS = (("x", "Heat", "Crime"), ("y", "Casino", ""), ("z", "Nixon", "Drama|Crime"))
TOML = """\
[source]
kind = "database"
url = "{url}"
cursor = "at"
overlap = 5
{more}

[source.queries]
interactions = "{interactions}"
items = "SELECT id, title, genre FROM products"

[interactions]
user = "who"
item = "what"
timestamp = "at"
rating = "stars"
positive-rating = 4

[items]
item = "id"
text = ["title"]
attributes = ["genre"]
"""
QUERY = "SELECT who, what, at, stars FROM events"


def write_toml(folder: Path, url: str, *, query: str = QUERY, more: str = "") -> str:
    text = TOML.format(url=url, interactions=query, more=more)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.toml").write_text(text, "utf-8")
    return text


@dataclass(frozen=True)
class SqliteShop:
    """A shop in a file of SQLite, beside the folder that reads it."""

    folder: Path

    @classmethod
    def open(
        cls, folder: Path, events: Iterable[Event] = EVENTS, *, at: str = "INTEGER"
    ) -> Self:
        made = cls(folder)
        made.toml()
        made.run("DROP TABLE IF EXISTS events", "DROP TABLE IF EXISTS products")
        made.run(
            f"CREATE TABLE events (who TEXT, what TEXT, at {at}, stars INTEGER)",
            "CREATE TABLE products (id TEXT, title TEXT, genre TEXT)",
        )
        made.add(*events)
        made.add_items(*ITEMS)
        return made

    @property
    def file(self) -> Path:
        return self.folder.parent / "shop.db"

    def toml(self, *, query: str = QUERY, more: str = "") -> None:
        write_toml(self.folder, "sqlite:///../shop.db", query=query, more=more)

    def run(self, *statements: str) -> None:
        with sqlite3.connect(self.file) as connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    def add(self, *events: Event) -> None:
        self._insert("events", events)

    def add_items(self, *items: tuple[str, str, str]) -> None:
        self._insert("products", items)

    def _insert(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        with sqlite3.connect(self.file) as connection:
            for row in rows:
                marks = ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} VALUES ({marks})", row)  # noqa: S608
        connection.close()


@dataclass(frozen=True)
class PostgresShop:
    """A shop in PostgreSQL, read as a role that may read and nothing else."""

    folder: Path
    cluster: "Cluster"

    @classmethod
    def open(cls, folder: Path, cluster: "Cluster") -> Self:
        made = cls(folder, cluster)
        made.toml()
        cluster.run(
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
            "DROP ROLE IF EXISTS reader",
            f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'",
            "GRANT USAGE ON SCHEMA public TO reader",
            "CREATE TABLE events"
            " (who text, what text, at timestamptz, stars numeric(3, 1))",
            "CREATE TABLE products (id text, title text, genre text)",
            "GRANT SELECT ON events, products TO reader",
        )
        made.add(*EVENTS)
        rows = ", ".join(str(item) for item in ITEMS)
        cluster.run(f"INSERT INTO products VALUES {rows}")  # noqa: S608
        return made

    def toml(self, *, query: str = QUERY, more: str = "", user: str = "reader") -> None:
        more = f'{more}\npassword-env = "SHOP_PASSWORD"'
        write_toml(self.folder, self.cluster.url(user), query=query, more=more)

    def add(self, *events: Event) -> None:
        for who, what, at, stars in events:
            values = f"'{who}', '{what}', to_timestamp({at}), {stars}"
            self.cluster.run(f"INSERT INTO events VALUES ({values})")  # noqa: S608
