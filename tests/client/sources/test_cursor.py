"""From where to read on: text, numbers and instants sort as the database sorts them."""

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.sources.cursor import (
    Kind,
    Position,
    kinds,
    parameter,
    places,
    position,
    require_one_way,
    the_kind,
)
from shared.errors import DataError

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WAYS = ("%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S%z")
instants = st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1))  # noqa: DTZ001


@given(moment=instants, way=st.sampled_from(WAYS), overlap=st.integers(0, 10**6))
def test_reading_on_by_text_misses_nothing_within_the_overlap(
    moment: datetime, way: str, overlap: int
) -> None:
    """Everything from ``overlap`` seconds before the newest on sorts at or above."""
    newest = moment.replace(tzinfo=UTC)
    column = pl.Series([newest.strftime(way)])
    later = newest + timedelta(days=1)
    place = position(column, "text", later, clock=True).earlier(overlap)
    earliest = newest - timedelta(seconds=overlap)

    assert isinstance(place, str)
    if way == WAYS[0]:
        earliest = newest.replace(hour=0, minute=0, second=0) - timedelta(
            seconds=overlap
        )
    assert place <= earliest.strftime(way)
    far = earliest - timedelta(days=2)
    assert far.strftime(way) < place


@given(
    moment=instants, zone=st.sampled_from([UTC, None]), overlap=st.integers(0, 10**6)
)
def test_an_instant_comes_back_as_the_database_compares_it(
    moment: datetime, zone: timezone | None, overlap: int
) -> None:
    value = moment.replace(tzinfo=zone)
    (kind,) = kinds([value, None])
    fit = the_kind({kind}, name="at", text=False)
    read = position(
        places([value], fit), fit, datetime(2081, 1, 1, tzinfo=UTC), clock=True
    )

    back = parameter(fit, read.earlier(overlap))

    assert back == value - timedelta(seconds=overlap)


@pytest.mark.parametrize(
    ("kind", "newest", "clock", "kept"),
    [
        ("number", 10**12, True, int(NOW.timestamp())),
        ("number", 10**12, False, 10**12),
        ("instant", 10**18, False, int(NOW.timestamp()) * 10**6),
        ("text", "2999-01-01 00:00:00", False, "2026-01-01 12:00:00"),
        ("text", "2999-01-01T00:00:00+02:00", False, "2026-01-01T14:00:00"),
        ("text", "2025-12-31", False, "2025-12-31"),
    ],
)
def test_no_position_lies_after_the_moment_of_reading(
    kind: Kind, newest: int | str, *, clock: bool, kept: int | str
) -> None:
    read = position(pl.Series([newest]), kind, NOW, clock=clock)

    assert read == Position(kind, kept)


@pytest.mark.parametrize(
    ("values", "text", "fault"),
    [
        ([1, NOW], False, "holds instant and number"),
        ([NOW, NOW.replace(tzinfo=None)], False, "holds instant and local"),
        (["a"], False, "holds text"),
        ([1.5], True, "holds float"),
        ([True], True, "holds bool"),
    ],
)
def test_what_cannot_be_compared_is_no_cursor(
    values: list[object], *, text: bool, fault: str
) -> None:
    with pytest.raises(DataError, match=f"column 'at' {fault}; a cursor is"):
        the_kind(kinds(values), name="at", text=text)


@pytest.mark.parametrize(
    "texts",
    [
        ["2026-01-01", "2026-01-01 00:00:00"],
        ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00"],
        ["2026-01-01T00:00:00+02:00", "2026-01-01T00:00:00+01:00"],
        ["soon"],
        ["2026-1-1"],
        ["2026-13-99"],
    ],
)
def test_text_that_is_not_always_written_alike_is_no_cursor(texts: list[str]) -> None:
    with pytest.raises(DataError, match="holds text that is not ISO 8601 of one"):
        require_one_way(pl.Series(texts), "at")


def test_fractions_of_a_second_may_be_of_any_length() -> None:
    require_one_way(pl.Series(["2026-01-01 00:00:00.5", "2026-01-01 00:00:01"]), "at")
