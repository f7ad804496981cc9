"""What goes down: steps only to who holds the version before; the whole to all others.

The sites here keep what they are sent as ``client/version.py`` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

from server.aggregate import make_rule, restore_rule
from server.broadcast import Broadcast, advance, broadcast
from server.events import Event, RoundReport
from server.registry import Registry
from server.rounds import run
from shared.adapter import add, digest, norm, subtract
from shared.errors import QuorumLost, VersionMissing
from shared.packing import unpack
from shared.protocol import WIRES, Adapter, Array, RoundPlan
from shared.wire import open_plan, pack_plan, pack_refusal, pack_step, size
from simulations.grid import LocalGrid
from tests.standin import A, B, a_plan, an_update, node_configs, packed

SHAPES = {B: (48, 32)}
SITES = ("a", "b", "c")


def plan(number: int = 1, wire: str = "int8") -> RoundPlan:
    return replace(a_plan(number), shapes=SHAPES, wire=wire, deadline_s=2.0)


def drawn(*seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}


@dataclass
class Sites:
    """Sites that train nothing and keep every version; what they were sent is noted.

    Attributes:
        held: Site -> the version that it was sent last.
        sent: (round, site, what came: ``adapter`` or ``step``).
        started: (round, site) -> digest of the version that the site started from.
        away: Rounds and sites that do not answer; they refuse.
    """

    held: dict[str, Adapter] = field(default_factory=dict)
    sent: list[tuple[int, str, str]] = field(default_factory=list)
    started: dict[tuple[int, str], str] = field(default_factory=dict)
    away: set[tuple[int, str]] = field(default_factory=set)

    def app(self) -> ClientApp:
        app = ClientApp()

        @app.train()
        def train(message: Message, context: Context) -> Message:
            site, number = (
                str(context.node_config["site"]),
                int(message.metadata.group_id),
            )
            kind = "step" if "step" in message.content else "adapter"
            self.sent.append((number, site, kind))
            if (number, site) in self.away:
                return Message(pack_refusal(site, "PolicyRefused"), reply_to=message)
            try:
                asked, adapter, _ = open_plan(
                    message.content, lambda _run: self.held.get(site)
                )
            except VersionMissing as error:
                refusal = pack_refusal(site, type(error).__name__)
                return Message(refusal, reply_to=message)
            self.held[site] = adapter
            self.started[number, site] = digest(adapter)
            delta = drawn(number, *site.encode())
            return Message(
                packed(replace(an_update(asked, site), delta=delta)), reply_to=message
            )

        return app

    def came(self, number: int) -> dict[str, str]:
        """Site -> what came last in a round."""
        return {site: kind for n, site, kind in self.sent if n == number}


@pytest.fixture
def sites() -> Sites:
    return Sites()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return a_registry(tmp_path)


def a_registry(folder: Path) -> Registry:
    (folder / "start").mkdir(parents=True)
    tensors = {A: np.ones((2, 4), np.float32), **drawn(0)}
    safetensors.numpy.save_file(tensors, folder / "start" / "adapter_model.safetensors")
    return Registry.open(folder / "registry", folder / "start")


def rounds(
    sites: Sites,
    registry: Registry,
    plans: Sequence[RoundPlan],
    *,
    named: bool = True,
    rule: str = "fedavg",
    between: Callable[[int], None] = lambda _number: None,
) -> list[RoundReport]:
    """Run, with something to do after each round, and return the reports."""
    reports: list[RoundReport] = []

    def watch(event: Event) -> None:
        if isinstance(event, RoundReport):
            reports.append(event)
            between(event.number)

    made = make_rule(rule)
    restore_rule(made, registry.rule_state())
    grid = LocalGrid(sites.app(), node_configs(*SITES), named=named)
    run(plans, grid, made, registry, watch)
    return reports


def published(registry: Registry, number: int) -> dict[str, Array]:
    path = registry.folder(number) / "adapter_model.safetensors"
    return {n: a for n, a in safetensors.numpy.load_file(path).items() if n in SHAPES}


@given(
    seed=st.integers(0, 2**32 - 1),
    form=st.sampled_from(["float16", "int8"]),
    scale=st.floats(1e-6, 100),
)
def test_a_version_is_exactly_the_one_before_and_the_step_as_it_travels(
    seed: int, form: str, scale: float
) -> None:
    before, carried = drawn(seed, 1), drawn(seed, 3)
    after = {n: a + np.float32(scale) * drawn(seed, 2)[n] for n, a in before.items()}

    version, residual, step = advance(form, before, after, carried)

    assert step is not None
    assert digest(version) == step.after
    assert digest(add(before, unpack(step.packed, SHAPES))) == step.after
    assert digest(before) == step.before
    whole = {n: after[n].astype(np.float64) - before[n] + carried[n] for n in SHAPES}
    went = unpack(step.packed, SHAPES)
    np.testing.assert_allclose(went[B] + residual[B], whole[B], rtol=1e-5, atol=1e-5)


def test_as_float32_the_rules_adapter_is_published_as_it_is() -> None:
    before, after = drawn(1), drawn(2)

    version, residual, step = advance("float32", before, after, drawn(3))

    assert digest(version) == digest(after)
    assert (residual, step) == ({}, None)


@pytest.mark.parametrize("wire", ["float16", "int8"])
def test_after_the_first_round_sites_get_steps_and_hold_what_is_published(
    sites: Sites, registry: Registry, wire: str
) -> None:
    reports = rounds(sites, registry, [plan(n, wire) for n in (1, 2, 3)])

    assert sites.came(1) == dict.fromkeys(SITES, "adapter")
    assert sites.came(2) == sites.came(3) == dict.fromkeys(SITES, "step")
    for number in (2, 3):
        start = digest(published(registry, number - 1))
        assert {sites.started[number, site] for site in SITES} == {start}
    assert reports[1].bytes_down < 0.7 * reports[0].bytes_down
    assert all(report.refused == {} for report in reports)


def test_as_float32_every_site_gets_the_whole_adapter_each_time(
    sites: Sites, registry: Registry
) -> None:
    rounds(sites, registry, [plan(n, "float32") for n in (1, 2)])

    assert {kind for _, _, kind in sites.sent} == {"adapter"}
    assert registry.residual() == {}


def test_nodes_without_names_get_the_whole_adapter(
    sites: Sites, registry: Registry
) -> None:
    rounds(sites, registry, [plan(n) for n in (1, 2)], named=False)

    assert {kind for _, _, kind in sites.sent} == {"adapter"}


def test_a_site_that_did_not_count_gets_the_whole_adapter_next_time(
    sites: Sites, registry: Registry
) -> None:
    sites.away = {(2, "c")}

    rounds(sites, registry, [plan(n) for n in (1, 2, 3, 4)])

    assert sites.came(3) == {"a": "step", "b": "step", "c": "adapter"}
    assert sites.came(4) == dict.fromkeys(SITES, "step")


@pytest.mark.parametrize("lost", ["nothing is there", "another version"])
def test_a_site_that_lost_its_version_is_sent_the_whole_in_the_same_round(
    sites: Sites, registry: Registry, lost: str
) -> None:
    def lose(_number: int) -> None:
        if lost == "another version":
            sites.held["b"] = drawn(9)
        else:
            del sites.held["b"]

    reports = rounds(sites, registry, [plan(n) for n in (1, 2)], between=lose)

    second = [(site, kind) for number, site, kind in sites.sent if number == 2]
    assert second == [("a", "step"), ("b", "step"), ("c", "step"), ("b", "adapter")]
    assert reports[1].sites_ok == SITES
    assert sites.started[2, "b"] == digest(published(registry, 1))


def test_a_site_that_claims_to_lack_the_whole_adapter_too_is_not_asked_for_ever(
    sites: Sites, registry: Registry
) -> None:
    rounds(sites, registry, [plan(1)])
    grid = LocalGrid(liar(), node_configs(*SITES))

    with pytest.raises(QuorumLost, match="a: VersionMissing"):
        run([plan(2)], grid, make_rule("fedavg"), registry, lambda _: None)


def liar() -> ClientApp:
    """Sites that say of everything that they lack a version."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        site = str(context.node_config["site"])
        return Message(pack_refusal(site, "VersionMissing"), reply_to=message)

    return app


