"""Attribute values as numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.serving.numbers import span, spans_of


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("1994", (1994, 1994)),
        (" 1994 ", (1994, 1994)),
        ("1990s", (1990, 1999)),
        ("19.99", (19.99, 19.99)),
        ("-3", (-3, -3)),
        ("Heat (1995)", None),
        ("1990-1999", None),
        ("1990ss", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e5", None),
        ("٣", None),
        ("1\n2", None),
        ("9" * 400, None),
    ],
)
def test_a_value_reads_as_a_number_or_as_none(
    value: str, wanted: tuple[float, float] | None
) -> None:
    assert span(value) == wanted


@given(st.text(max_size=40))
def test_no_text_makes_reading_fail_and_what_is_read_is_finite(value: str) -> None:
    read = span(value)

    assert read is None or all(math.isfinite(bound) for bound in read)


def test_a_decade_lies_within_bounds_that_meet_it() -> None:
    spans = spans_of(
        {"1990s": np.array([0, 2]), "2003": np.array([1]), "?": np.array([3])}
    )

    assert spans.within(1995, None).tolist() == [0, 2, 1]
    assert spans.within(None, 1990).tolist() == [0, 2]
    assert spans.within(2000, 2002).tolist() == []


def test_an_attribute_without_numbers_has_no_spans() -> None:
    assert spans_of({"horror": np.array([0])}).within(None, None).tolist() == []
