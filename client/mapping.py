"""``data.toml``: where a site's tables are, and what their columns mean."""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from client.sources.settings import Database
from client.sources.snapshot import EVENTS, ITEMS
from shared.config import read
from shared.errors import ConfigError, DataError

FILE = "data.toml"
_TABLES = {"interactions": EVENTS, "items": ITEMS}  # with what a snapshot calls them
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionColumns:
    """The ``[interactions]`` table: one row per event.

    Args:
        file: A CSV, TSV or Parquet file beside ``data.toml``; not with a database.
        user: Column of the user's identifier.
        item: Column of the item's identifier.
        timestamp: Column of ISO 8601 instants (UTC, if none is named) or epoch seconds.
        rating: Column of ratings; without one and without ``event``, all are likes.
        positive_rating: A rating of at least this is a like.
        event: Column of event types, in place of ratings.
        positive_events: The event types that are likes.
    """

    file: str
    user: str
    item: str
    timestamp: str
    rating: str = ""
    positive_rating: float = math.nan
    event: str = ""
    positive_events: tuple[str, ...] = ()

    def columns(self) -> dict[str, str]:
        """Return our name of each column that is read, and its own."""
        always = {"user": self.user, "item": self.item, "timestamp": self.timestamp}
        optional = {"rating": self.rating, "event": self.event}
        return always | {ours: name for ours, name in optional.items() if name}

    def faults(self) -> list[str]:
        """Return one sentence for each contradiction between the keys."""
        wrong = {
            "give 'rating' or 'event', not both": self.rating and self.event,
            "'rating' and 'positive-rating' go together": bool(self.rating)
            == math.isnan(self.positive_rating),
            "'event' and 'positive-events' go together": bool(self.event)
            != bool(self.positive_events),
        }
        return [sentence for sentence, holds in wrong.items() if holds]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemColumns:
    """The ``[items]`` table: one row per item, all of it public.

    Args:
        file: A CSV, TSV or Parquet file beside ``data.toml``; not with a database.
        item: Column of the item's identifier.
        text: Columns that make the item's text, in order: "A. B. C".
        attributes: Columns to filter, explain and group by.
        list_separator: Between several values in one cell; empty: cells are whole.
    """

    file: str
    item: str
    text: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    list_separator: str = "|"

    def text_columns(self) -> dict[str, str]:
        """Return our name of each column of text, and its own, in order."""
        return {f"text {name}": name for name in self.text}

    def attribute_columns(self) -> dict[str, str]:
        """Return our name of each column of an attribute, and its own."""
        return {f"attribute {name}": name for name in self.attributes}

    def columns(self) -> dict[str, str]:
        """Return our name of each column that is read, and its own."""
        return {"item": self.item} | self.text_columns() | self.attribute_columns()

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        return [] if self.text else ["'text' names no column"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserColumns:
    """The ``[users]`` table, which may be missing: what users declared, a row for each.

    Args:
        file: A CSV, TSV or Parquet file beside ``data.toml``, with a database too.
        user: Column of the user's identifier.
        attributes: Columns such as an age band, an occupation or a place.
    """

    file: str
    user: str
    attributes: tuple[str, ...]

    def attribute_columns(self) -> dict[str, str]:
        """Return our name of each column of an attribute, and its own."""
        return {f"attribute {name}": name for name in self.attributes}

    def columns(self) -> dict[str, str]:
        """Return our name of each column that is read, and its own."""
        return {"user": self.user} | self.attribute_columns()

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        return [] if self.attributes else ["'attributes' names no column"]


@dataclass(frozen=True, slots=True)
class DataMapping:
    """What ``data.toml`` says; without a ``source`` the tables are files beside it."""

    interactions: InteractionColumns
    items: ItemColumns
    source: Database | None
    users: UserColumns | None = None

    def digest(self) -> str:
        """Return what is the same as long as the same rows are asked for."""
        asked = self.source and (
            *(self.source.url, self.source.interactions, self.source.items),
            self.source.cursor,
        )
        columns = [
            *self.interactions.columns().values(),
            *self.items.columns().values(),
        ]
        return hashlib.sha256(json.dumps([asked, columns]).encode()).hexdigest()


def read_mapping(folder: Path) -> DataMapping:
    """Return what ``data.toml`` in ``folder`` says, or report every fault at once."""
    path = folder / FILE
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; it names the tables and columns of this site"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    faults = [
        f"unknown table or key {name!r}; known: [interactions], [items], [users], "
        "[source]"
        for name in sorted(tables.keys() - {*_TABLES, "users", "source"})
    ]
    source = _source(tables, faults)
    interactions = _table(InteractionColumns, tables, "interactions", faults)
    items = _table(ItemColumns, tables, "items", faults)
    users = _table(UserColumns, tables, "users", faults) if "users" in tables else None
    if interactions is None or items is None or faults:
        raise ConfigError("\n  ".join([f"{path}:", *faults]))
    return DataMapping(interactions, items, source, users)


def _table(
    kind: type[T], tables: Mapping[str, object], name: str, faults: list[str]
) -> T | None:
    """Return one table as ``kind``, or None after noting its faults."""
    table = tables.get(name, {})
    if not isinstance(table, dict):
        faults.append(f"{name!r} is not a table; write [{name}]")
        return None
    return _read(kind, table, f"[{name}]", faults)


def _read(
    kind: type[T], table: Mapping[str, object], where: str, faults: list[str]
) -> T | None:
    try:
        return read(kind, table, where)
    except ConfigError as error:
        faults.append(str(error).replace("\n", "\n  "))
        return None


def _source(tables: dict[str, Any], faults: list[str]) -> Database | None:
    """Return the database that ``[source]`` names, or None: there are files, or faults.

    With a database, the tables' files are those of its snapshot.
    """
    said = tables.get("source", {"kind": "files"})
    kind = said.get("kind") if isinstance(said, dict) else None
    if kind not in {"files", "database"}:
        faults.append('[source] needs kind = "files" or kind = "database"')
        return None
    if kind == "files":
        faults += [f"[source] of files has no key {k!r}" for k in said if k != "kind"]
        return None
    for name, file in _TABLES.items():
        table = tables.get(name)
        if isinstance(table, dict):
            if "file" in table:
                faults.append(f"[{name}] has a 'file', but a database is its source")
            table["file"] = file
    queries = said.get("queries")
    if not isinstance(queries, dict) or queries.keys() != _TABLES.keys():
        faults.append("[source.queries] needs 'interactions' and 'items', and no more")
        return None
    flat = {key: said[key] for key in said if key not in {"kind", "queries"}}
    return _read(Database, flat | queries, "[source]", faults)