@pytest.mark.parametrize("rule", ["fedavg", "fedavgm", "fedadam"])
def test_a_resumed_run_goes_on_bit_for_bit_and_sends_the_whole_first(
    tmp_path: Path, rule: str
) -> None:
    whole, parted = a_registry(tmp_path / "whole"), a_registry(tmp_path / "parted")
    plans = [plan(n) for n in (1, 2, 3, 4)]
    rounds(Sites(), whole, plans, rule=rule)
    sites = Sites()

    rounds(sites, parted, plans[:2], rule=rule)
    rounds(sites, parted, plans[2:], rule=rule)

    assert sites.came(3) == dict.fromkeys(SITES, "adapter")
    assert sites.came(4) == dict.fromkeys(SITES, "step")
    for number in (1, 2, 3, 4):
        assert digest(published(parted, number)) == digest(published(whole, number))
    assert digest(parted.residual()) == digest(whole.residual())
    assert digest(parted.rule_state()) == digest(whole.rule_state())


def test_what_the_servers_packing_leaves_out_is_not_lost(tmp_path: Path) -> None:
    """After many rounds the packed run is as near to the exact one as after one."""
    exact, packed_run = a_registry(tmp_path / "e"), a_registry(tmp_path / "p")
    rounds(Sites(), exact, [plan(n, "float32") for n in range(1, 9)])
    rounds(Sites(), packed_run, [plan(n) for n in range(1, 9)])

    away = subtract(packed_run.current()[1], exact.current()[1])

    one_step = norm(subtract(published(exact, 2), published(exact, 1)))
    assert 0 < norm(away) < 0.03 * one_step


def test_a_step_that_is_no_smaller_than_the_whole_is_not_sent() -> None:
    before = {B: np.zeros((1, 2), np.float32)}
    small = replace(plan(2), shapes={B: (1, 2)})
    _, _, step = advance("int8", before, {B: np.ones((1, 2), np.float32)}, {})
    assert step is not None
    assert size(pack_step(small, step)) >= size(pack_plan(small, before))

    made = broadcast(small, before, step, SITES)

    assert made.step is None
    assert all(made.to(site) is made.whole for site in SITES)


@pytest.mark.parametrize("wire", WIRES)
def test_the_size_is_the_mean_over_the_sites_asked(wire: str) -> None:
    before = drawn(1)
    version, _, step = advance(wire, before, drawn(2), {})
    made: Broadcast = broadcast(plan(2, wire), version, step, ["a"])

    sizes = [size(made.to(site)) for site in SITES]

    assert made.mean_size(SITES) == round(sum(sizes) / 3)
    assert made.mean_size([]) == 0
    assert (made.to("a") is made.whole) == (wire == "float32")
    assert made.to("") is made.to("b") is made.whole
