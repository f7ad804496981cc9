"""The loop: whom it asks, how long it waits, what it tells, when it gives up."""

import errno
import hashlib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from safetensors import SafetensorError

from server.aggregate import make_rule
from server.events import Answered, Asked, Event, RoundReport
from server.registry import Registry
from server.rounds import run, ticks
from server.spool import Spool
from shared.adapter import norm
from shared.errors import QuorumLost, RoundError
from shared.protocol import Adapter, AdapterUpdate, RoundPlan
from shared.sealing import update_bytes
from shared.wire import pack_plan, pack_refusal, size
from simulations.grid import LocalGrid
from tests.server.world import VALUES, World, a_grid, raising, refusing, with_, worth
from tests.standin import (
    B,
    a_client,
    a_plan,
    node_configs,
    packed,
    tensor,
)


@pytest.mark.parametrize("named", [True, False])
def test_each_round_moves_the_adapter_by_the_mean(world: World, *, named: bool) -> None:
    world.run(a_grid(named=named), [a_plan(1), a_plan(2)])

    assert world.value() == pytest.approx(6)
    assert [report.number for report in world.reports] == [1, 2]
    assert [report.sites_ok for report in world.reports] == [("a", "b", "c")] * 2


def test_the_report_tells_norm_and_sizes(world: World) -> None:
    world.run(a_grid())

    report = world.reports[0]
    deltas = [worth(site, a_plan()).delta for site in "abc"]
    mean = np.mean([delta[B] for delta in deltas], axis=0)
    assert report.update_norm == pytest.approx(norm({B: mean}))
    assert report.norms == dict(zip("abc", map(norm, deltas), strict=True))
    assert report.cosines.keys() == set("abc")
    reply = packed(worth("a", a_plan()))
    assert report.bytes_up == dict.fromkeys("abc", size(reply))
    assert report.bytes_down == size(pack_plan(a_plan(), {B: tensor(0)}))
    assert report.refused == {}
    assert report.seconds < 0.5


def test_the_registry_keeps_the_hash_of_every_update(world: World) -> None:
    world.run(a_grid())

    sealed = {site: update_bytes(worth(site, a_plan())) for site in "abc"}
    assert world.registry.manifest(1)["sites"] == {
        site: [hashlib.sha256(data).hexdigest()] for site, data in sealed.items()
    }


def test_only_the_sites_of_the_plan_are_asked(world: World) -> None:
    asked: list[tuple[int, str]] = []
    grid = a_grid(a_client(VALUES, asked=asked), ("x", "c", "b", "a"))

    world.run(grid)

    assert sorted(asked) == [(1, "a"), (1, "b"), (1, "c")]


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


def test_when_all_fail_the_quorum_is_lost(world: World) -> None:
    client = a_client(VALUES, {"a": raising, "b": refusing, "c": with_(number=9)})

    with pytest.raises(QuorumLost) as caught:
        world.run(a_grid(client))

    assert str(caught.value) == (
        "round 1: 0 of 3 sites count, quorum is 2 (a: FlowerError2, b: PolicyRefused,"
        " c: RoundError); bring sites back and go on with --resume"
    )
    assert world.registry.newest() == 0


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


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("place", "name", "error"),
    [
        (Spool, "append", FULL),
        (Spool, "products", OSError(errno.EIO, "Input/output error")),
        (Registry, "keep_witnesses", FULL),
        (Registry, "publish", FULL),
        (Registry, "publish", SafetensorError("I/O error: No space left on device")),
    ],
)
def test_a_disk_that_is_full_ends_the_run_with_what_to_do_about_it(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    place: type,
    name: str,
    error: Exception,
) -> None:
    def full(*_args: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, name, full)
        with pytest.raises(RoundError) as caught:
            world.run(a_grid())
    world.run(a_grid())

    assert str(caught.value) == (
        f"round 1 cannot be written to {world.registry.root}: {error}; make room, and"
        " go on with --resume"
    )
    assert world.registry.newest() == 1


class Stuttering(LocalGrid):
    """Every reply comes twice."""

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [reply for reply in super().pull_messages(message_ids) for _ in range(2)]


def test_a_reply_that_comes_twice_counts_once(world: World) -> None:
    grid = Stuttering(a_client(VALUES), node_configs("a", "b", "c"))

    world.run(grid, [a_plan(1), a_plan(2)])

    assert world.value() == pytest.approx(6)
    answered = [event for event in world.events if isinstance(event, Answered)]
    assert [event.site for event in answered] == [*"abc", *"abc"]


def test_a_nameless_node_that_fails_is_told_by_its_number(world: World) -> None:
    world.run(a_grid(a_client(VALUES, {"c": raising}), named=False))

    assert world.reports[0].refused == {"c": "NoAnswer", "node-3": "FlowerError2"}


def test_waiting_starts_quickly_and_ends_at_its_limit() -> None:
    assert len(list(ticks(0))) == 1
    assert 3 <= len(list(ticks(0.08))) <= 5
