"""Hostile sites: what they send, what they train on, and how far they get."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from flwr.app import ArrayRecord, Error, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data import load, save
from server.replies import Answer, judge
from shared.adapter import norm
from shared.catalogue import Catalogue
from shared.errors import ConfigError
from shared.protocol import WIRES, Adapter, RoundPlan
from shared.wire import pack_plan, pack_refusal, pack_reply
from simulations.attack import (
    KINDS,
    data_of,
    exposure,
    hostile_sites,
    invented,
    promoted,
    turns,
)
from simulations.evaluate import Outcome
from simulations.grid import LocalGrid, enter_run
from simulations.population import generate
from simulations.ranking import Ranking
from simulations.scenario import ATTACKS, Attack, Scenario
from simulations.scenario_file import read_scenario
from simulations.world import World, make_world
from tests.standin import (
    B,
    a_client,
    a_metric,
    a_plan,
    a_reply,
    an_update,
    known_delta,
    node_configs,
    packed,
    tensor,
)

SITES = ("site-1", "site-2", "site-3")
EVIL = SITES[-1]
ZERO = {B: tensor(0.0)}


def scenario(
    *, hostile: int = 1, kind: str = "sign-flip", strength: float = 1.0, **own: object
) -> Scenario:
    options = {"sites": 3, "users": 60, "items": 144, **own}
    named = {key.replace("_", "-"): value for key, value in options.items()}
    asked = read_scenario(None, named, ["base=tiny"])
    return replace(asked, attack=Attack(kind=kind, sites=hostile, strength=strength))


@pytest.fixture(scope="module", autouse=True)
def inside_a_run() -> None:
    """Flower builds messages inside a run alone."""
    enter_run()


def instruction(plan: RoundPlan) -> Message:
    message = Message(pack_plan(plan, ZERO), 1, "train")
    message.metadata.__dict__["_message_id"] = "asked"
    return message


def turned(attack: Scenario, plan: RoundPlan, delta: Adapter) -> Message:
    """What the hostile site sends instead of an honest update."""
    asked = instruction(plan)
    own = replace(an_update(plan, EVIL), delta=delta)
    return turns(attack)[EVIL](asked, Message(packed(own), reply_to=asked))


def judged(reply: Message, plan: RoundPlan) -> Answer:
    return judge(reply, plan, 1, EVIL, {})


def sent(reply: Message, plan: RoundPlan) -> Adapter:
    told = judged(reply, plan).reply
    assert told is not None
    return told.update.delta


def lists(world: World, top: Mapping[str, list[list[int]]]) -> Outcome:
    """An outcome with these lists; nobody asks for its ranks."""
    sizes = {
        name: len(data.catalogue)
        for name, data in zip(world.names, world.training, strict=True)
    }
    return Outcome(
        "federated",
        1.0,
        {name: listed(np.array(rows), sizes[name]) for name, rows in top.items()},
    )


def listed(top: npt.NDArray[np.int64], items: int) -> Ranking:
    last = np.full(len(top), items)
    scores = np.zeros(len(top))
    return Ranking(last, top, items, last, scores, scores > 0)


def place_of_promoted(world: World) -> int:
    catalogue = world.training[0].catalogue
    return catalogue.position(promoted(catalogue))


def test_every_kind_that_a_scenario_may_ask_for_is_known() -> None:
    assert set(KINDS) == set(ATTACKS)


@settings(max_examples=40)
@given(
    kind=st.sampled_from(ATTACKS),
    wire=st.sampled_from(WIRES),
    strength=st.floats(0.01, 1e4),
    max_norm=st.floats(0.1, 100.0),
    length=st.floats(0.01, 1.0),
    number=st.integers(1, 9),
)
def test_what_a_hostile_site_sends_is_accepted_whatever_it_does(
    kind: str, wire: str, strength: float, max_norm: float, length: float, number: int
) -> None:
    plan = replace(a_plan(number, SITES), wire=wire, max_norm=max_norm)
    drawn = known_delta(plan, ZERO, EVIL)[B]
    delta = {B: (length * max_norm / norm({B: drawn}) * drawn).astype(np.float32)}
    asked = instruction(plan)
    own = replace(an_update(plan, EVIL), delta=delta)
    if wire != "float32":  # what a site sends is what its wire can say
        own = replace(own, delta={B: np.rint(drawn).astype(np.float32)})
    reply = Message(packed(own), reply_to=asked)

    answer = judged(
        turns(scenario(kind=kind, strength=strength))[EVIL](asked, reply), plan
    )

    assert answer.reason == ""
    assert answer.reply is not None
    assert answer.reply.witness == a_reply(own).witness


def test_a_turned_update_is_the_honest_one_with_its_sign_changed() -> None:
    plan = a_plan(2, SITES)
    own = known_delta(plan, ZERO, EVIL)

    got = sent(turned(scenario(kind="sign-flip"), plan, own), plan)
    longer = sent(turned(scenario(kind="sign-flip", strength=3), plan, own), plan)

    assert np.array_equal(got[B], -own[B])
    assert np.allclose(longer[B], -3 * own[B])


def test_a_random_update_is_as_long_as_asked_and_another_in_every_round() -> None:
    found = []
    for number in (1, 2):
        plan = a_plan(number, SITES)
        own = known_delta(plan, ZERO, EVIL)
        found.append(sent(turned(scenario(kind="random", strength=2), plan, own), plan))

        assert norm(found[-1]) == pytest.approx(2 * norm(own), rel=1e-5)
        assert not np.allclose(np.abs(found[-1][B]), 2 * np.abs(own[B]))
    assert not np.allclose(found[0][B], found[1][B])


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_strong_attack_is_as_long_as_the_server_accepts(kind: str) -> None:
    plan = a_plan(1, SITES)
    own = known_delta(plan, ZERO, EVIL)

    got = sent(turned(scenario(kind=kind, strength=1e6), plan, own), plan)

    assert 0.98 * plan.max_norm < norm(got) < plan.max_norm


def test_a_refusal_an_error_and_a_metric_stay_what_they_are() -> None:
    plan = replace(a_plan(1, SITES))
    turn, asked = turns(scenario())[EVIL], instruction(plan)
    refused = Message(pack_refusal(EVIL, "BudgetSpent"), reply_to=asked)
    failed = Message(Error(2, "told"), reply_to=asked)
    own = an_update(plan, EVIL)
    measured = Message(pack_reply(a_reply(own, a_metric(own))), reply_to=asked)

    assert turn(asked, refused) is refused
    assert turn(asked, failed) is failed
    sent_on = turn(asked, measured).content
    assert sent_on["metric"] == measured.content["metric"]
    assert sent_on["delta"] != measured.content["delta"]


def test_the_last_of_the_sites_that_train_attack() -> None:
    asked = scenario(hostile=2, sites=6, unseen_sites=1)

    assert hostile_sites(asked) == ("site-4", "site-5")
    assert hostile_sites(scenario(hostile=0)) == ()
    assert turns(scenario(hostile=0)) == {}


def test_in_peace_the_same_sites_are_set_aside_and_send_what_they_learned() -> None:
    asked = scenario(kind="none", hostile=2, sites=6)

    assert hostile_sites(asked) == ("site-5", "site-6")
    assert turns(asked) == {}


def test_sites_do_not_attack_under_ray_where_nobody_turns_their_replies() -> None:
    assert turns(scenario(hostile=0, engine="ray")) == {}
    with pytest.raises(ConfigError, match=r"attack\.sites=1 needs engine=inprocess"):
        turns(scenario(engine="ray"))


def test_in_a_grid_only_hostile_sites_send_something_else() -> None:
    plan, app = a_plan(1, SITES), a_client()
    replies = {}
    for hostile in (0, 1):
        grid = LocalGrid(
            app, node_configs(*SITES), turns=turns(scenario(hostile=hostile))
        )
        asked = [Message(pack_plan(plan, ZERO), n, "train") for n in (1, 2, 3)]
        replies[hostile] = [r.content for r in grid.send_and_receive(asked)]

    peaceful, attacked = replies[0], replies[1]
    assert attacked[:2] == peaceful[:2]
    assert values(attacked[2]) == pytest.approx(-values(peaceful[2]))


def values(content: RecordDict) -> npt.NDArray[np.float32]:
    delta = content["delta"]
    assert isinstance(delta, ArrayRecord)
    return delta["values"].numpy()


def test_the_promoted_item_is_public_and_the_same_in_any_order() -> None:
    ids = tuple(f"item-{n}" for n in range(50))
    there = Catalogue(ids=ids, texts=("text",) * 50)
    back = Catalogue(ids=ids[::-1], texts=("text",) * 50)

    assert promoted(there) == promoted(back)
    assert promoted(there) in ids


def test_invented_users_all_like_the_promoted_item_after_any_other(
    tmp_path: Path,
) -> None:
    data = generate(np.random.default_rng(3), users=200, items=144).data
    made = invented(data, np.random.default_rng(1))
    save(tmp_path / "data", made)

    read = load(tmp_path / "data")

    item = read.catalogue.position(promoted(data.catalogue))
    assert len(read.histories) == len(data.histories)
    assert all(history.items[-1] == item for history in read.histories)
    assert all(history.likes.all() for history in read.histories)
    before = {int(history.items[0]) for history in read.histories}
    assert item not in before
    assert len(before) > 80
    real = {history.user for history in data.histories}
    assert real.isdisjoint(history.user for history in read.histories)


def test_who_promotes_trains_on_what_it_invents_and_nobody_else_does(
    tmp_path: Path,
) -> None:
    asked = scenario(kind="promotion")
    world = make_world(asked)

    def folder_of(attack: Scenario, name: str) -> Path:
        own = tmp_path / "data" / name
        return data_of(attack, world, name, own, tmp_path)

    assert folder_of(asked, "site-1") == tmp_path / "data" / "site-1"
    assert folder_of(scenario(), EVIL) == tmp_path / "data" / EVIL
    made = load(folder_of(asked, EVIL))
    assert len(made.histories) == len(world.training[-1].histories)
    assert all(len(history) == 2 for history in made.histories)


def test_exposure_is_one_by_chance_and_none_without_an_attack() -> None:
    asked = scenario()
    world = make_world(asked)
    item = place_of_promoted(world)
    rng = np.random.default_rng(0)
    size = len(world.training[0].catalogue)
    drawn = rng.random((20_000, size)).argpartition(10, axis=1)[:, :10].tolist()
    never = [[n for n in range(11) if n != item][:10]] * 30
    always = [[item, *never[0][:9]]] * 30

    assert exposure(asked, world, lists(world, {"site-1": drawn})) == pytest.approx(
        1.0, abs=0.1
    )
    assert exposure(asked, world, lists(world, {"site-1": never})) == 0
    half = exposure(asked, world, lists(world, {"site-1": never, "site-2": always}))
    assert half == pytest.approx(size / 20)
    assert exposure(scenario(hostile=0), world, lists(world, {"site-1": drawn})) is None
