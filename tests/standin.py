"""A tiny federation for tests: known deltas instead of training, ledgers of its own."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import safetensors.numpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from shared.protocol import (
    Adapter,
    AdapterSpec,
    AdapterUpdate,
    Array,
    Mechanism,
    MetricRelease,
    Recipe,
    Reply,
    RoundPlan,
)
from shared.signing import public_key, sign
from shared.wire import open_plan, pack_reply
from shared.witness import Witness, statement

A = "base_model.model.dense.lora_A.weight"
B = "base_model.model.dense.lora_B.weight"
SHAPE = (3, 2)
Behaviour = Callable[[RoundPlan, Adapter, AdapterUpdate], RecordDict]


def tensor(value: float) -> Array:
    """An exchanged tensor, the same everywhere."""
    return np.full(SHAPE, value, np.float32)


def valued(site: str, value: float) -> Array:
    """A tensor whose first row holds the value; the rest is the site's alone.

    So no site's tensor is a multiple of another's, which would be taken for a copy.
    """
    own = np.random.default_rng([*site.encode()]).normal(scale=5, size=SHAPE)
    own[0] = value
    return own.astype(np.float32)


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
        wire=plan.wire,
    )


@lru_cache
def key_of(name: str) -> Ed25519PrivateKey:
    """A key of that name, the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def a_witness(
    site: str = "a", entries: int = 1, key: str | None = None, fork: str = ""
) -> Witness:
    """The signed end of a ledger of so many entries; ``fork`` gives it another past."""
    head = hashlib.sha256(f"{site} {entries} {fork}".encode()).hexdigest()
    signer = key_of(key or site)
    signature = sign(signer, statement(site, entries - 1, head))
    return Witness(
        site=site,
        key=public_key(signer),
        entries=entries,
        head=head,
        signature=signature,
    )


def a_metric(update: AdapterUpdate, value: float = 0.25) -> MetricRelease:
    """A metric of the round that ``update`` answers."""
    return MetricRelease(
        site=update.site,
        run=update.run,
        number=update.number,
        plan=update.plan,
        name="ndcg@10",
        value=value,
    )


def a_reply(update: AdapterUpdate, metric: MetricRelease | None = None) -> Reply:
    """What an honest site sends: its ledger has two entries more in each round."""
    witness = a_witness(update.site, 2 * update.number)
    return Reply(update=update, metric=metric, witness=witness)


def packed(update: AdapterUpdate) -> RecordDict:
    """The message of an honest reply without a metric."""
    return pack_reply(a_reply(update))


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
    return packed(update)


def a_client(
    values: Mapping[str, float] | None = None,
    dishonest: Mapping[str, Behaviour] | None = None,
    asked: list[tuple[int, str]] | None = None,
    told: list[tuple[str, Witness | None]] | None = None,
) -> ClientApp:
    """A ClientApp whose sites answer with known deltas, save the dishonest ones.

    Args:
        values: Site -> value in its ``valued`` delta; ``known_delta`` without one.
        dishonest: Site -> what it makes of its own honest update.
        asked: Collects (round, site) of every instruction.
        told: Collects (site, what it is told of its own ledger) of every instruction.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        plan, adapter, seen = open_plan(message.content)
        site = str(context.node_config["site"])
        if asked is not None:
            asked.append((plan.number, site))
        if told is not None:
            told.append((site, seen))
        update = an_update(plan, site)
        if values and site in values:
            update = replace(update, delta={B: valued(site, values[site])})
        else:
            update = replace(update, delta=known_delta(plan, adapter, site))
        behaviour = (dishonest or {}).get(site, honest)
        return Message(behaviour(plan, adapter, update), reply_to=message)

    return app
