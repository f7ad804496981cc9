"""Values of a database as the text that a file would hold; what is no text is marked."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import polars as pl

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


def cells(values: Sequence[object]) -> pl.Series:
    """Return a column as text, or as lists of text where a cell is a list.

    Bytes, documents and whatever else is neither a plain value nor a list of these make
    a column of type ``NOT_PLAIN``, which the loader refuses by name.
    """
    try:
        if list in set(map(type, values)):
            lists = [None if cell is None else _texts(cell) for cell in values]
            return pl.Series(lists, dtype=pl.List(pl.String))
        return pl.Series(_texts(values), dtype=pl.String)
    except (KeyError, TypeError):
        return pl.Series([None] * len(values), dtype=NOT_PLAIN)


def _texts(values: Any) -> list[str | None]:
    return [None if cell is None else _WRITTEN[type(cell)](cell) for cell in values]
