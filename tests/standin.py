"""A tiny federation for tests: known deltas instead of training."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from shared.protocol import (
    Adapter,
    AdapterSpec,
    AdapterUpdate,
    Array,
    Mechanism,
    Recipe,
    RoundPlan,
)
from shared.wire import open_plan, pack_update

A = "base_model.model.dense.lora_A.weight"
B = "base_model.model.dense.lora_B.weight"
SHAPE = (3, 2)
Behaviour = Callable[[RoundPlan, Adapter, AdapterUpdate], RecordDict]


def tensor(value: float) -> Array:
    """An exchanged tensor, the same everywhere."""
    return np.full(SHAPE, value, np.float32)


def a_plan(number: int = 1, sites: tuple[str, ...] = ("a", "b", "c")) -> RoundPlan:
    """A plan that wants more than half of the sites within half a second."""
    return RoundPlan(
        run="rehearsal",
        number=number,
        sites=sites,
        spec=AdapterSpec(base="0" * 64),
        mechanism=Mechanism(),
        recipe=Recipe(),
        shapes={B: SHAPE},
        max_norm=100.0,
        quorum=len(sites) // 2 + 1,
        deadline_s=0.5,
    )


def an_update(plan: RoundPlan, site: str = "a", value: float = 1.0) -> AdapterUpdate:
    """An honest update that follows ``plan``."""
    return AdapterUpdate(
        site=site,
        run=plan.run,
        number=plan.number,
        plan=plan.digest(),
        delta={B: tensor(value)},
        ledger_head="f" * 64,
    )


def write_start(folder: Path, value: float = 0.0) -> Path:
    """A PEFT folder with a frozen A and a trained B, and something to carry along."""
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "1_Pooling" / "config.json").write_text("{}", "utf-8")
    (folder / "adapter_config.json").write_text('{"r": 2}', "utf-8")
    tensors = {A: np.ones((2, 4), np.float32), B: tensor(value)}
    safetensors.numpy.save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def node_configs(*sites: str) -> dict[str, dict[str, str]]:
    """What LocalGrid needs to know of each site."""
    return {site: {"site": site} for site in sites}


def known_delta(plan: RoundPlan, adapter: Adapter, site: str) -> Adapter:
    """A delta that depends on the site, the round and the adapter, and on no chance."""
    seed = [plan.number, *site.encode()]
    fresh = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    return {B: fresh - np.float32(0.1) * adapter[B]}


def honest(_plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate) -> RecordDict:
    """Answer as asked."""
    return pack_update(update)


def a_client(
    values: Mapping[str, float] | None = None,
    dishonest: Mapping[str, Behaviour] | None = None,
    asked: list[tuple[int, str]] | None = None,
) -> ClientApp:
    """A ClientApp whose sites answer with known deltas, save the dishonest ones.

    Args:
        values: Site -> value of its whole delta; ``known_delta`` where there is none.
        dishonest: Site -> what it makes of its own honest update.
        asked: Collects (round, site) of every instruction.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        plan, adapter = open_plan(message.content)
        site = str(context.node_config["site"])
        if asked is not None:
            asked.append((plan.number, site))
        update = an_update(plan, site)
        if values and site in values:
            update = replace(update, delta={B: tensor(values[site])})
        else:
            update = replace(update, delta=known_delta(plan, adapter, site))
        behaviour = (dishonest or {}).get(site, honest)
        return Message(behaviour(plan, adapter, update), reply_to=message)

    return app
