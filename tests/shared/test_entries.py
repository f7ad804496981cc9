"""One line of a ledger: exactly a known state, exactly its fields, written one way."""

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.entries import (
    GENESIS,
    STATES,
    canonical,
    finite,
    hash_after,
    parse,
)

DATE = "2026-01-01T00:00:00+00:00"
VALUES = {str: "x", int: 3, float: 0.5, bool: True, list: ["a"], dict: {"a": 1}}


def body(state: str, **changes: Any) -> dict[str, Any]:
    """Fields of a state, each of the first type that it may have."""
    usual = {name: VALUES[kinds[0]] for name, kinds in STATES[state].items()}
    made = {**usual, "state": state, "date": DATE, **changes}
    return {name: value for name, value in made.items() if value is not ...}


@pytest.mark.parametrize("state", STATES)
def test_a_line_of_every_state_comes_back_as_it_was_written(state: str) -> None:
    assert parse(canonical(body(state))) == body(state)


def test_there_are_five_states_and_none_has_a_field_for_data() -> None:
    assert sorted(STATES) == ["opened", "planned", "policy", "refused", "sealed"]
    assert {name for fields in STATES.values() for name in fields} == {
        *("n", "state", "date", "prev"),
        *("format", "site", "unit", "relation", "delta", "key", "limits"),
        *("run", "round", "what", "plan", "code", "before", "after", "reason"),
        *("mechanism", "q", "sigma", "steps", "clip"),
        *("planned", "leaves", "sha256", "bytes", "tensors"),
    }


@pytest.mark.parametrize("state", STATES)
def test_a_field_too_few_or_too_many_is_named(state: str) -> None:
    for name in STATES[state].keys() - {"state"}:
        with pytest.raises(ValueError, match=f"^unknown or missing: {name}$"):
            parse(canonical(body(state, **{name: ...})))
    with pytest.raises(ValueError, match=r"^unknown or missing: batch$"):
        parse(canonical(body(state, batch=32)))


@pytest.mark.parametrize("state", STATES)
def test_a_field_of_any_other_type_is_named(state: str) -> None:
    others = [*VALUES.values(), None]
    for name, kinds in STATES[state].items():
        for value in others:
            if name not in {"state", "date"} and type(value) not in kinds:
                with pytest.raises(ValueError, match=f"^wrong type: {name}$"):
                    parse(canonical(body(state, **{name: value})))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{} ", "not canonical JSON"),
        ('{"n":0,"n":0}', "not canonical JSON"),
        ('{"a": 1}', "not canonical JSON"),
        ('{"b":1,"a":1}', "not canonical JSON"),
        ('{"a":"é"}', "not canonical JSON"),
        ('{"a":1e0}', "not canonical JSON"),
        ('{"a":NaN}', "Out of range float"),
        ('{"a":1e999}', "Out of range float"),
        ("9" * 16, "a number of 16 digits"),
        ('{"a":' + "9" * 9999 + "}", "a number of 9999 digits"),
        ("{}", "unknown state 'None'"),
        ('{"state":[]}', r"unknown state '\[\]'"),
        ('{"state":"released"}', "unknown state 'released'"),
    ],
)
def test_what_is_no_canonical_object_of_a_known_state_is_refused(
    line: str, fault: str
) -> None:
    with pytest.raises(ValueError, match=f"^{fault}"):
        parse(line)


@pytest.mark.parametrize(
    ("date", "fault"),
    [
        ("2026-01-01T00:00:00", "date: no offset"),
        ("yesterday", "Invalid isoformat"),
        ("2026-13-01T00:00:00+00:00", "month must be in"),
    ],
)
def test_a_date_is_a_moment(date: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse(canonical(body("refused", date=date)))


def test_what_is_wrong_with_a_line_is_told_without_the_line() -> None:
    line = canonical(body("refused", run="somebody", round="somebody"))

    with pytest.raises(ValueError, match="round") as caught:
        parse(line)

    assert "somebody" not in str(caught.value)


scalars = st.none() | st.booleans() | st.integers(-99, 99) | st.text() | st.floats()


@given(made=st.dictionaries(st.text(), scalars | st.lists(scalars)))
def test_equal_fields_give_one_line_and_what_json_lacks_gives_none(
    made: dict[str, Any],
) -> None:
    turned = dict(reversed(made.items()))
    try:
        line = canonical(made)
    except ValueError:
        values = str([*made.values()])
        assert "nan" in values or "inf" in values
    else:
        assert canonical(turned) == line
        assert line.isascii()
        assert "\n" not in line
        assert json.loads(line) == made


def test_a_hash_covers_the_line_and_the_hash_before_it() -> None:
    by_hand = hashlib.sha256(GENESIS.encode() + b"{}").hexdigest()

    assert hash_after(GENESIS, "{}") == by_hand
    assert hash_after(by_hand, "{}") != by_hand
    assert hash_after(GENESIS, "{} ") != by_hand


def test_an_infinite_number_is_written_as_none() -> None:
    assert [finite(value) for value in (0.5, math.inf, -math.inf)] == [0.5, None, None]
