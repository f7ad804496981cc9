"""The loop among honest and dishonest sites."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array as SentArray
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo

from server.aggregate import make_rule
from server.events import Answered, Asked, Event, RoundReport, to_line
from server.registry import Registry
from server.rounds import run, ticks
from shared.errors import QuorumLost
from shared.protocol import Adapter, AdapterUpdate, RoundPlan
from shared.sealing import metric_bytes, update_bytes
from shared.wire import pack_plan, pack_refusal, pack_reply, size
from shared.witness import Witness
from simulations.grid import LocalGrid
from tests.standin import (
    B,
    Behaviour,
    a_client,
    a_metric,
    a_plan,
    a_reply,
    a_witness,
    an_update,
    node_configs,
    packed,
    tensor,
    write_start,
)

VALUES = {"a": 1.0, "b": 3.0, "c": 5.0}


@dataclass
class World:
    """A registry to fill and what was told of its rounds."""

    registry: Registry
    events: list[Event] = field(default_factory=list)

    @property
    def reports(self) -> list[RoundReport]:
        """What was told at the end of each round."""
        return [event for event in self.events if isinstance(event, RoundReport)]

    def run(self, grid: LocalGrid, plans: Sequence[RoundPlan] | None = None) -> None:
        rule = make_rule("fedavg")
        run(plans or [a_plan()], grid, rule, self.registry, self.events.append)

    def value(self) -> float:
        """The one value of all entries of the current adapter."""
        _, adapter = self.registry.current()
        assert np.unique(adapter[B]).size == 1
        return float(adapter[B][0, 0])


@pytest.fixture
def world(tmp_path: Path) -> World:
    start = write_start(tmp_path / "start")
    return World(Registry.open(tmp_path / "registry", start))


def a_grid(
    app: ClientApp | None = None,
    sites: Sequence[str] = ("a", "b", "c"),
    *,
    named: bool = True,
    hold: Callable[[Message], bool] = lambda _reply: False,
) -> LocalGrid:
    app = app or a_client(VALUES)
    return LocalGrid(app, node_configs(*sites), named=named, hold=hold)


@pytest.mark.parametrize("named", [True, False])
def test_each_round_moves_the_adapter_by_the_mean(world: World, *, named: bool) -> None:
    world.run(a_grid(named=named), [a_plan(1), a_plan(2)])

    assert world.value() == pytest.approx(6)
    assert [report.number for report in world.reports] == [1, 2]
    assert [report.sites_ok for report in world.reports] == [("a", "b", "c")] * 2


def test_the_report_tells_norm_and_sizes(world: World) -> None:
    world.run(a_grid())

    report = world.reports[0]
    reply = packed(an_update(a_plan(), "a"))
    assert report.update_norm == pytest.approx(3 * np.sqrt(6))
    assert report.bytes_up == dict.fromkeys("abc", size(reply))
    assert report.bytes_down == size(pack_plan(a_plan(), {B: tensor(0)}))
    assert report.refused == {}
    assert report.seconds < 0.5


def test_the_registry_keeps_the_hash_of_every_update(world: World) -> None:
    world.run(a_grid())

    sealed = {
        site: update_bytes(an_update(a_plan(), site, VALUES[site])) for site in "abc"
    }
    assert world.registry.manifest(1)["sites"] == {
        site: [hashlib.sha256(data).hexdigest()] for site, data in sealed.items()
    }


def test_only_the_sites_of_the_plan_are_asked(world: World) -> None:
    asked: list[tuple[int, str]] = []
    grid = a_grid(a_client(VALUES, asked=asked), ("x", "c", "b", "a"))

    world.run(grid)

    assert sorted(asked) == [(1, "a"), (1, "b"), (1, "c")]


def with_delta(array: object) -> Behaviour:
    def behave(
        _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
    ) -> RecordDict:
        return packed(replace(update, delta={B: array}))  # type: ignore[dict-item]

    return behave


def with_(**changes: object) -> Behaviour:
    def behave(
        _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
    ) -> RecordDict:
        return packed(replace(update, **changes))  # type: ignore[arg-type]

    return behave


def of_another_plan(
    plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
) -> RecordDict:
    other = replace(plan, max_norm=1e9)
    return packed(replace(update, plan=other.digest()))


def in_double_precision(
    _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
) -> RecordDict:
    content = packed(update)
    content.array_records["delta"][B] = SentArray(np.zeros((3, 2)))
    return content


def with_a_count(
    _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
) -> RecordDict:
    content = packed(update)
    content["metrics"] = MetricRecord({"num-examples": 17})
    return content


def raising(_plan: RoundPlan, _adapter: Adapter, _update: AdapterUpdate) -> RecordDict:
    raise ValueError("user 17")


def refusing(_plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate) -> RecordDict:
    return pack_refusal(update.site, "PolicyRefused")


def refusing_for_another(
    _plan: RoundPlan, _adapter: Adapter, _update: AdapterUpdate
) -> RecordDict:
    return pack_refusal("a", "BudgetSpent")


def refusing_at_length(
    _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
) -> RecordDict:
    config = ConfigRecord({"site": update.site, "reason": "user 17 objects"})
    return RecordDict({"refusal": config})


def with_witness(witness: Witness | None, **fields: object) -> Behaviour:
    """Another signed end than the site's own; ``fields`` are changed on the wire."""

    def behave(
        _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
    ) -> RecordDict:
        update = replace(update, delta={B: tensor(VALUES[update.site])})
        reply = a_reply(update)
        content = pack_reply(replace(reply, witness=witness or reply.witness))
        content.config_records["witness"].update(fields)  # type: ignore[arg-type]
        return content

    return behave


