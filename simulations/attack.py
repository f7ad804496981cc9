"""What hostile sites do in a simulation; nothing here is a part of a site or a server.

A hostile site takes part as any other: its folder, its ledger and its witness are in
order, and what it sends is as the plan asks. So it is judged by its values alone, which
either an honest reply is turned into, or invented users are trained on for. It sends
nothing longer than the server accepts.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from flwr.app import Array as SentArray
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from client.data import SiteData, UserHistory, save
from shared.adapter import clip, norm
from shared.catalogue import Catalogue
from shared.errors import ConfigError
from shared.packing import Packed, pack, unpack
from shared.protocol import Adapter, Array, RoundPlan, plan_from_json
from simulations.evaluate import Outcome
from simulations.grid import Turn
from simulations.scenario import PEACE, Attack, Scenario, site_names
from simulations.world import World

BELOW = 0.99  # of max-norm, for what packing rounds up


def hostile_sites(scenario: Scenario) -> tuple[str, ...]:
    """Return the sites that attack: the last of those that train."""
    asked = scenario.simulation
    training = site_names(asked.sites)[: asked.sites - asked.unseen_sites]
    return training[len(training) - scenario.attack.sites :]


def promoted(catalogue: Catalogue) -> str:
    """Return the id of the item that is pushed: the one with the smallest SHA-256.

    So it is public, the same in every run, and chosen by nothing that users did.
    """
    return min(catalogue.ids, key=lambda name: hashlib.sha256(name.encode()).digest())


def exposure(scenario: Scenario, world: World, outcome: Outcome) -> float | None:
    """Return how often users are shown the promoted item, against chance.

    Of all places in the lists of the sites that have the item: 1 is what it gets where
    lists are drawn at random, 0 says that nobody is shown it.

    Args:
        scenario: Says who attacks.
        world: Gives the catalogues.
        outcome: One arm's rankings of honest sites.

    Returns:
        The ratio; None without an attack, or if no site of the outcome has the item.
    """
    catalogues = {name: world.catalogue(name) for name in world.names}
    hostile = hostile_sites(scenario)
    if not hostile:
        return None
    item = promoted(catalogues[hostile[0]])
    shown, expected = 0.0, 0.0
    for name, ranking in outcome.sites.items():
        if item in catalogues[name].ids:
            shown += float((ranking.top == catalogues[name].position(item)).sum())
            expected += ranking.top.size / len(catalogues[name])
    return shown / expected if expected else None


def turns(scenario: Scenario) -> dict[str, Turn]:
    """Return what each hostile site makes of its honest reply.

    Raises:
        ConfigError: If sites shall attack where replies cannot be turned.
    """
    asked = scenario.simulation
    if scenario.attack.kind == PEACE:
        return {}
    if scenario.attack.sites and asked.engine == "ray":
        raise ConfigError(
            f"attack.sites={scenario.attack.sites} needs engine=inprocess, not ray"
        )
    turn = partial(_turned, scenario.attack, asked.seed)
    return {name: partial(turn, name) for name in hostile_sites(scenario)}


def data_of(
    scenario: Scenario, world: World, name: str, honest_data: Path, folder: Path
) -> Path:
    """Return the folder that a site trains on: its own data, or what it invents.

    Args:
        scenario: Says who attacks, and how.
        world: Gives the catalogue and how many users there are.
        name: The site.
        honest_data: Folder of the site's own data.
        folder: Where invented users are written, once.
    """
    if scenario.attack.kind != "promotion" or name not in hostile_sites(scenario):
        return honest_data
    made = folder / "invented" / name
    if not made.exists():
        own = world.training[world.names.index(name)]
        rng = np.random.default_rng([scenario.simulation.seed, *name.encode()])
        save(made, invented(own, rng))
    return made


def invented(data: SiteData, rng: np.random.Generator) -> SiteData:
    """Return as many invented users: each likes any one item, then the promoted one."""
    catalogue = data.catalogue
    item = catalogue.position(promoted(catalogue))
    others = np.delete(np.arange(len(catalogue)), item)
    users = tuple(
        UserHistory(
            user=f"invented-{number}",
            items=np.array([first, item]),
            times=np.arange(2),
            likes=np.ones(2, np.bool_),
        )
        for number, first in enumerate(rng.choice(others, len(data.histories)))
    )
    return SiteData(catalogue, users)


def _turned(
    attack: Attack, seed: int, name: str, asked: Message, reply: Message
) -> Message:
    """Return what a hostile site sends for its honest reply; a refusal stays one."""
    if reply.has_error() or "update" not in reply.content:
        return reply
    plan = plan_from_json(str(asked.content.config_records["plan"]["json"]))
    update = reply.content.config_records["update"]
    own = _sent(reply.content, plan)
    rng = np.random.default_rng([seed, plan.number, *name.encode()])
    wanted = KINDS[attack.kind](own, attack.strength, rng)
    packed = pack(clip(wanted, BELOW * plan.max_norm), plan.wire)
    content = {
        **reply.content,
        "update": ConfigRecord({**update, "scales": packed.scales.tobytes()}),
        "delta": ArrayRecord({"values": SentArray(packed.values)}),
    }
    return Message(RecordDict(content), reply_to=asked)


def _sent(content: RecordDict, plan: RoundPlan) -> dict[str, Array]:
    """Return the honest update in a reply."""
    scales = content.config_records["update"]["scales"]
    values = content.array_records["delta"]["values"].numpy()
    if not isinstance(scales, bytes):
        raise ConfigError("a reply without scales is of no site of ours")
    return unpack(Packed(values, np.frombuffer(scales, np.float32)), plan.shapes)


def _scaled(delta: Adapter, factor: float) -> dict[str, Array]:
    return {name: array * np.float32(factor) for name, array in delta.items()}


def _random(
    own: Adapter, strength: float, rng: np.random.Generator
) -> dict[str, Array]:
    """Return an update in a direction drawn at random, ``strength`` times as long."""
    drawn = {
        name: rng.normal(size=array.shape).astype(np.float32)
        for name, array in sorted(own.items())
    }
    return _scaled(drawn, strength * norm(own) / norm(drawn))


KINDS: Mapping[
    str, Callable[[Adapter, float, np.random.Generator], dict[str, Array]]
] = {
    "random": _random,
    "sign-flip": lambda own, strength, _rng: _scaled(own, -strength),
    "promotion": lambda own, strength, _rng: _scaled(own, strength),
}
