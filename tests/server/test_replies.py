"""Replies that are not what was asked for: left out and named; the round goes on."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array as SentArray
from flwr.app import ConfigRecord, MetricRecord, RecordDict

from server.events import RoundReport, to_line
from server.registry import Registry
from shared.errors import QuorumLost
from shared.protocol import Adapter, AdapterUpdate, RoundPlan
from shared.sealing import metric_bytes, update_bytes
from shared.wire import pack_refusal, pack_reply
from shared.witness import Witness
from tests.server.world import VALUES, World, a_grid, raising, refusing, with_, worth
from tests.standin import (
    B,
    Behaviour,
    a_client,
    a_metric,
    a_plan,
    a_reply,
    a_witness,
    packed,
    tensor,
)


def with_delta(array: object) -> Behaviour:
    def behave(
        _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
    ) -> RecordDict:
        return packed(replace(update, delta={B: array}))  # type: ignore[dict-item]

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
    content.array_records["delta"]["values"] = SentArray(np.zeros(6))
    return content


def with_a_count(
    _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
) -> RecordDict:
    content = packed(update)
    content["metrics"] = MetricRecord({"num-examples": 17})
    return content


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

    def behave(plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate) -> RecordDict:
        update = worth(update.site, plan)
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

    def behave(plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate) -> RecordDict:
        update = worth(update.site, plan)
        metric = replace(a_metric(update, value), **changes)  # type: ignore[arg-type]
        return pack_reply(a_reply(update, metric))

    return behave


DISHONEST = {
    "broadcastable shape": (with_delta(np.ones((1, 2), np.float32)), "ModelError"),
    "other shape": (with_delta(np.ones(5, np.float32)), "ModelError"),
    "another form": (with_(wire="float16"), "RoundError"),
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
    update = worth("a", plan)
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


def test_what_a_site_says_in_an_exception_goes_no_further(world: World) -> None:
    client = a_client(VALUES, dict.fromkeys("abc", raising))

    with pytest.raises(QuorumLost) as caught:
        world.run(a_grid(client))

    assert "user 17" not in str(caught.value)