def without_a_witness(
    _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
) -> RecordDict:
    content = packed(update)
    del content["witness"]
    return content


def with_metric(value: float = 0.25, **changes: object) -> Behaviour:
    """The honest delta, and a metric beside it."""

    def behave(
        _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
    ) -> RecordDict:
        update = replace(update, delta={B: tensor(VALUES[update.site])})
        metric = replace(a_metric(update, value), **changes)  # type: ignore[arg-type]
        return pack_reply(a_reply(update, metric))

    return behave


DISHONEST = {
    "broadcastable shape": (with_delta(np.ones((1, 2), np.float32)), "ModelError"),
    "other shape": (with_delta(np.ones(5, np.float32)), "ModelError"),
    "other name": (with_(delta={"x": tensor(1)}), "ModelError"),
    "one tensor more": (with_(delta={B: tensor(1), "x": tensor(1)}), "ModelError"),
    "nothing": (with_(delta={}), "ModelError"),
    "not a number": (with_delta(tensor(np.nan)), "ModelError"),
    "infinite": (with_delta(tensor(np.inf)), "ModelError"),
    "too long": (with_delta(tensor(50)), "ModelError"),
    "double precision": (in_double_precision, "RoundError"),
    "another round": (with_(number=2), "RoundError"),
    "another run": (with_(run="other"), "RoundError"),
    "another plan": (of_another_plan, "RoundError"),
    "another site": (with_(site="a"), "RoundError"),
    "no site of the plan": (with_(site="z"), "RoundError"),
    "a count": (with_a_count, "RoundError"),
    "an exception": (raising, "FlowerError2"),
    "a refusal": (refusing, "PolicyRefused"),
    "a refusal for another": (refusing_for_another, "RoundError"),
    "a refusal at length": (refusing_at_length, "RoundError"),
    "a metric that nobody asked for": (with_metric(), "RoundError"),
    "no witness": (without_a_witness, "RoundError"),
    "the witness of another site": (with_witness(a_witness("a")), "LedgerBroken"),
    "a witness signed by another": (
        with_witness(replace(a_witness("c", key="x"), key=a_witness("c").key)),
        "LedgerBroken",
    ),
    "a witness that says more": (with_witness(None, users=17), "LedgerBroken"),
    "a longer ledger than was signed": (with_witness(None, entries=9), "LedgerBroken"),
}


