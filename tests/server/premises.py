"""An operator's folder with signed versions in it, for tests."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from server.operator import Operator, ServerSettings, open_operator, settings_text
from server.registry import Registry
from shared.protocol import Adapter, RoundPlan
from shared.signing import make_key
from shared.start import write_start
from tests.factories import tiny_plan


def an_operator(folder: Path, base: str = "tiny") -> Operator:
    """A folder with settings and a key, and nothing else."""
    folder.mkdir(parents=True)
    settings = ServerSettings(addresses=("localhost",), base=base)
    (folder / "server.toml").write_text(settings_text(settings), "utf-8")
    make_key(folder / "operator.key")
    return open_operator(folder)


def publish(
    operator: Operator, run: str, rounds: int, *, plan: RoundPlan | None = None
) -> Registry:
    """Publish the rounds of a run up to ``rounds``, with tensors of known chance."""
    asked = plan or tiny_plan()
    start = operator.starts / "start"
    start.parent.mkdir(exist_ok=True)
    write_start(start, operator.settings.base, asked.spec)
    root = operator.runs / run / "registry"
    registry = Registry.open(root, start, str(operator.key))
    for number in range(registry.newest() + 1, rounds + 1):
        after = _adapter(asked.shapes, f"{run}/{number}")
        round_plan = replace(asked, run=run, number=number)
        registry.publish(round_plan, after, "FedAvg", {}, {"site-1": ["ab" * 32]})
    return registry


def _adapter(shapes: Mapping[str, tuple[int, ...]], name: str) -> Adapter:
    rng = np.random.default_rng([*name.encode()])
    return {n: rng.normal(0, 0.1, s).astype(np.float32) for n, s in shapes.items()}
