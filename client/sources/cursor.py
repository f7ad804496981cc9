"""How far a source was read, and from where to read on: a number, an instant or text.

It refuses to mix these: what cannot be compared cannot be read on from.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

import polars as pl

from shared.errors import DataError

Kind = Literal["number", "instant", "local", "text"]
Place = int | str  # a number, microseconds since 1970, or ISO 8601 text
COLUMN = "#cursor"  # of a snapshot's events

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY, _CLOCK = r"^\d{4}-\d\d-\d\d", r"\d\d:\d\d:\d\d(?:\.\d+)?"
_WAY = rf"{_DAY}(?:([T ]){_CLOCK}(.*))?$"
_CANNOT = (
    "holds {}; a cursor is a column of whole numbers, of timestamps, or in SQLite of "
    "ISO 8601 text written in one way: cast it in the query"
)


@dataclass(frozen=True, slots=True)
class Position:
    """The newest place that was read.

    Args:
        kind: Number, instant, timestamp without time zone, or text.
        place: Never later than the moment at which the source was read: an event dated
            in the future does not make the source skip what comes before it.
    """

    kind: Kind
    place: Place

    def earlier(self, overlap: int) -> Place:
        """Return the place ``overlap`` seconds, or units of a number, before this."""
        if isinstance(self.place, int):
            unit = 1 if self.kind == "number" else 1_000_000
            return self.place - overlap * unit
        return _like(self.place, _read_text(self.place) - timedelta(seconds=overlap))


def kinds(values: Sequence[object]) -> set[str]:
    """Return the kinds of cursor among ``values``; what is none goes by its type."""
    return {_kind(value) for value in values if value is not None}


def places(values: Sequence[object], kind: Kind | None) -> pl.Series:
    """Return values of one kind, or all None, in a form that sorts as they do."""
    if kind is None:
        return pl.Series(COLUMN, values, dtype=pl.Null)
    if kind in {"number", "text"}:
        return pl.Series(
            COLUMN, values, dtype=pl.Int64 if kind == "number" else pl.String
        )
    instants = cast("Sequence[datetime | None]", values)
    return pl.Series(COLUMN, [v and _micros(v) for v in instants], dtype=pl.Int64)


def parameter(kind: Kind, place: Place) -> int | str | datetime:
    """Return a place as the database compares it."""
    if isinstance(place, str) or kind == "number":
        return place
    instant = _EPOCH + place * _MICROSECOND
    return instant if kind == "instant" else instant.replace(tzinfo=None)


def the_kind(found: set[str], *, name: str, text: bool) -> Kind:
    """Return the one kind that a column has.

    Args:
        found: Kinds in all rows.
        name: Of the column.
        text: Whether text compares by its bytes, as it does in SQLite.

    Raises:
        DataError: If there are several kinds, or one that is not fit.
    """
    (kind,) = found if len(found) == 1 else {" and ".join(sorted(found))}
    known = {"number", "instant", "local"} | ({"text"} if text else set())
    if kind not in known:
        raise DataError(f"column {name!r} {_CANNOT.format(kind)}")
    return cast("Kind", kind)


def require_one_way(column: pl.Series, name: str) -> None:
    """Refuse text of which the order of bytes is not the order in time."""
    ways = column.str.extract_groups(_WAY)
    alike = column.str.contains(_WAY).all() and ways.n_unique() == 1
    if not alike or not _is_instant(str(column.max())):
        fault = _CANNOT.format("text that is not ISO 8601 of one form")
        raise DataError(f"column {name!r} {fault}")


def position(column: pl.Series, kind: Kind, now: datetime, *, clock: bool) -> Position:
    """Return how far a source was read.

    Args:
        column: Every place, at least one.
        kind: Of these.
        now: When reading began.
        clock: Whether a number is a time in epoch seconds.
    """
    newest = column.max()
    if isinstance(newest, str):
        return Position(kind, min(newest, _like(newest, now)))
    limit = int(now.timestamp()) if kind == "number" else _micros(now)
    place = cast("int", newest)
    return Position(kind, min(place, limit) if clock or kind != "number" else place)


def _kind(value: object) -> str:
    if type(value) is int:
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, datetime):
        return "instant" if value.tzinfo else "local"
    return type(value).__name__


def _micros(value: datetime) -> int:
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def _read_text(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _is_instant(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _like(text: str, instant: datetime) -> str:
    """Return the second of ``instant``, written as far as it sorts before ``text``."""
    zone = datetime.fromisoformat(text).tzinfo or UTC
    found = re.match(_WAY, text)
    between = found and found[1]
    here = instant.astimezone(zone).replace(tzinfo=None)
    return here.isoformat(between, "seconds") if between else here.date().isoformat()
