"""One aggregation step by a rule of Flower, over equally weighted updates.

A rule sees the updates around the origin, and its step is added to the current adapter:
all rules move with a shift of their input, and float32 loses least near zero.

No rule sees all values of all updates at once. Mean, median and trimmed mean look at
each value by itself, so they are asked for one block of columns after the other. A rule
with memory, or ``spectral``, moves with the mean alone. Krum looks at distances alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array as SentArray
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedTrimmedAvg,
    Krum,
    MultiKrum,
    Strategy,
)
from flwr.serverapp.strategy.fedopt import FedOpt
from flwr.serverapp.strategy.multikrum import select_multikrum

from server.spectral import Spectral
from server.spool import Row, Spool
from shared.adapter import add
from shared.errors import ConfigError, RoundError
from shared.protocol import Adapter, Array

VALUES = "values"  # name of a row's values in a reply
MOMENTUM = 0.9  # Hsu et al. 2019, FedAvgM
RULES: Mapping[str, Callable[[float, float, int], Strategy]] = {
    "fedavg": lambda _rate, _trim, _malicious: FedAvg(),
    "fedadam": lambda rate, _trim, _malicious: FedAdam(eta=rate or 0.1),
    "fedavgm": lambda rate, _trim, _malicious: FedAvgM(
        server_learning_rate=rate or 1.0, server_momentum=MOMENTUM
    ),
    "fedmedian": lambda _rate, _trim, _malicious: FedMedian(),
    "fedtrimmedavg": lambda _rate, trim, _malicious: FedTrimmedAvg(beta=trim),
    "krum": lambda _rate, _trim, malicious: Krum(num_malicious_nodes=malicious),
    "multikrum": lambda _rate, _trim, malicious: MultiKrum(
        num_malicious_nodes=malicious
    ),
    "spectral": lambda _rate, _trim, _malicious: Spectral(),
}


def rule_faults(
    name: str, *, learning_rate: float = 0.0, trim: float = 0.2, malicious: int = 0
) -> list[str]:
    """Return one sentence for each option that no rule can use."""
    faults = []
    if name not in RULES:
        faults.append(f"rule={name!r} is not one of {', '.join(RULES)}")
    if not 0 <= learning_rate < 1e6:
        faults.append(f"server-learning-rate={learning_rate} is not in [0, 1e6)")
    if learning_rate and name in RULES and name not in {"fedadam", "fedavgm"}:
        faults.append(f"server-learning-rate={learning_rate} is not used by {name}")
    if not 0 <= trim < 0.5:
        faults.append(f"trim={trim} is not in [0, 0.5)")
    if malicious < 0:
        faults.append(f"malicious={malicious} is below 0")
    return faults


def make_rule(
    name: str, *, learning_rate: float = 0.0, trim: float = 0.2, malicious: int = 0
) -> Strategy:
    """Return the rule called ``name``.

    Args:
        name: One of ``RULES``.
        learning_rate: Server's step for fedadam and fedavgm; 0 is the rule's own.
        trim: Share that fedtrimmedavg drops at each end.
        malicious: Dishonest sites f that krum withstands among n >= 2f + 3.

    Raises:
        ConfigError: With every option out of range.
    """
    faults = rule_faults(
        name, learning_rate=learning_rate, trim=trim, malicious=malicious
    )
    if faults:
        raise ConfigError("; ".join(faults))
    return RULES[name](learning_rate, trim, malicious)


def fewest_for_krum(malicious: int) -> int:
    """Return the fewest updates among which Krum withstands ``malicious`` ones.

    Blanchard et al. 2017, proposition 1: n >= 2f + 3.
    """
    return 2 * malicious + 3


def step(
    rule: Strategy, number: int, current: Adapter, spool: Spool, rows: Sequence[Row]
) -> dict[str, Array]:
    """Return the next adapter: ``current`` plus what the rule makes of the updates.

    Guarantee: every site weighs the same, and the order of ``rows`` does not matter.

    Args:
        rule: Made by ``make_rule``; keeps its own memory from round to round.
        number: The round, from 1.
        current: The adapter of which every update is a checked change.
        spool: Where the updates are.
        rows: Checked; at most one of each site.

    Raises:
        RoundError: If there are too few updates for the rule.
    """
    _require_enough(rule, number, len(rows))
    in_order = sorted(rows, key=lambda row: row.site)
    if isinstance(rule, Krum | MultiKrum):
        chosen = _chosen(rule, spool, in_order)
        parts = [block.mean(axis=0) for block in spool.blocks(chosen)]
    else:
        remembers = isinstance(rule, FedOpt | FedAvgM | Spectral)
        each = FedAvg() if remembers else rule
        parts = [_aggregated(each, number, block) for block in spool.blocks(in_order)]
    moved = spool.tensors(np.concatenate(parts))
    if isinstance(rule, FedOpt | FedAvgM):
        moved = _remembered(rule, number, moved)
    if isinstance(rule, Spectral):
        moved = rule.moved(moved)
    return add(current, moved)


def rule_state(rule: Strategy) -> dict[str, Array]:
    """Return the rule's memory as named float32 arrays; empty if it has none yet."""
    if isinstance(rule, FedOpt):
        moments = {"m": rule.m_t or {}, "v": rule.v_t or {}}
        return {f"{m}/{n}": a for m, held in moments.items() for n, a in held.items()}
    if isinstance(rule, FedAvgM):
        return {f"{i:06}": a for i, a in enumerate(rule.momentum_vector or ())}
    if isinstance(rule, Spectral):
        return dict(rule.total)
    return {}


