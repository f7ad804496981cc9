"""Rules with known answers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array as SentArray
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvgM, Strategy
from flwr.serverapp.strategy.fedopt import FedOpt
from hypothesis import given, settings
from hypothesis import strategies as st

import server.aggregate
from server.aggregate import RULES, make_rule, restore_rule, rule_state
from server.spool import BLOCK
from shared.adapter import add
from shared.errors import ConfigError, RoundError
from shared.protocol import Adapter, AdapterUpdate, Array
from simulations.grid import enter_run
from tests.server.spooled import spooled
from tests.standin import SHAPE, B, a_plan, an_update, tensor

enter_run()
START = {B: tensor(10)}
OURS = {"spectral", "multikrum"}  # ours; and Flower must be told how many to keep


def updates(values: Sequence[float]) -> list[AdapterUpdate]:
    plan = a_plan()
    return [an_update(plan, f"site-{i}", value) for i, value in enumerate(values)]


def step(
    rule: Strategy,
    number: int,
    current: Adapter,
    given_updates: Sequence[AdapterUpdate],
    block: int = BLOCK,
) -> dict[str, Array]:
    """A step from a spool that holds the updates in this order."""
    with spooled(given_updates, block) as (spool, rows):
        return server.aggregate.step(rule, number, current, spool, rows)


def moved(name: str, values: Sequence[float], **options: float) -> float:
    """The one value by which the rule moves all entries of the adapter."""
    rule = make_rule(name, **options)  # type: ignore[arg-type]
    after = step(rule, 1, START, updates(values))[B]
    assert after.dtype == np.float32
    assert after.shape == SHAPE
    assert np.unique(after).size == 1
    return float(after[0, 0]) - 10


def test_fedavg_takes_the_mean() -> None:
    assert moved("fedavg", [1, 2, 6]) == pytest.approx(3, abs=1e-5)


def test_fedmedian_takes_the_median() -> None:
    assert moved("fedmedian", [1, 2, 60]) == 2


def test_fedtrimmedavg_drops_the_extremes() -> None:
    assert moved("fedtrimmedavg", [-90, 1, 2, 3, 90], trim=0.2) == 2


def test_krum_picks_one_of_the_crowd() -> None:
    assert moved("krum", [1, 1.1, 1.2, 50, 1.3], malicious=1) == pytest.approx(
        1.1, abs=0.2
    )


def test_multikrum_averages_the_crowd() -> None:
    got = moved("multikrum", [1, 1.1, 1.2, 50, 1.3], malicious=1)

    assert got == pytest.approx(np.mean([1, 1.1, 1.2, 1.3]), abs=1e-6)


def test_fedavgm_steps_by_the_rate_and_gathers_momentum() -> None:
    rule = make_rule("fedavgm", learning_rate=0.5)

    once = step(rule, 1, START, updates([2, 4]))
    twice = step(rule, 2, once, updates([2, 4]))

    assert once[B][0, 0] == pytest.approx(10 + 0.5 * 3)
    assert twice[B][0, 0] == pytest.approx(11.5 + 0.5 * (0.9 * 3 + 3))


def test_fedadam_follows_reddi_et_al() -> None:
    rate, beta_1, beta_2, tau, mean = 0.1, 0.9, 0.99, 1e-3, 3.0
    m, v = (1 - beta_1) * mean, (1 - beta_2) * mean**2
    corrected = rate * np.sqrt(1 - beta_2**2) / (1 - beta_1**2)

    assert moved("fedadam", [2, 4]) == pytest.approx(
        corrected * m / (np.sqrt(v) + tau), abs=1e-5
    )


def flowers_own(name: str, number: int, values: Sequence[float]) -> Array:
    """The oracle: Flower's rule over full adapters, current + delta, as it expects."""
    rule, current = make_rule(name), ArrayRecord({B: SentArray(START[B])})
    if isinstance(rule, FedOpt):
        rule.current_arrays = dict(START)
    elif isinstance(rule, FedAvgM):
        rule.current_arrays = current
    replies = [
        Message(
            RecordDict(
                {
                    "arrays": ArrayRecord({B: SentArray(START[B] + np.float32(value))}),
                    "metrics": MetricRecord({"num-examples": 1}),
                }
            ),
            dst_node_id=1,
            message_type="train",
        )
        for value in values
    ]
    arrays, _ = rule.aggregate_train(number, replies)
    assert arrays is not None
    return arrays[B].numpy().astype(np.float32)


@pytest.mark.parametrize("name", sorted(RULES.keys() - OURS))
def test_a_step_around_the_origin_is_flowers_step_of_full_adapters(name: str) -> None:
    values = [0.1, 0.4, 0.2, 0.7, 0.3]

    after = step(make_rule(name), 1, START, updates(values))[B]

    np.testing.assert_allclose(after, flowers_own(name, 1, values), rtol=1e-6)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=30)