@pytest.mark.parametrize(("behaviour", "reason"), DISHONEST.values(), ids=DISHONEST)
def test_a_dishonest_reply_is_left_out(
    world: World, behaviour: Behaviour, reason: str
) -> None:
    world.run(a_grid(a_client(VALUES, {"c": behaviour})))

    assert world.value() == 2
    assert world.reports[0].sites_ok == ("a", "b")
    assert world.reports[0].refused == {"c": reason}


BACKWARDS = {
    "behind": a_witness("c", 3),
    "as long, but another": a_witness("c", 4, fork="clone"),
    "of another key": a_witness("c", 9, key="new"),
    "of another site": a_witness("b", 9),
}


@pytest.mark.parametrize("ended", BACKWARDS.values(), ids=BACKWARDS)
def test_a_site_whose_ledger_does_not_go_on_is_left_out_and_the_round_goes_on(
    world: World, ended: Witness
) -> None:
    """After rounds 1 and 2 the ledger of every site has four entries."""
    told: list[tuple[str, Witness | None]] = []
    world.run(a_grid(), [a_plan(1), a_plan(2)])

    client = a_client(VALUES, {"c": with_witness(ended)})
    world.run(a_grid(client), [a_plan(3)])
    world.run(a_grid(a_client(VALUES, told=told)), [a_plan(4)])

    assert world.reports[2].sites_ok == ("a", "b")
    assert world.reports[2].refused == {"c": "LedgerBroken"}
    assert world.value() == pytest.approx(3 + 3 + 2 + 3)
    assert dict(told)["c"] == a_witness("c", 4)  # what was seen last stays


def test_a_site_that_sends_the_same_again_still_counts(world: World) -> None:
    """A reply may be lost, and asked for again: nothing was added meanwhile."""
    world.run(a_grid())
    client = a_client(VALUES, {"c": with_witness(a_witness("c", 2))})

    world.run(a_grid(client), [a_plan(2)])

    assert world.reports[1].sites_ok == ("a", "b", "c")


@pytest.mark.parametrize("named", [True, False])
def test_each_named_site_is_told_after_a_restart_what_was_seen_of_its_ledger(
    world: World, *, named: bool
) -> None:
    """A nameless node could be any site; the witness of another would stop it."""
    told: list[tuple[str, Witness | None]] = []
    world.run(a_grid(a_client(VALUES, told=told), named=named))
    world.registry = Registry.open(world.registry.root, world.registry.start)

    world.run(a_grid(a_client(VALUES, told=told), named=named), [a_plan(2)])

    assert told[:3] == [(site, None) for site in "abc"]
    assert told[3:] == [(site, a_witness(site, 2) if named else None) for site in "abc"]


def test_what_was_seen_of_ledgers_is_kept_though_the_quorum_is_lost(
    world: World,
) -> None:
    plan = replace(a_plan(), quorum=3)

    with pytest.raises(QuorumLost):
        world.run(a_grid(a_client(VALUES, {"c": refusing})), [plan])

    assert world.registry.witnesses("abc") == {
        site: a_witness(site, 2) for site in "ab"
    }


def test_every_question_and_answer_is_told_when_it_happens(world: World) -> None:
    def refusing(_plan: RoundPlan, _: Adapter, update: AdapterUpdate) -> RecordDict:
        return pack_refusal(update.site, "PolicyRefused")

    world.run(a_grid(a_client(VALUES, {"c": refusing}), sites=["a", "c", "b"]))

    asked, *answers, report = world.events
    assert isinstance(asked, Asked)
    assert (asked.number, sorted(asked.sites), asked.absent) == (1, ["a", "b", "c"], {})
    told = {a.site: a.reason for a in answers if isinstance(a, Answered)}
    assert told == {"a": "", "b": "", "c": "PolicyRefused"}
    assert isinstance(report, RoundReport)
    times = [event.time for event in world.events]
    assert times == sorted(times)


