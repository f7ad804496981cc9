"""What leaves a site in a run: all of it is recorded and held against an allow-list."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

import client.round
from client.data import SiteData, load
from shared.wire import open_plan, size
from simulations.grid import LocalGrid
from tests.end_to_end.runs import (
    A_USER,
    arguments,
    ledger_lines,
    naming_users,
    run,
    scenario,
    tacit,
)

IDENTITY = {"site": str, "run": str, "number": int, "plan": str, "ledger-head": str}


@dataclass
class Traffic:
    """Every instruction and its reply, as Flower would carry them."""

    messages: list[tuple[Message, Message]] = field(default_factory=list)

    def replies(self) -> list[RecordDict]:
        assert not any(reply.has_error() for _, reply in self.messages)
        return [reply.content for _, reply in self.messages]

    def refusals(self) -> list[dict[str, object]]:
        found = (content.get("refusal") for content in self.replies())
        return [dict(record) for record in found if isinstance(record, ConfigRecord)]

    def raw(self) -> bytes:
        """Everything that crossed, as text."""
        return repr(
            [(str(a.content), str(b.content)) for a, b in self.messages]
        ).encode()


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Iterator[Traffic]:
    seen, honest = Traffic(), LocalGrid._answer

    def answer(grid: LocalGrid, message: Message) -> Message:
        reply = honest(grid, message)
        seen.messages.append((message, reply))
        return reply

    monkeypatch.setattr(LocalGrid, "_answer", answer)
    yield seen
    assert seen.messages  # or nothing was recorded, and so nothing was shown


def fail_to_load(monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Let reading data fail as a careless library would: the text quotes a user."""
    failures: list[Path] = []

    def failing(folder: Path) -> SiteData:
        if len(failures) < times:
            failures.append(folder)
            raise ValueError("user-00001 liked film-0007 at 2025-01-01")
        return load(folder)

    monkeypatch.setattr(client.round, "load", failing)


def test_only_the_documented_records_cross_the_wire(
    data: Path, tmp_path: Path, traffic: Traffic
) -> None:
    made = run(scenario(data), tmp_path)

    assert len(traffic.messages) == 2 * 2
    sizes = [size(content) for content in traffic.replies()]
    assert sum(site["bytes_up"] for site in made["sites"]) == sum(sizes)
    for message, reply in traffic.messages:
        assert set(message.content) == {"plan", "adapter"}
        assert set(message.content.config_records["plan"]) == {"json"}
        asked, start = open_plan(message.content)
        assert not reply.has_error()
        assert set(reply.content) == {"update", "delta"}
        update, delta = reply.content["update"], reply.content["delta"]
        assert isinstance(update, ConfigRecord)
        assert isinstance(delta, ArrayRecord)
        assert {key: type(value) for key, value in update.items()} == IDENTITY
        assert (update["run"], update["number"]) == (asked.run, asked.number)
        assert update["site"] in asked.sites
        assert update["plan"] == asked.digest()
        assert re.fullmatch("[0-9a-f]{64}", str(update["ledger-head"]))
        assert set(delta) == set(asked.shapes) == set(start)
        for name, array in delta.items():
            assert array.dtype == "float32"
            assert array.shape == asked.shapes[name]
            plain = np.zeros(asked.shapes[name], np.float32)
            assert len(array.data) == len(ArrayRecord([plain])["0"].data)


def test_an_error_that_quotes_a_user_reaches_the_server_as_a_class_name(
    data: Path,
    tmp_path: Path,
    traffic: Traffic,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    fail_to_load(monkeypatch, times=99)

    failed = tacit(*arguments(scenario(data), tmp_path / "out"))

    assert failed.code == 1
    assert "site-1: InternalError, site-2: InternalError" in failed.stderr
    assert traffic.refusals() == [
        {"site": "site-1", "reason": "InternalError"},
        {"site": "site-2", "reason": "InternalError"},
    ]
    said = failed.stdout + failed.stderr + caplog.text
    for text in (said.encode(), traffic.raw()):
        assert not re.search(A_USER, text)
        assert b"film-0007" not in text


def test_a_site_that_fails_once_comes_back_and_pays_again(
    data: Path, tmp_path: Path, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its popularity was charged and perhaps computed before it failed."""
    fail_to_load(monkeypatch, times=1)

    made = run(scenario(data, "budgets.site-1=20", sites=3), tmp_path)

    assert made["rounds"][0]["refused"] == {"site-1": "InternalError"}
    assert made["rounds"][1]["sites_ok"] == ["site-1", "site-2", "site-3"]
    assert traffic.refusals() == [{"site": "site-1", "reason": "InternalError"}]
    charged = [
        line["what"]
        for line in ledger_lines(tmp_path, "site-1")
        if line["state"] == "planned"
    ]
    assert charged == ["popularity", "popularity", "training"]
    for path in (tmp_path / "events.jsonl", tmp_path / "report.json"):
        assert not re.search(A_USER, path.read_bytes())


def test_no_user_is_named_outside_the_data_of_a_site(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in reports, events, ledgers, versions, kept tensors or logs."""
    caplog.set_level(logging.DEBUG)
    arms = ["popularity", "text", "federated", "federated-no-dp"]

    printed = tacit(*arguments(scenario(data, arms=arms), tmp_path / "out"))

    assert printed.code == 0
    names = {path.name for path in (tmp_path / "out").rglob("*")}
    assert {"report.json", "events.jsonl", "ledger.sqlite", "manifest.json"} <= names
    assert naming_users(tmp_path / "out") == []
    assert not re.search(A_USER, (printed.stdout + printed.stderr).encode())
    assert not re.search(A_USER, caplog.text.encode())


def test_the_search_for_users_would_find_one(data: Path) -> None:
    people = [history.user for history in load(data).histories]

    assert len(people) == 90
    assert all(re.match(A_USER, user.encode()) for user in people)
