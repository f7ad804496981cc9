"""Every list, text and number of a request is bounded, and nothing is guessed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from client.serving.events import is_against, strength
from client.serving.schemas import Edits, Happened, Happenings, Items, Wish
from tests.client.serving.api import SECRET, liked

KINDS: dict[str, TypeAdapter[Any]] = {
    "wish": TypeAdapter(Wish),
    "events": TypeAdapter(Happenings),
    "items": TypeAdapter(Items),
    "edits": TypeAdapter(Edits),
}
ITEM = {"id": "1", "text": "t"}
EDIT = {"interest": "1", "state": "none"}


def takes(kind: str, value: object) -> bool:
    try:
        KINDS[kind].validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("wish", {"k": 100, "history": ["x" * 200] * 1000, "query": "q" * 500}),
        ("wish", {"candidates": ["x"] * 1000, "exclude": ["x"] * 1000}),
        ("wish", {"user": "", "candidates": None, "query": "two\nlines\tand"}),
        ("events", [liked(n) for n in range(1000)]),
        ("events", liked(1, kind="rate", rating=1)),
        ("events", liked(1, time=0)),
        ("events", liked(1) | {"user": " a b ", "id": "好"}),
        ("items", [ITEM] * 1000),
        ("edits", [EDIT] * 1000),
    ],
)
def test_what_is_just_within_bounds_is_taken(kind: str, value: object) -> None:
    assert takes(kind, value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("wish", {"k": 0}),
        ("wish", {"k": 101}),
        ("wish", {"k": "10"}),
        ("wish", {"k": 1.5}),
        ("wish", {"k": True}),
        ("wish", {"alpha": 1.01}),
        ("wish", {"alpha": float("nan")}),
        ("wish", {"diversity": "0"}),
        ("wish", {"filters": {"year": {"low": float("inf")}}}),
        ("wish", {"filters": {"year": {"any": ["1"]}}}),
        ("wish", {"filters": {"year": ["1"]}}),
        ("wish", {"history": ["x"] * 1001}),
        ("wish", {"history": "x"}),
        ("wish", {"history": ["x" * 201]}),
        ("wish", {"user": "x" * 201}),
        ("wish", {"user": "a\x1b[2J"}),
        ("wish", {"user": "a\x85"}),
        ("wish", {"user": None}),
        ("wish", {"user": " "}),
        ("wish", {"user": "\u2003\u3000"}),
        ("wish", {"history": ["  "]}),
        ("events", liked(1) | {"user": " "}),
        ("events", liked(1) | {"id": " \u00a0"}),
        ("wish", {"query": "q" * 501}),
        ("wish", {"query": "\x00"}),
        ("wish", {"explain": 1}),
        ("wish", {"about": {"a": "b" * 201}}),
        ("wish", {"about": {str(n): "b" for n in range(51)}}),
        ("wish", {"about": {"": "b"}}),
        ("wish", []),
        ("events", []),
        ("events", [liked(n) for n in range(1001)]),
        ("events", liked(1, kind="rate")),
        ("events", liked(1, rating=3)),
        ("events", liked(1, kind="rate", rating=0.5)),
        ("events", liked(1, kind="review")),
        ("events", liked(1, kind="search", text="t")),
        ("events", liked(1, time=-1)),
        ("events", liked(1, time=1.7e12)),
        ("events", liked(1, time=1_700_000_000_000)),
        ("events", liked(1, sentiment=1.0)),
        ("events", liked(1) | {"item": ""}),
        ("events", {"kind": "search", "id": "1", "user": "u", "text": ""}),
        ("events", [[liked(1)]]),
        ("events", "x"),
        ("items", {"id": "1", "text": ""}),
        ("items", ITEM | {"attributes": {"a": "b"}}),
        ("items", ITEM | {"attributes": {"a": ["b"] * 101}}),
        ("items", [ITEM] * 1001),
        ("edits", [EDIT | {"state": "loved"}]),
        ("edits", EDIT),
        ("edits", []),
    ],
)
def test_what_is_out_of_bounds_is_refused(kind: str, value: object) -> None:
    assert not takes(kind, value)


@given(
    kind=st.sampled_from(["view", "click", "like", "buy", "skip", "hide"]),
    time=st.integers(0, 4_102_444_800),
    now=st.integers(0, 4_102_444_800),
)
def test_nothing_happens_later_than_now(kind: str, time: int, now: int) -> None:
    happened = TypeAdapter(Happened).validate_python(liked(1, kind=kind, time=time))

    event = happened.meant(now)

    assert event.time == min(time, now)
    assert event.kind == kind
    assert strength(event) >= 0
    assert is_against(event) == (kind in {"skip", "hide"})


@pytest.mark.parametrize("shown", [repr, str, "{!r}".format])
def test_no_request_shows_what_it_holds(shown: Any) -> None:
    wish = Wish(user=SECRET, query=SECRET, about={SECRET: SECRET})
    event = TypeAdapter(Happened).validate_python(liked(1, SECRET))
    held: list[BaseModel | object] = [wish, event, wish.meant(), event.meant(0)]

    assert not [one for one in held if SECRET in shown(one)]
