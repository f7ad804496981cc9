"""What leaves a site in a run: all of it is recorded and held against an allow-list."""

import json
import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

import client.workbench
from client.data import SiteData, load
from client.site import open_site
from server.events import read_events
from shared.accounting import epsilon
from shared.encoder import open_encoder
from shared.ledger_file import read_ledger
from shared.protocol import RoundPlan
from shared.sealing import metric_bytes, update_bytes
from shared.wire import open_plan, open_reply, size
from shared.witness import Witness, witness_from
from simulations.grid import LocalGrid
from tests.end_to_end.runs import (
    A_USER,
    arguments,
    charged_events,
    ledger_lines,
    measured,
    naming_users,
    report_of,
    run,
    scenario,
    seals,
    tacit,
)

SITES = ("site-1", "site-2")
METRIC_SIGMA = 8.0
ROUND = {"site": str, "run": str, "number": int, "plan": str}
ENVELOPE = {  # every record of a reply beside the tensors, with every field of it
    "update": ROUND | {"ledger-head": str, "scales": bytes},
    "metric": ROUND | {"name": str, "value": float},
    "witness": {"site": str, "key": str, "entries": int, "head": str, "signature": str},
}


@dataclass(frozen=True)
class Exchange:
    """An instruction, its reply, and the end of the site's ledger as it was sent."""

    site: str
    asked: Message
    reply: Message
    ledger: Witness

    def plan(self) -> RoundPlan:
        return open_plan(self.asked.content)[0]

    def config(self, name: str) -> dict[str, Any]:
        return dict(self.reply.content.config_records[name])


@dataclass
class Traffic:
    """Every instruction and its reply, as Flower would carry them."""

    exchanges: list[Exchange] = field(default_factory=list)

    def of(self, site: str) -> list[Exchange]:
        return [one for one in self.exchanges if one.site == site]

    def replies(self) -> list[RecordDict]:
        assert not any(one.reply.has_error() for one in self.exchanges)
        return [one.reply.content for one in self.exchanges]

    def refusals(self) -> list[dict[str, object]]:
        found = (content.get("refusal") for content in self.replies())
        return [dict(record) for record in found if isinstance(record, ConfigRecord)]

    def raw(self) -> bytes:
        """Everything that crossed, as text."""
        both = [(str(a.asked.content), str(a.reply.content)) for a in self.exchanges]
        return repr(both).encode()


@contextmanager
def recorded() -> Iterator[Traffic]:
    """Collect what crosses the grid inside the block."""
    seen, honest = Traffic(), LocalGrid._answer

    def answer(grid: LocalGrid, message: Message) -> Message:
        reply = honest(grid, message)
        node = message.metadata.dst_node_id
        folder = Path(str(grid._contexts[node].node_config["site"]))
        end = read_ledger(folder / "ledger.sqlite").witness
        seen.exchanges.append(Exchange(grid._names[node], message, reply, end))
        return reply

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalGrid, "_answer", answer)
        yield seen
    assert seen.exchanges  # or nothing was recorded, and so nothing was shown


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    with recorded() as seen:
        yield seen


@dataclass(frozen=True)
class Recorded:
    """A finished run that asked for metrics, and all that crossed in it."""

    out: Path
    made: dict[str, Any]
    traffic: Traffic


@pytest.fixture(scope="module")
def whole_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    out = tmp_path_factory.mktemp("recorded")
    with recorded() as seen:
        made = run(measured(scenario(data), METRIC_SIGMA), out)
    return Recorded(out, made, seen)