def restore_rule(rule: Strategy, state: Mapping[str, Array]) -> None:
    """Give a fresh rule the memory that ``rule_state`` returned."""
    if isinstance(rule, FedOpt) and state:
        rule.m_t = {n[2:]: a for n, a in state.items() if n.startswith("m/")}
        rule.v_t = {n[2:]: a for n, a in state.items() if n.startswith("v/")}
    elif isinstance(rule, FedAvgM) and state:
        rule.momentum_vector = [array for _, array in sorted(state.items())]
    elif isinstance(rule, Spectral):
        rule.total = dict(state)


def _require_enough(rule: Strategy, number: int, given: int) -> None:
    """Krum alone would go on with fewer updates than its proof asks for."""
    if isinstance(rule, Krum | MultiKrum):
        needed = fewest_for_krum(rule.num_malicious_nodes)
        if given < needed:
            raise RoundError(f"round {number}: {given} updates, Krum needs {needed}")


def _aggregated(rule: Strategy, number: int, block: npt.NDArray[Any]) -> Array:
    """Return what the rule makes of a matrix with one row of values for each site."""
    return _asked(rule, number, [{VALUES: row} for row in block])[VALUES]


def _remembered(rule: FedOpt | FedAvgM, number: int, mean: Adapter) -> dict[str, Array]:
    """Return the step of a rule with memory, which starts from the origin."""
    origin = {name: np.zeros_like(array) for name, array in mean.items()}
    rule.current_arrays = origin if isinstance(rule, FedOpt) else _record(origin)
    return _asked(rule, number, [mean])


def _chosen(rule: Krum | MultiKrum, spool: Spool, rows: Sequence[Row]) -> list[Row]:
    """Return the updates that Krum picks: one, or as many as are honest (multi-Krum).

    The rows of a root of the matrix of inner products are as far from each other as
    the updates are, and there are only as many values in each as there are sites.
    """
    malicious = rule.num_malicious_nodes
    wanted = 1 if isinstance(rule, Krum) else len(rows) - malicious
    values, vectors = np.linalg.eigh(spool.products(rows))
    points = vectors * np.sqrt(np.maximum(values, 0.0))
    contents = [_reply({VALUES: point}).content for point in points]
    picked = {id(one) for one in select_multikrum(contents, malicious, wanted)}
    return [row for row, one in zip(rows, contents, strict=True) if id(one) in picked]


def _asked(
    rule: Strategy, number: int, replies: Sequence[Mapping[str, npt.NDArray[Any]]]
) -> dict[str, Array]:
    """Return what the rule makes of ``replies``, as float32."""
    arrays, _ = rule.aggregate_train(number, [_reply(one) for one in replies])
    if arrays is None:
        raise RoundError(f"{type(rule).__name__} returned nothing in round {number}")
    return {name: sent.numpy().astype(np.float32) for name, sent in arrays.items()}


def _record(arrays: Mapping[str, npt.NDArray[Any]]) -> ArrayRecord:
    """Return Flower's record in sorted order: FedAvgM pairs tensors by position."""
    return ArrayRecord({name: SentArray(a) for name, a in sorted(arrays.items())})


def _reply(arrays: Mapping[str, npt.NDArray[Any]]) -> Message:
    """Return the reply of a site as Flower's rules read it, with weight one."""
    weight = MetricRecord({"num-examples": 1})
    content = RecordDict({"arrays": _record(arrays), "metrics": weight})
    return Message(content, dst_node_id=1, message_type="train")
