"""Rows of items, events and users: checked and understood before anything is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from client.tables import Faults

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """Rows of one file, with the file's name for messages."""

    file: str
    rows: pl.DataFrame


def values(column: str, separator: str) -> pl.Expr:
    """Return the values in each cell of text: trimmed, without empty ones, as lists."""
    cells = pl.col(column).fill_null("")
    lists = cells.str.split(separator) if separator else pl.concat_list(cells)
    trimmed = lists.list.eval(pl.element().str.strip_chars())
    return trimmed.list.eval(pl.element().filter(pl.element() != "")).alias(column)


def rated(least: float) -> pl.Expr:
    """Return which events have a rating of at least ``least``."""
    return _number("rating") >= least


def understand(
    items: Table, events: Table, text: Sequence[str], faults: Faults
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Check every row, and add what the cells mean.

    Args:
        items: ``row``, ``item`` and lists of values.
        events: ``row``, ``user``, ``item``, ``timestamp``; ``rating`` or ``event``.
        text: Columns of ``items`` that make an item's text, in order.
        faults: Told of every class of problem.

    Returns:
        The items with ``#text``, and the events with ``#position`` (of the item) and
        ``#time`` (epoch seconds).
    """
    item_rows = understand_items(items, text, faults)
    event_rows = _placed(_timed(events.rows), item_rows)
    faults.check(events.file, event_rows, _EVENT_CHECKS)
    return item_rows, event_rows


def understand_items(items: Table, text: Sequence[str], faults: Faults) -> pl.DataFrame:
    """Check every row of the items, and add ``#text``; see ``understand``."""
    rows = _composed(items.rows, text)
    faults.check(items.file, rows, _ITEM_CHECKS)
    return rows


def declared(
    users: Table, attributes: Mapping[str, str], faults: Faults
) -> dict[str, dict[str, str]]:
    """Return what each user declared; who declared nothing is left out.

    Args:
        users: ``row``, ``user`` and the attributes.
        attributes: Attribute name to its column in ``users``.
        faults: Told of every class of problem.
    """
    rows = users.rows
    faults.check(users.file, rows, _USER_CHECKS)
    if not {"user", *attributes.values()} <= set(rows.columns):
        return {}
    said = {
        name: [cell.strip() for cell in rows[column].fill_null("")]
        for name, column in attributes.items()
    }
    people = {
        user: {name: cells[place] for name, cells in said.items() if cells[place]}
        for place, user in enumerate(rows["user"])
    }
    return {user: about for user, about in people.items() if about}


def _composed(items: pl.DataFrame, text: Sequence[str]) -> pl.DataFrame:
    """Add ``#text``: "A. B. C" from the columns in order, empty ones skipped."""
    if not text or not set(text) <= set(items.columns):
        return items
    parts = [pl.col(column).list.join(", ") for column in text]
    filled = [pl.when(part != "").then(part) for part in parts]
    return items.with_columns(
        pl.concat_str(filled, separator=". ", ignore_nulls=True).alias("#text")
    )


def _timed(events: pl.DataFrame) -> pl.DataFrame:
    """Add ``#time``: epoch seconds, or null where a timestamp is not understood."""
    if "timestamp" not in events.columns:
        return events
    seconds = [_epoch_s(cell) for cell in events["timestamp"].fill_null("")]
    return events.with_columns(pl.Series("#time", seconds, dtype=pl.Int64))


def _placed(events: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """Add ``#position``: the item's place in the catalogue, or null."""
    if "item" not in events.columns or "item" not in items.columns:
        return events
    known = items.select("item").unique(maintain_order=True).with_row_index("#position")
    places = known.with_columns(pl.col("#position").cast(pl.Int64))
    return events.join(places, on="item", how="left", maintain_order="left")


def _epoch_s(cell: str) -> int | None:
    """Return whole epoch seconds from a number or an ISO 8601 instant, else None."""
    for meaning in (int, float, _iso_8601):
        try:
            seconds = int(meaning(cell))
        except (ValueError, OverflowError):
            continue
        return seconds if seconds in _INT64 else None
    return None


def _iso_8601(cell: str) -> float:
    """Return the epoch seconds of an instant; without an offset it is UTC."""
    instant = datetime.fromisoformat(cell.strip())
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def _number(column: str) -> pl.Expr:
    """Return cells as numbers, null where they are not finite."""
    number = pl.col(column).str.strip_chars().cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _absent(column: str) -> pl.Expr:
    return pl.col(column).fill_null("").str.strip_chars() == ""


def _again(*columns: str) -> pl.Expr:
    """Return rows that repeat an earlier one in these columns, where none is null."""
    complete = pl.all_horizontal(pl.col(column).is_not_null() for column in columns)
    return complete & ~pl.struct(*columns).is_first_distinct()


_ITEM_CHECKS = {
    "no item id": _absent("item"),
    "item id was already given": _again("item") & ~_absent("item"),
    "item without any text": pl.col("#text") == "",
}
_EVENT_CHECKS = {
    "no user id": _absent("user"),
    "no item id": _absent("item"),
    "no timestamp": _absent("timestamp"),
    "timestamp is neither ISO 8601 nor epoch seconds": pl.col("#time").is_null()
    & ~_absent("timestamp"),
    "no rating": _absent("rating"),
    "rating is not a number": _number("rating").is_null() & ~_absent("rating"),
    "no event type": _absent("event"),
    "item is not among the items": pl.col("#position").is_null() & ~_absent("item"),
    "the same user, item and timestamp again": _again("user", "item", "#time"),
}
_USER_CHECKS = {
    "no user id": _absent("user"),
    "user id was already given": _again("user") & ~_absent("user"),
}