@given(order=st.permutations(range(5)))
def test_the_order_of_replies_does_not_matter(name: str, order: list[int]) -> None:
    """Values whose float32 sum and whose nearest neighbours depend on the order."""
    given_updates = updates([1e8, 1, -1e8, 0.1, 0.3])
    shuffled = [given_updates[i] for i in order]
    origin = {B: tensor(0)}

    first = step(make_rule(name), 1, origin, given_updates)
    second = step(make_rule(name), 1, origin, shuffled)

    assert first[B].tobytes() == second[B].tobytes()


def drawn(
    rng: np.random.Generator,
    sites: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
) -> list[AdapterUpdate]:
    """Updates of several tensors, all values by chance."""
    return [
        replace(
            an_update(a_plan(), site),
            delta={n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()},
        )
        for site in sites
    ]


def all_in_memory(
    rule: Strategy, number: int, current: Adapter, given: Sequence[AdapterUpdate]
) -> dict[str, Array]:
    """The oracle: Flower's rule over whole tensors of all updates at once."""
    origin = {name: np.zeros_like(array) for name, array in current.items()}
    if isinstance(rule, FedOpt):
        rule.current_arrays = origin
    elif isinstance(rule, FedAvgM):
        rule.current_arrays = record(origin)
    replies = [
        Message(
            RecordDict(
                {
                    "arrays": record(update.delta),
                    "metrics": MetricRecord({"num-examples": 1}),
                }
            ),
            dst_node_id=1,
            message_type="train",
        )
        for update in sorted(given, key=lambda update: update.site)
    ]
    arrays, _ = rule.aggregate_train(number, replies)
    assert arrays is not None
    return add(current, {n: a.numpy().astype(np.float32) for n, a in arrays.items()})


def record(arrays: Adapter) -> ArrayRecord:
    return ArrayRecord({name: SentArray(a) for name, a in sorted(arrays.items())})


@pytest.mark.parametrize("name", sorted(RULES.keys() - OURS))
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sites=st.integers(3, 12),
    columns=st.integers(3, 40),
)
def test_block_by_block_a_step_is_that_of_all_in_memory_to_the_last_bit(
    name: str, seed: int, sites: int, columns: int
) -> None:
    """Two rounds: a rule with memory must remember the same, too."""
    rng = np.random.default_rng(seed)
    shapes = {"b": (5, 4), "a": (7,), "c": (2, 3)}
    names = [f"site-{i}" for i in rng.permutation(sites)]
    start = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    by_blocks, whole = (make_rule(name), start), (make_rule(name), start)
    for number in (1, 2):
        sent = drawn(rng, names, shapes)
        rule, adapter = by_blocks
        by_blocks = rule, step(rule, number, adapter, sent, sites * columns)
        rule, adapter = whole
        whole = rule, all_in_memory(rule, number, adapter, sent)

    assert all(by_blocks[1][n].tobytes() == whole[1][n].tobytes() for n in shapes)


@pytest.mark.parametrize("name", RULES)
def test_a_restored_rule_goes_on_bit_by_bit(name: str) -> None:
    names = (B, "another.lora_B.weight")
    rng = np.random.default_rng(0)

    rounds = [drawn(rng, "abcde", dict.fromkeys(names, SHAPE)) for _ in range(3)]
    kept, start = make_rule(name), {n: tensor(1) for n in names}
    adapter: dict[str, Array] = start
    for number, given_updates in enumerate(rounds[:2], start=1):
        adapter = step(kept, number, adapter, given_updates)
    fresh = make_rule(name)
    restore_rule(fresh, rule_state(kept))

    expected = step(kept, 3, adapter, rounds[2])
    resumed = step(fresh, 3, adapter, rounds[2])

    assert all(expected[n].tobytes() == resumed[n].tobytes() for n in names)
    assert all(a.dtype == np.float32 for a in rule_state(kept).values())
    assert bool(rule_state(kept)) == (name in {"fedadam", "fedavgm", "spectral"})


def test_a_rule_without_a_past_has_no_state() -> None:
    assert rule_state(make_rule("fedadam")) == {}
    assert rule_state(make_rule("fedavgm")) == {}


def test_krum_refuses_too_few_updates() -> None:
    with pytest.raises(RoundError, match="4 updates, Krum needs 5"):
        step(make_rule("krum", malicious=1), 1, START, updates([1, 2, 3, 4]))


def test_no_updates_make_no_step() -> None:
    with pytest.raises(RoundError, match="FedAvg returned nothing in round 1"):
        step(make_rule("fedavg"), 1, START, [])


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("fedsgd", {}, "rule='fedsgd' is not one of fedavg, "),
        ("fedtrimmedavg", {"trim": 0.5}, r"trim=0.5 is not in \[0, 0.5\)"),
        ("krum", {"malicious": -1}, "malicious=-1 is below 0"),
        ("fedadam", {"learning_rate": -1.0}, "server-learning-rate=-1.0"),
        ("fedavg", {"learning_rate": 0.5}, "not used by fedavg"),
    ],
)
def test_an_option_that_no_rule_can_use_is_named(
    name: str, options: dict[str, float], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        make_rule(name, **options)  # type: ignore[arg-type]
