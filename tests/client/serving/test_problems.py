"""A problem document names place and limit, and never what was sent."""

from pathlib import Path
from typing import Any

import pytest

from client.serving.problems import problem
from tests.client.serving.api import SECRET, Api, is_problem, liked


def refused(folder: Path, method: str, path: str, body: object) -> list[Any]:
    """The faults of a request that breaks the schema, none of them repeating it."""
    told = Api(folder).ask(method, path, body)
    assert is_problem(told, 422)
    assert SECRET not in told.text
    return [(fault["place"], fault["detail"]) for fault in told.json()["errors"]]


def test_it_is_as_the_rfc_says() -> None:
    told = problem(404, "no such item", {"X-More": "1"})

    assert told.media_type == "application/problem+json"
    assert told.headers["x-more"] == "1"
    assert bytes(told.body) == (
        b'{"title": "Not Found", "status": 404, "detail": "no such item", '
        b'"type": "about:blank", "errors": []}'
    )


def test_every_fault_of_a_body_is_told_at_once(tmp_path: Path) -> None:
    wish = {"k": 101, "diversity": -1, "history": [""], "alpha": SECRET}

    found = refused(tmp_path, "POST", "/v1/recommendations", wish)

    assert found == [
        ("body/history/0", "String should have at least 1 character"),
        ("body/k", "Input should be less than or equal to 100"),
        ("body/alpha", "Input should be a valid number"),
        ("body/diversity", "Input should be greater than or equal to 0"),
    ]


def test_a_name_that_the_sender_chose_is_left_out(tmp_path: Path) -> None:
    wish = {SECRET: 1, "filters": {SECRET: {"low": SECRET}}, "about": {"a": 1}}

    found = refused(tmp_path, "POST", "/v1/recommendations", wish)

    assert found == [
        ("body/about", "Input should be a valid string"),
        ("body/filters/low", "Input should be a valid number"),
        ("body", "holds a field that is not known"),
    ]


def test_a_fault_in_a_batch_names_its_place_and_an_unknown_kind_the_known(
    tmp_path: Path,
) -> None:
    batch = [liked(1), liked(2, kind=SECRET), liked(3, kind="rate", rating=9)]

    (at, kinds), rating = refused(tmp_path, "POST", "/v1/events", batch)

    assert at == "body/1"
    assert kinds.startswith("its kind is none of 'view', 'click'")
    assert rating == ("body/2/rating", "Input should be less than or equal to 5")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (f"/v1/users/{SECRET}%0a/interests", "path/user"),
        (f"/v1/users/{'x' * 201}/interests", "path/user"),
        ("/v1/users//interests", "path/user"),
        (f"/v1/users?limit={SECRET}", "query/limit"),
        (f"/v1/items?search={SECRET}{'x' * 200}", "query/search"),
        ("/v1/items/item-1/similar?k=0", "query/k"),
    ],
)
def test_a_fault_in_an_address_names_its_part(
    tmp_path: Path, path: str, place: str
) -> None:
    if "%0a" in path:  # no path of ours has an end of line in it
        assert is_problem(Api(tmp_path).ask("GET", path), 404)
    else:
        assert [at for at, _ in refused(tmp_path, "GET", path, None)] == [place]


def test_a_control_character_is_called_that(tmp_path: Path) -> None:
    found = refused(tmp_path, "POST", "/v1/events", liked(1, f"{SECRET}\x00"))

    assert found == [("body/user", "holds a control character")]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'"\\ud800"', b"[" * 10_000, b"NaN", b"1" * 9_000, b"{'a':1}"],
)
def test_what_is_not_json_is_said_to_be_none(tmp_path: Path, body: bytes) -> None:
    told = Api(tmp_path).ask("POST", "/v1/recommendations", body)

    assert is_problem(told, 422 if body == b"" else 400)
