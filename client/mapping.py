"""``data.toml``: where a site's two tables are, and what their columns mean."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shared.config import read
from shared.errors import ConfigError, DataError

FILE = "data.toml"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractionColumns:
    """The ``[interactions]`` table: one row per event.

    Args:
        file: A CSV, TSV or Parquet file beside ``data.toml``.
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
        file: A CSV, TSV or Parquet file beside ``data.toml``.
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

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        return [] if self.text else ["'text' names no column"]


def read_mapping(folder: Path) -> tuple[InteractionColumns, ItemColumns]:
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
        f"unknown table or key {name!r}; known: [interactions], [items]"
        for name in sorted(tables.keys() - {"interactions", "items"})
    ]
    interactions = _table(InteractionColumns, tables, "interactions", faults)
    items = _table(ItemColumns, tables, "items", faults)
    if interactions is None or items is None or faults:
        raise ConfigError("\n  ".join([f"{path}:", *faults]))
    return interactions, items


def _table(
    kind: type[T], tables: Mapping[str, object], name: str, faults: list[str]
) -> T | None:
    """Return one table as ``kind``, or None after noting its faults."""
    table = tables.get(name, {})
    if not isinstance(table, dict):
        faults.append(f"{name!r} is not a table; write [{name}]")
        return None
    try:
        return read(kind, table, f"[{name}]")
    except ConfigError as error:
        faults.append(str(error).replace("\n", "\n  "))
        return None
