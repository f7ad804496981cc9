"""What every live page keeps to: it reads, it follows, it lets go."""

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.live import page as server_page
from shared import page
from shared.errors import ConfigError
from shared.page import Latest, events, page_app, plain

FOLDER = Path(server_page.__file__).parent
HERE = "http://127.0.0.1"
ROUTES = ["/", "/page.js", "/page.css", "/live.js", "/icon.svg"]
FIGURES = ["/v1/view", "/metrics", "/livez", "/readyz"]


@dataclass(frozen=True)
class Seen:
    """A view that any test can make."""

    number: int = 0
    epsilon: float = 1.0
    fault: str = ""


@dataclass(frozen=True, eq=False)
class Told(Collector):
    view: Seen

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("tacit_number", "A number.", self.view.number)


def an_app(look: Callable[[], Seen] = Seen) -> FastAPI:
    return page_app(
        look,
        FOLDER,
        unready=lambda view: [view.fault] if view.fault else [],
        figures=Told,
    )


def ask(app: FastAPI, path: str, method: str = "GET", host: str = "") -> httpx.Response:
    """What the app answers, without a network."""

    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            headers = {"Host": host} if host else {}
            return await client.request(method, path, headers=headers)

    return asyncio.run(once())


def broken() -> Seen:
    raise ConfigError("site.toml is not valid TOML")


@contextmanager
def served(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The app on a port of loopback, a free one if none is given, really served."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
        server = page._server(app, 0)
        thread = threading.Thread(target=server.run, args=([free],))
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"{HERE}:{free.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_the_view_is_json_and_what_is_not_finite_is_null() -> None:
    answer = ask(an_app(lambda: Seen(3, math.inf)), "/v1/view")

    assert answer.json() == {"number": 3, "epsilon": None, "fault": ""}


@pytest.mark.parametrize("path", [*ROUTES, *FIGURES])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_but_get_is_answered(path: str, method: str) -> None:
    answer = ask(an_app(), path, method)

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", [*ROUTES, *FIGURES, "/none"])
def test_every_answer_carries_the_headers_that_keep_others_out(path: str) -> None:
    headers = ask(an_app(), path).headers

    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", [*ROUTES, *FIGURES])
def test_a_name_that_was_bound_to_this_machine_from_elsewhere_is_refused(
    path: str,
) -> None:
    assert ask(an_app(), path, host="evil.example").status_code == 400
    assert ask(an_app(), path, host="localhost:80").status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/page.py", "/../page.py"])
def test_nothing_else_is_served(path: str) -> None:
    assert ask(an_app(), path).status_code == 404


@pytest.mark.parametrize("path", ROUTES)
def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_inline(
    path: str,
) -> None:
    text = ask(an_app(), path).text

    assert "//" not in text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
    assert not any(word in text for word in ("innerHTML", "onclick", "eval(", "style="))


def test_it_is_ready_unless_there_is_a_reason() -> None:
    unready = an_app(lambda: Seen(fault="no disk"))

    assert ask(an_app(), "/readyz").status_code == 200
    answer = ask(unready, "/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reasons": ["no disk"]}
    assert ask(unready, "/livez").status_code == 200


def test_a_fault_leaves_it_alive_and_says_so() -> None:
    app = an_app(broken)

    assert ask(app, "/livez").status_code == 200
    for path in ("/v1/view", "/readyz", "/metrics"):
        answer = ask(app, path)
        assert answer.status_code == 503
        assert answer.json() == {"fault": "site.toml is not valid TOML"}


def test_the_figures_are_those_of_the_view() -> None:
    assert "\ntacit_number 7.0\n" in ask(an_app(lambda: Seen(7)), "/metrics").text


def test_a_view_is_made_once_in_a_period_however_many_ask() -> None:
    made: list[Seen] = []

    def look() -> Seen:
        made.append(Seen())
        return made[-1]

    latest = Latest(look)

    asking = [threading.Thread(target=latest) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()

    assert len(made) == 1


async def first(stream: AsyncIterator[str], count: int) -> list[str]:
    return [await anext(stream) for _ in range(count)]


def test_a_view_is_sent_when_it_changes_and_only_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "PERIOD_S", 0.001)
    numbers = iter([1, 1, 1, 2, 2, 3])

    sent = asyncio.run(first(events(lambda: Seen(next(numbers))), 3))

    told = [json.loads(text.partition("data: ")[2])["number"] for text in sent]
    assert told == [1, 2, 3]


def test_a_silent_stream_has_a_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PERIOD_S", 0.001)
    monkeypatch.setattr(page, "HEARTBEAT_S", 0.003)

    sent = asyncio.run(first(events(Seen), 3))

    assert sent[1:] == [": still here\n\n"] * 2


def test_a_fault_is_an_event_and_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "PERIOD_S", 0.001)
    views = iter([broken, Seen])

    def look() -> Seen:
        return next(views)()

    sent = asyncio.run(first(events(look), 2))

    assert sent[0] == 'event: fault\ndata: "site.toml is not valid TOML"\n\n'
    assert sent[1].startswith("event: view\n")


def test_a_stream_ends_when_its_client_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PERIOD_S", 0.01)
    looked: list[float] = []

    def look() -> Seen:
        looked.append(time.monotonic())
        return Seen(len(looked))

    with (
        served(an_app(look)) as address,
        httpx.stream("GET", f"{address}/v1/stream") as answer,
    ):
        lines = answer.iter_lines()
        heard = [next(lines) for _ in range(5)]
        answer.close()
        time.sleep(0.1)
        gone = len(looked)
        time.sleep(0.1)

    assert heard.count("event: view") == 2
    assert len(looked) == gone


def test_an_open_stream_does_not_hold_a_server_that_is_told_to_end() -> None:
    with served(an_app()) as address, httpx.stream("GET", f"{address}/v1/stream"):
        begun = time.monotonic()

    assert time.monotonic() - begun < 5


def test_a_tuple_and_a_mapping_are_plain_to_the_bottom() -> None:
    @dataclass(frozen=True)
    class Deep:
        rows: tuple[dict[str, float], ...]

    assert plain(Deep(({"x": math.nan},))) == {"rows": [{"x": None}]}
