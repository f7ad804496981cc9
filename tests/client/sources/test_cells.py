"""Values of a database as text; what is no text is marked, not guessed at."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import polars as pl
import pytest

from client.sources.cells import NOT_PLAIN, Rows, cells, table

CET = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ü", "ü"),
        (7, "7"),
        (True, "true"),
        (4.5, "4.5"),
        (Decimal("1E+3"), "1000"),
        (Decimal("4.0"), "4.0"),
        (datetime(2023, 11, 14, 23, 13, tzinfo=CET), "2023-11-14T22:13:00+00:00"),
        (datetime(2023, 11, 14, 23, 13), "2023-11-14T23:13:00"),  # noqa: DTZ001
        (date(2023, 11, 14), "2023-11-14"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_plain_value_is_written_as_a_file_would_hold_it(
    value: object, text: str
) -> None:
    assert cells([value, None]).to_list() == [text, None]


def test_lists_of_plain_values_stay_lists() -> None:
    assert cells([["a", None], None, []]).to_list() == [["a", None], None, []]
    assert cells([[1]]).dtype == pl.List(pl.String)


@pytest.mark.parametrize(
    "values", [[b"bytes"], [{"a": 1}], ["text", ["list"]], [[b"x"]], [timedelta(1)]]
)
def test_what_is_no_text_is_marked(values: list[object]) -> None:
    assert cells(values).dtype == NOT_PLAIN


def test_batches_of_different_kinds_are_marked_and_empty_ones_agree() -> None:
    parts: list[Rows] = [[("a", None, "t")], [("b", None, ["l"])], [(None, 1, None)]]

    joined = table(iter(parts), ["x", "y", "z"])

    assert joined.schema == {"x": pl.String, "y": pl.String, "z": NOT_PLAIN}
    assert joined["x"].to_list() == ["a", "b", None]
    assert joined["y"].to_list() == [None, None, "1"]


def test_no_rows_are_a_table_of_text() -> None:
    assert table(iter([]), ["x"]).schema == {"x": pl.String}


def test_utc_is_what_is_written_whatever_the_server_says() -> None:
    here = datetime(2023, 11, 14, 22, 13, tzinfo=UTC)

    assert cells([here]).equals(cells([here.astimezone(CET)]))