def metric_plan(number: int = 1) -> RoundPlan:
    noise = replace(a_plan().mechanism, metric_sigma=4.0)
    return replace(a_plan(number), mechanism=noise)


def test_a_metric_that_was_asked_for_is_told_and_its_hash_is_kept(
    world: World,
) -> None:
    plan = metric_plan()

    world.run(a_grid(a_client(VALUES, dict.fromkeys("ab", with_metric()))), [plan])

    report = world.reports[0]
    assert report.sites_ok == ("a", "b", "c")
    assert report.metrics == {site: {"ndcg@10": 0.25} for site in "ab"}
    assert RoundReport.of(json.loads(to_line(report))) == report
    update = an_update(plan, "a", VALUES["a"])
    sent = [update_bytes(update), metric_bytes(a_metric(update))]
    manifest = world.registry.manifest(1)["sites"]
    assert manifest["a"] == [hashlib.sha256(data).hexdigest() for data in sent]
    assert [len(manifest[site]) for site in "abc"] == [2, 2, 1]


NO_METRIC = {
    "no number": with_metric(np.nan),
    "infinite": with_metric(np.inf),
    "another round": with_metric(number=2),
    "another run": with_metric(run="other"),
    "another site": with_metric(site="a"),
    "another plan": with_metric(plan="0" * 64),
    "a sentence for a name": with_metric(name="user 17 left"),
    "a long name": with_metric(name="n" * 64),
    "no name": with_metric(name=""),
}


@pytest.mark.parametrize("behaviour", NO_METRIC.values(), ids=NO_METRIC)
def test_a_metric_that_is_none_or_of_another_round_is_left_out_with_its_update(
    world: World, behaviour: Behaviour
) -> None:
    """A number that is none must not end the run either."""
    world.run(a_grid(a_client(VALUES, {"c": behaviour})), [metric_plan()])

    assert world.reports[0].sites_ok == ("a", "b")
    assert world.reports[0].refused == {"c": "RoundError"}
    assert world.reports[0].metrics == {}


def test_when_all_fail_the_quorum_is_lost(world: World) -> None:
    client = a_client(VALUES, {"a": raising, "b": refusing, "c": with_(number=9)})

    with pytest.raises(QuorumLost) as caught:
        world.run(a_grid(client))

    assert str(caught.value) == (
        "round 1: 0 of 3 sites count, quorum is 2 (a: FlowerError2, b: PolicyRefused,"
        " c: RoundError); bring sites back and go on with --resume"
    )
    assert world.registry.newest() == 0


def test_what_a_site_says_in_an_exception_goes_no_further(world: World) -> None:
    client = a_client(VALUES, dict.fromkeys("abc", raising))

    with pytest.raises(QuorumLost) as caught:
        world.run(a_grid(client))

    assert "user 17" not in str(caught.value)


def test_a_straggler_is_left_out_at_the_deadline(world: World) -> None:
    plan = replace(a_plan(), deadline_s=0.05)
    grid = a_grid(hold=lambda reply: reply.metadata.src_node_id == 3)

    world.run(grid, [plan])

    assert world.value() == 2
    assert world.reports[0].refused == {"c": "NoAnswer"}
    assert 0.05 <= world.reports[0].seconds < 0.5


def test_a_late_reply_does_not_count_in_the_next_round(world: World) -> None:
    held = {"now": True}

    def hold(reply: Message) -> bool:
        return held["now"] and reply.metadata.src_node_id == 3

    def watch(event: Event) -> None:
        world.events.append(event)
        held["now"] = held["now"] and not isinstance(event, RoundReport)

    plans = [replace(a_plan(number), deadline_s=0.05) for number in (1, 2)]
    run(plans, a_grid(hold=hold), make_rule("fedavg"), world.registry, watch)

    assert [report.sites_ok for report in world.reports] == [
        ("a", "b"),
        ("a", "b", "c"),
    ]
    assert world.value() == pytest.approx(2 + 3)