def fail_to_load(monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Let reading data fail as a careless library would: the text quotes a user."""
    failures: list[Path] = []

    def failing(folder: Path, of: Path) -> SiteData:
        if len(failures) < times:
            failures.append(folder)
            raise ValueError("user-00001 liked film-0007 at 2025-01-01")
        return load(folder, of)

    monkeypatch.setattr(client.workbench, "load", failing)


def test_each_site_was_asked_once_in_each_round(whole_run: Recorded) -> None:
    asked = [(one.plan().number, one.site) for one in whole_run.traffic.exchanges]

    assert asked == [(number, site) for number in (1, 2) for site in SITES]


def test_only_the_documented_records_and_fields_leave(whole_run: Recorded) -> None:
    for one in whole_run.traffic.exchanges:
        assert not one.reply.has_error()
        assert set(one.reply.content) == {*ENVELOPE, "delta"}
        for name, fields in ENVELOPE.items():
            found = {key: type(value) for key, value in one.config(name).items()}
            assert found == fields
    sizes = [size(content) for content in whole_run.traffic.replies()]
    assert sum(site["bytes_up"] for site in whole_run.made["sites"]) == sum(sizes)


def test_every_text_of_a_reply_is_public_or_a_hash(whole_run: Recorded) -> None:
    for one in whole_run.traffic.exchanges:
        asked = one.plan()
        identity = {"site": one.site, "run": asked.run, "number": asked.number}
        identity |= {"plan": asked.digest()}
        update, metric, witness = map(one.config, ENVELOPE)
        head, value = update.pop("ledger-head"), metric.pop("value")
        assert update.pop("scales") == b""  # of int8 alone
        assert update == identity
        assert metric == {**identity, "name": "ndcg@10"}
        assert value == float(np.float32(value))
        assert witness.pop("site") == one.site
        assert 2 < witness.pop("entries") < 20
        for digest in (head, *witness.values()):
            assert re.fullmatch("([0-9a-f]{64}){1,2}", str(digest))


def test_the_tensors_of_a_reply_are_those_of_the_policy_and_of_the_encoder(
    whole_run: Recorded,
) -> None:
    for one in whole_run.traffic.exchanges:
        delta, asked = one.reply.content["delta"], one.plan()
        assert isinstance(delta, ArrayRecord)
        policy = open_site(whole_run.out / "sites" / one.site).policy
        shapes = open_encoder("tiny", asked.spec, "cpu").shapes()
        assert asked.shapes == shapes
        assert asked.spec.modules in policy.modules
        assert set(delta) == {"values"}
        plain = np.zeros(sum(map(math.prod, shapes.values())), np.float32)
        assert (delta["values"].dtype, delta["values"].shape) == (
            "float32",
            plain.shape,
        )
        assert len(delta["values"].data) == len(ArrayRecord([plain])["0"].data)
        assert 0 < plain.nbytes <= policy.max_tensor_mib * 2**20


def test_only_the_documented_records_reach_a_site(whole_run: Recorded) -> None:
    for one in whole_run.traffic.exchanges:
        content, (asked, start, _) = one.asked.content, open_plan(one.asked.content)
        told = {"witness"} if asked.number > 1 else set()
        assert set(content) == {"plan", "adapter"} | told
        assert set(content.config_records["plan"]) == {"json"}
        assert set(start) == set(asked.shapes)


@pytest.mark.parametrize("site", SITES)
def test_what_was_captured_is_what_the_ledger_sealed_and_the_reverse(
    whole_run: Recorded, site: str
) -> None:
    """Neither the site nor the server has a release that the other does not know."""
    captured = []
    for one in whole_run.traffic.of(site):
        reply = open_reply(one.reply.content, one.plan().shapes)
        assert reply.metric is not None
        captured += [
            (reply.metric.number, "metrics", metric_bytes(reply.metric)),
            (reply.update.number, "training", update_bytes(reply.update)),
        ]
    lines = ledger_lines(whole_run.out, site)
    leaving = [line for line in lines if line["state"] == "sealed" and line["leaves"]]

    assert [
        (number, what, sha256(content).hexdigest(), len(content))
        for number, what, content in captured
    ] == [
        (line["round"], lines[line["planned"]]["what"], line["sha256"], line["bytes"])
        for line in leaving
    ]
    assert len(leaving) == 2 * 2
    received = [
        hashed
        for number in (1, 2)
        for hashed in manifest(whole_run.out, number)["sites"][site]
    ]
    assert sorted(received) == sorted(line["sha256"] for line in leaving)


def manifest(out: Path, number: int) -> dict[str, Any]:
    path = out / "registry" / f"round-{number:04}" / "manifest.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@pytest.mark.parametrize("site", SITES)
def test_what_was_sealed_and_does_not_leave_is_the_popularity_alone(
    whole_run: Recorded, site: str
) -> None:
    lines = ledger_lines(whole_run.out, site)
    staying = [
        lines[line["planned"]]["what"]
        for line in lines
        if line["state"] == "sealed" and not line["leaves"]
    ]

    assert staying == ["popularity"]
    (hashed,) = seals(whole_run.out, site, "popularity").values()
    kept = whole_run.out / "sites" / site / "runs" / "run" / "popularity.safetensors"
    assert sha256(kept.read_bytes()).hexdigest() == hashed


def test_every_reply_holds_the_signed_end_of_the_ledger_at_that_time(
    whole_run: Recorded,
) -> None:
    for one in whole_run.traffic.exchanges:
        witness = witness_from(one.config("witness"))

        assert witness.holds()
        assert witness == one.ledger
        assert witness.site == one.site
    ends = [one.ledger.entries for one in whole_run.traffic.of("site-1")]
    assert ends == sorted(set(ends))


@pytest.mark.parametrize("site", SITES)
def test_a_site_is_told_the_end_that_it_sent_last(
    whole_run: Recorded, site: str
) -> None:
    first, second = whole_run.traffic.of(site)

    told = open_plan(second.asked.content)[2]

    assert told == first.ledger
    kept = whole_run.out / "registry" / "witnesses" / f"{site}.json"
    assert json.loads(kept.read_text("utf-8")) == asdict(second.ledger)


def test_the_report_counts_what_metrics_cost_and_the_events_hold_them(
    whole_run: Recorded,
) -> None:
    out = whole_run.out
    for site in report_of(out)["sites"]:
        events = charged_events(out, site["name"])
        metrics = [event for event in events if event.sigma == METRIC_SIGMA]
        others = [event for event in events if event.sigma != METRIC_SIGMA]
        assert [(event.q, event.steps) for event in metrics] == [(0.2, 1)] * 2
        assert site["epsilon"] == pytest.approx(epsilon(events, 1e-5), abs=1e-6)
        assert epsilon(others, 1e-5) < site["epsilon"] <= site["budget"]
    told = read_events(out / "events.jsonl")
    sent = {
        (one.plan().number, one.site): {"ndcg@10": one.config("metric")["value"]}
        for one in whole_run.traffic.exchanges
    }
    assert {
        (event["number"], site): metrics
        for event in told
        if event["event"] == "round"
        for site, metrics in event["metrics"].items()
    } == sent


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


@pytest.mark.slow
def test_a_site_that_fails_once_comes_back_and_pays_again(
    data: Path, tmp_path: Path, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its popularity was charged and perhaps computed before it failed."""
    fail_to_load(monkeypatch, times=1)

    made = run(scenario(data, "budgets.site-1=20", sites=3), tmp_path)

    assert made["rounds"][0]["refused"] == {"site-1": "InternalError"}
    assert made["rounds"][1]["sites_ok"] == ["site-1", "site-2", "site-3"]
    assert traffic.refusals() == [{"site": "site-1", "reason": "InternalError"}]
    lines = ledger_lines(tmp_path, "site-1")
    charged = [line["what"] for line in lines if line["state"] == "planned"]
    assert charged == ["popularity", "popularity", "training"]
    refused = [line["reason"] for line in lines if line["state"] == "refused"]
    assert refused == ["InternalError"]
    for path in (tmp_path / "events.jsonl", tmp_path / "report.json"):
        assert not re.search(A_USER, path.read_bytes())


@pytest.mark.slow
def test_no_user_is_named_outside_the_data_of_a_site(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in reports, events, ledgers, versions, kept tensors or logs."""
    caplog.set_level(logging.DEBUG)
    arms = ["popularity", "text-dp-popularity", "federated", "federated-no-dp"]

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
