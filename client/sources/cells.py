"""Rows of a database as tables of text, as a file would hold them.

A column that is not text at heart, bytes or documents say, is marked, not guessed at.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import polars as pl

from client.sources.cursor import COLUMN, Kind, kinds, places, the_kind

Rows = Sequence[tuple[Any, ...]]
NOT_PLAIN = pl.Struct({"plain": pl.Boolean})  # no reader takes it for text


def _instant(value: datetime) -> str:
    """Return ISO 8601, in UTC: how the server writes offsets may change."""
    return (value.astimezone(UTC) if value.tzinfo else value).isoformat()


_WRITTEN: dict[type, Callable[[Any], str]] = {
    str: str,
    int: str,
    float: repr,
    bool: lambda value: str(value).lower(),
    Decimal: lambda value: format(value, "f"),
    datetime: _instant,
    date: date.isoformat,
    UUID: str,
}


def table(parts: Iterator[Rows], columns: Sequence[str]) -> pl.DataFrame:
    """Return rows as columns of text, see ``cells``."""
    return _joined([_frame(part, columns) for part in parts], columns)


def events(
    parts: Iterator[Rows],
    columns: Sequence[str],
    cursor: str,
    *,
    text: bool,
    kind: Kind | None = None,
) -> tuple[pl.DataFrame, Kind | None]:
    """Return rows as columns of text with their places, and the kind of the cursor.

    Args:
        parts: The rows.
        columns: What they hold; ``cursor`` is among them.
        cursor: The column to read on by.
        text: Whether text may be a cursor.
        kind: What the cursor was before, if it was read before.

    Raises:
        DataError: If the cursor's column is not fit for one.
    """
    where = columns.index(cursor)
    frames = []
    for part in parts:
        found = [row[where] for row in part]
        seen = kinds(found) | ({kind} if kind else set())
        kind = the_kind(seen, name=cursor, text=text) if seen else None
        frames.append(_frame(part, columns).with_columns(places(found, kind)))
    return _joined(frames, [*columns, COLUMN]), kind


def cells(values: Sequence[object]) -> pl.Series:
    """Return a column as text, or as lists of text where a cell is a list.

    Bytes, documents and whatever else is neither a plain value nor a list of these make
    a column of type ``NOT_PLAIN``, which the loader refuses by name.
    """
    types = _types(values)
    if not types:
        return pl.Series(values, dtype=pl.Null)
    if types <= _WRITTEN.keys():
        return pl.Series(_texts(values), dtype=pl.String)
    if types == {list}:
        lists = [cell for cell in values if isinstance(cell, list)]
        if all(_types(cell) <= _WRITTEN.keys() for cell in lists):
            written = [cell and _texts(cell) for cell in values]
            return pl.Series(written, dtype=pl.List(pl.String))
    return pl.Series([None] * len(values), dtype=NOT_PLAIN)


def _types(values: Sequence[object]) -> set[type]:
    return {type(value) for value in values if value is not None}


def _texts(values: Any) -> list[str | None]:
    return [None if cell is None else _WRITTEN[type(cell)](cell) for cell in values]


def _frame(part: Rows, columns: Sequence[str]) -> pl.DataFrame:
    held = zip(*part, strict=True)
    return pl.DataFrame(
        {name: cells(values) for name, values in zip(columns, held, strict=True)}
    )


def _joined(frames: Sequence[pl.DataFrame], columns: Sequence[str]) -> pl.DataFrame:
    """Return batches as one table; a column of text and of lists is neither."""
    return pl.DataFrame(
        {name: _one_type([frame[name] for frame in frames]) for name in columns}
    )


def _one_type(parts: Sequence[pl.Series]) -> pl.Series:
    types = {part.dtype for part in parts} - {pl.Null()}
    if len(types) > 1:
        return pl.Series([None] * sum(map(len, parts)), dtype=NOT_PLAIN)
    (dtype,) = types or {pl.String()}
    empty = pl.Series(dtype=dtype)
    return pl.concat([empty, *(part.cast(dtype) for part in parts)])
