"""The routes: what each takes and gives, and how each refuses."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute

from client.serving.guard import Guarded
from client.serving.keys import Role, make, revoke
from shared.errors import StoreFailed
from shared.page import HEADERS
from tests.client.serving.api import (
    SECRET,
    Api,
    Broken,
    Crowded,
    answer,
    is_problem,
    liked,
)

OPEN = {"/livez", "/readyz", "/", "/page.css", "/icon.svg"}


def test_an_event_changes_the_next_answer(tmp_path: Path) -> None:
    api = Api(tmp_path)
    before = api.ask("POST", "/v1/recommendations", {"user": "u-1", "k": 3}).json()

    kept = api.ask("POST", "/v1/events", liked(1)).json()
    after = api.ask("POST", "/v1/recommendations", {"user": "u-1", "k": 3}).json()

    assert [one["item"] for one in before["items"]] == ["item-0", "item-1", "item-2"]
    assert kept == {"accepted": 1, "repeated": 0}
    assert [one["item"] for one in after["items"]] == ["item-0", "item-2", "item-3"]


def test_the_same_event_counts_once_alone_and_in_a_batch(tmp_path: Path) -> None:
    api = Api(tmp_path)
    api.ask("POST", "/v1/events", liked(1))

    kept = api.ask("POST", "/v1/events", [liked(1), liked(2), liked(2)]).json()

    assert kept == {"accepted": 1, "repeated": 2}


def test_events_of_every_kind_arrive_whole(tmp_path: Path) -> None:
    api = Api(tmp_path)
    now = int(time.time())
    mine = {"user": "u-1", "item": "item-1"}

    kept = api.ask(
        "POST",
        "/v1/events",
        [
            {"id": "1", "kind": "rate", "rating": 4, "time": 99, "shown": "l", **mine},
            {"id": "2", "kind": "review", "text": "Good\nso far", **mine},
            {"id": "3", "kind": "search", "text": "a quiet film", "user": "u-1"},
            {"id": "4", "kind": "view", "time": now + 10**6, **mine},
        ],
    )

    rated, reviewed, searched, viewed = api.service.events.values()
    assert kept.json()["accepted"] == 4
    assert (rated.rating, rated.time, rated.shown, rated.item) == (4, 99, "l", "item-1")
    assert (reviewed.text, reviewed.rating) == ("Good\nso far", None)
    assert (searched.text, searched.item) == ("a quiet film", "")
    assert now <= viewed.time <= now + 60


def test_a_wish_arrives_as_it_was_sent(tmp_path: Path) -> None:
    api = Api(tmp_path)
    wish = {
        "user": "u-1",
        "history": ["a", "b"],
        "query": "older",
        "conversation": "c",
        "about": {"age": "25"},
        "k": 7,
        "alpha": 0.25,
        "diversity": 1,
        "filters": {"year": {"low": 1990, "none_of": ["1995"]}},
        "candidates": [],
        "exclude": ["c"],
        "include_seen": True,
        "explain": True,
    }

    assert api.ask("POST", "/v1/recommendations", wish).status_code == 200
    ask = api.service.asked[0]
    assert (ask.user, ask.history, ask.query) == ("u-1", ("a", "b"), "older")
    assert (ask.conversation, ask.about, ask.k) == ("c", {"age": "25"}, 7)
    assert (ask.alpha, ask.diversity, ask.candidates) == (0.25, 1, ())
    assert (ask.filters["year"].low, ask.filters["year"].high) == (1990, None)
    assert ask.filters["year"].none_of == ("1995",)
    assert (ask.exclude, ask.include_seen, ask.explain) == (("c",), True, True)


def test_interests_are_told_edited_and_told_again(tmp_path: Path) -> None:
    api = Api(tmp_path)
    api.ask("POST", "/v1/events", liked(1))
    path, key = "/v1/users/u-1/interests", "attribute:genres:Sci-Fi"

    edited = api.ask("PUT", path, [{"interest": key, "state": "muted"}]).json()

    assert edited == api.ask("GET", path).json()
    assert [(i["key"], i["state"]) for i in edited["interests"]] == [(key, "muted")]


@pytest.mark.parametrize("user", ["a/b", "a b", "50%", "ü", "interests", "a/interests"])
def test_an_id_may_hold_anything_that_can_be_written(tmp_path: Path, user: str) -> None:
    api = Api(tmp_path)
    api.ask("POST", "/v1/events", liked(1, user))
    path = f"/v1/users/{quote(user, safe='')}"

    told = api.ask("GET", f"{path}/interests").status_code
    declared = api.ask("PUT", f"{path}/about", {"age": "25"}).status_code
    listed = api.ask("GET", "/v1/users").json()
    removed = api.ask("DELETE", path).status_code

    assert (told, declared, removed) == (200, 204, 204)
    assert listed == {"users": [user]}
    assert api.service.about == {user: {"age": "25"}}
    assert api.service.gone == [user]
    assert api.ask("GET", "/v1/users").json() == {"users": []}


def test_users_are_listed_page_by_page(tmp_path: Path) -> None:
    api = Api(tmp_path)
    api.ask("POST", "/v1/events", [liked(n, f"u-{n}") for n in range(5)])

    first = api.ask("GET", "/v1/users?limit=2").json()["users"]
    second = api.ask("GET", f"/v1/users?limit=2&after={first[-1]}").json()["users"]

    assert first + second == ["u-0", "u-1", "u-2", "u-3"]


def test_an_item_is_found_by_its_words_once_it_was_put(tmp_path: Path) -> None:
    api = Api(tmp_path)
    item = {"id": "new/1", "text": "A lighthouse", "attributes": {"genres": ["Drama"]}}

    one = api.ask("PUT", "/v1/items", item).json()
    more = api.ask("PUT", "/v1/items", [item, item | {"id": "new-2"}]).json()
    found = api.ask("GET", "/v1/items?search=lighthouse").json()["items"]
    similar = api.ask("GET", "/v1/items/new%2F1/similar?k=2").json()["items"]

    assert (one, more) == ({"accepted": 1}, {"accepted": 2})
    assert found == [{"id": i, "text": "A lighthouse"} for i in ("new/1", "new-2")]
    assert len(similar) == 2


def test_the_model_is_told(tmp_path: Path) -> None:
    told = Api(tmp_path).ask("GET", "/v1/model").json()

    assert (told["release"], told["items"], told["fresh"]) == ("spring/3", 1682, 1)


def test_what_is_not_there_is_not_repeated(tmp_path: Path) -> None:
    api = Api(tmp_path)

    paths = f"/v1/users/{SECRET}/interests", f"/v1/items/{SECRET}/similar", f"/{SECRET}"
    for path in paths:
        refused = api.ask("GET", path)
        assert is_problem(refused, 404)
        assert SECRET not in refused.text


def test_it_says_whether_it_lives_and_is_ready_without_a_key(tmp_path: Path) -> None:
    api = Api(tmp_path)
    lives = api.ask("GET", "/livez", headers={"X-API-Key": ""})
    ready = api.ask("GET", "/readyz", headers={"X-API-Key": ""})

    api.service.faults = ["no release is in force"]
    unready = api.ask("GET", "/readyz", headers={"X-API-Key": ""})

    assert (lives.text, ready.text) == ("alive\n", "ready\n")
    assert is_problem(unready, 503)
    assert unready.json()["errors"][0]["detail"] == "no release is in force"


@pytest.mark.parametrize(
    ("role", "method", "path", "body"),
    [
        ("read", "POST", "/v1/recommendations", {}),
        ("write", "POST", "/v1/events", liked()),
        ("read", "GET", "/v1/users/u-1/interests", None),
        ("write", "PUT", "/v1/users/u-1/about", {}),
        ("admin", "GET", "/v1/users", None),
        ("admin", "DELETE", "/v1/users/u-1", None),
        ("read", "GET", "/v1/items", None),
        ("admin", "PUT", "/v1/items", {"id": "1", "text": "t"}),
        ("read", "GET", "/v1/model", None),
        ("read", "GET", "/openapi.json", None),
    ],
)
def test_each_route_needs_a_key_with_its_role_and_no_other(
    tmp_path: Path, role: Role, method: str, path: str, body: object
) -> None:
    api = Api(tmp_path)
    api.ask("POST", "/v1/events", liked(9))
    roles: list[Role] = ["read", "write", "admin"]
    keys = {name: make(tmp_path, name, [name]) for name in roles}

    anonymous = api.ask(method, path, body, headers={"X-API-Key": ""})
    wrong = api.ask(method, path, body, headers={"X-API-Key": SECRET})
    by_role = {
        name: api.ask(
            method,
            path,
            body,
            headers={"X-API-Key": "", "Authorization": f"Bearer {key}"},
        )
        for name, key in keys.items()
    }

    assert is_problem(anonymous, 401)
    assert is_problem(wrong, 401)
    assert wrong.headers["www-authenticate"] == "Bearer"
    assert SECRET not in wrong.text
    for name, told in by_role.items():
        allowed = name == role
        assert told.status_code in (200, 204) if allowed else is_problem(told, 403)


def test_every_route_but_the_open_ones_is_guarded(tmp_path: Path) -> None:
    routes = [r for r in Api(tmp_path).app.routes if isinstance(r, APIRoute)]

    plain = {r.path for r in routes if not isinstance(r, Guarded)}
    scripts = {path for path in plain if path.endswith(".js")}

    assert len(routes) - len(plain) >= 12
    assert plain - scripts <= OPEN


def test_a_route_without_a_role_cannot_be_made(tmp_path: Path) -> None:
    app = Api(tmp_path).app

    with pytest.raises(KeyError, match="security"):
        app.get("/v1/oversight")(lambda: None)


def test_a_revoked_key_and_a_new_one_count_from_the_next_request(
    tmp_path: Path,
) -> None:
    api = Api(tmp_path)
    other = make(tmp_path, "other", ["read"])

    revoke(tmp_path, "everything")

    assert is_problem(api.ask("GET", "/v1/model"), 401)
    told = api.ask("GET", "/v1/model", headers={"X-API-Key": other})
    assert told.status_code == 200


def test_keys_that_cannot_be_read_let_nobody_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = Api(tmp_path)
    path = tmp_path / "serving" / "keys.toml"

    path.write_text("[", "utf-8")

    refused = api.ask("GET", "/v1/model")
    assert is_problem(refused, 503)
    assert str(tmp_path) not in refused.text
    assert "keys.toml cannot be read" in caplog.text
    assert api.ask("GET", "/livez").status_code == 200


def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    api = Api(tmp_path, requests_per_minute=3)
    told = [api.ask("GET", "/v1/model") for _ in range(4)]

    other = make(tmp_path, "other", ["read"])
    others = api.ask("GET", "/v1/model", headers={"X-API-Key": other})

    assert [one.status_code for one in told[:3]] == [200] * 3
    assert is_problem(told[3], 429)
    assert 1 <= int(told[3].headers["retry-after"]) <= 20
    assert others.status_code == 200


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_long_is_refused_however_it_comes(
    tmp_path: Path, *, declared: bool
) -> None:
    api = Api(tmp_path, largest_body_kib=1)
    whole = b'{"query": "' + b"x" * 2000 + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(whole), 100):
            yield whole[begin : begin + 100]

    headers = {"X-API-Key": api.key, "Content-Type": "application/json"}
    content = whole if declared else chunks()
    sent = answer(
        api.app, "POST", "/v1/recommendations", content=content, headers=headers
    )

    assert is_problem(asyncio.run(sent), 413)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": ""},
        {"Content-Encoding": "gzip"},
    ],
)
def test_a_body_of_another_type_is_refused(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    refused = Api(tmp_path).ask("POST", "/v1/recommendations", {}, headers=headers)

    assert is_problem(refused, 415)


def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    api = Api(tmp_path, timeout_s=0.1)
    api.service.release.clear()

    late = api.ask("POST", "/v1/recommendations", {})

    assert is_problem(late, 503)
    assert late.headers["retry-after"] == "1"


def test_more_requests_than_may_wait_are_turned_away_and_the_rest_answered(
    tmp_path: Path,
) -> None:
    api = Api(tmp_path, most_waiting=3)
    headers = {"X-API-Key": api.key, "Content-Type": "application/json"}

    async def crowd() -> list[int]:
        api.service.release.clear()
        path = "/v1/recommendations"
        asked = [
            asyncio.create_task(
                answer(api.app, "POST", path, content="{}", headers=headers)
            )
            for _ in range(5)
        ]
        while sum(one.done() for one in asked) < 2:
            await asyncio.sleep(0)
        api.service.release.set()
        return sorted(told.status_code for told in await asyncio.gather(*asked))

    assert asyncio.run(crowd()) == [200, 200, 200, 503, 503]
    assert api.ask("POST", "/v1/recommendations", {}).status_code == 200


def test_a_crash_is_told_to_nobody_but_its_class_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = Api(tmp_path, Broken())

    with caplog.at_level(logging.DEBUG):
        crashed = api.ask("POST", "/v1/recommendations", {"user": SECRET})

    assert is_problem(crashed, 500)
    assert SECRET not in crashed.text + caplog.text
    assert "RuntimeError" not in crashed.text
    assert "RuntimeError at " in caplog.text


@pytest.mark.parametrize("error", [StoreFailed])
def test_a_service_that_cannot_now_is_asked_again_later(
    tmp_path: Path, error: type[StoreFailed]
) -> None:
    told = Api(tmp_path, Crowded(error)).ask("POST", "/v1/recommendations", {})

    assert is_problem(told, 503)
    assert "not at this moment" not in told.json()["detail"]  # the log says why
    assert told.headers["retry-after"] == "1"


def test_input_that_the_service_refuses_is_the_senders_fault(tmp_path: Path) -> None:
    unknown = {"filters": {SECRET: {"any_of": ["1"]}}}

    told = Api(tmp_path).ask("POST", "/v1/recommendations", unknown)

    assert is_problem(told, 400)
    assert "genres, year" in told.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "takes"),
    [
        ("GET", "/v1/recommendations", "POST"),
        ("POST", "/v1/users/u-1/interests", "DELETE, GET, PUT"),
        ("PATCH", "/v1/items", "GET, PUT"),
        ("OPTIONS", "/v1/events", "POST"),
        ("TRACE", "/v1/model", "GET"),
    ],
)
def test_another_method_is_told_which_there_are(
    tmp_path: Path, method: str, path: str, takes: str
) -> None:
    refused = Api(tmp_path).ask(method, path)

    assert is_problem(refused, 405)
    assert refused.headers["allow"] == takes


def test_only_its_head_is_told_where_only_that_is_asked(tmp_path: Path) -> None:
    told = Api(tmp_path).ask("HEAD", "/livez")

    assert (told.status_code, told.headers["allow"], told.text) == (405, "GET", "")


def test_a_trailing_slash_is_another_path(tmp_path: Path) -> None:
    assert is_problem(Api(tmp_path).ask("GET", "/v1/model/"), 404)


@pytest.mark.parametrize("host", ["evil.example", "", "127.0.0.1.evil.example", "[::1"])
def test_it_answers_to_its_own_names_alone(tmp_path: Path, host: str) -> None:
    refused = Api(tmp_path).ask("GET", "/livez", headers={"Host": host})

    assert is_problem(refused, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8080"])
def test_its_own_names_come_with_any_port(tmp_path: Path, host: str) -> None:
    told = Api(tmp_path).ask("GET", "/livez", headers={"Host": host})

    assert told.status_code == 200


def test_every_answer_has_the_headers_and_none_lets_another_page_read(
    tmp_path: Path,
) -> None:
    api = Api(tmp_path)
    origin = {"Origin": "https://evil.example"}
    answers = [
        api.ask("GET", "/livez", headers=origin),
        api.ask("POST", "/v1/recommendations", {}, headers=origin),
        api.ask("GET", "/nothing", headers=origin),
        api.ask("OPTIONS", "/v1/events", headers=origin),
        api.ask("GET", "/livez", headers={"Host": "evil.example"}),
    ]

    for told in answers:
        assert {name: told.headers.get(name) for name in HEADERS} == HEADERS
        assert not [n for n in told.headers if n.startswith("access-control")]


def test_the_page_is_open_and_made_of_its_own_files(tmp_path: Path) -> None:
    api = Api(tmp_path)
    page = api.ask("GET", "/", headers={"X-API-Key": ""})
    style = api.ask("GET", "/page.css", headers={"X-API-Key": ""})

    assert page.headers["content-type"].startswith("text/html")
    assert style.headers["content-type"].startswith("text/css")