@pytest.mark.parametrize("named", [True, False])
def test_a_site_with_a_spent_budget_is_not_asked_again(
    world: World, *, named: bool
) -> None:
    asked: list[tuple[int, str]] = []

    def spent(plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate) -> RecordDict:
        refusal = pack_refusal(update.site, "BudgetSpent")
        return refusal if plan.number == 2 else packed(update)

    grid = a_grid(a_client(VALUES, {"c": spent}, asked), named=named)
    world.run(grid, [a_plan(number) for number in (1, 2, 3)])

    assert (2, "c") in asked
    assert (3, "c") not in asked
    assert [report.refused for report in world.reports[1:]] == [
        {"c": "BudgetSpent"}
    ] * 2


def test_no_site_is_charged_for_a_round_that_cannot_reach_its_quorum(
    world: World,
) -> None:
    asked: list[tuple[int, str]] = []
    plan = replace(a_plan(), deadline_s=0.03)
    grid = a_grid(a_client(VALUES, asked=asked), ["a", "x", "y"])

    with pytest.raises(QuorumLost, match="b: NotOnline, c: NotOnline"):
        world.run(grid, [plan])

    assert asked == []


def test_spent_budgets_below_the_quorum_end_the_run_at_once(world: World) -> None:
    asked: list[tuple[int, str]] = []

    def spent(_plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate) -> RecordDict:
        return pack_refusal(update.site, "BudgetSpent")

    plans = [replace(a_plan(1), quorum=1), replace(a_plan(2), quorum=2)]
    grid = a_grid(a_client(VALUES, dict.fromkeys("bc", spent), asked))

    with pytest.raises(QuorumLost, match=r"round 2: 1 of 3 .*b: BudgetSpent"):
        world.run(grid, plans)

    assert len(asked) == 3


def test_an_offline_site_is_told_apart_from_a_slow_one(world: World) -> None:
    world.run(a_grid(sites=["a", "b"]), [replace(a_plan(), deadline_s=0.03)])

    assert world.reports[0].refused == {"c": "NotOnline"}


class SlowlyFilling(LocalGrid):
    """One more node is online each time someone looks."""

    looks = 0

    def get_nodes(self) -> list[NodeInfo]:
        self.looks += 1
        return list(super().get_nodes())[: self.looks]


@pytest.mark.parametrize("named", [True, False])
def test_the_first_round_waits_for_every_site(world: World, *, named: bool) -> None:
    grid = SlowlyFilling(a_client(VALUES), node_configs("a", "b", "c"), named=named)

    world.run(grid)

    assert world.reports[0].sites_ok == ("a", "b", "c")


def test_later_rounds_wait_for_no_more_than_a_quorum(world: World) -> None:
    plans = [replace(a_plan(number), deadline_s=0.3) for number in (1, 2)]

    world.run(a_grid(sites=["a", "b"]), plans)

    first, second = world.reports
    assert second.seconds < 0.3 <= first.seconds


def test_of_a_site_that_answers_twice_nothing_counts(world: World) -> None:
    plan = replace(a_plan(), quorum=1)
    client = a_client(VALUES, {"c": with_(site="a")})

    world.run(a_grid(client, named=False), [plan])

    assert world.reports[0].sites_ok == ("b",)
    assert world.reports[0].refused == {"a": "RoundError", "c": "NoAnswer"}
    assert world.value() == 3


def test_a_nameless_node_that_fails_is_told_by_its_number(world: World) -> None:
    world.run(a_grid(a_client(VALUES, {"c": raising}), named=False))

    assert world.reports[0].refused == {"c": "NoAnswer", "node-3": "FlowerError2"}


def test_waiting_starts_quickly_and_ends_at_its_limit() -> None:
    assert len(list(ticks(0))) == 1
    assert 3 <= len(list(ticks(0.08))) <= 5
