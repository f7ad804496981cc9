"""A server that asks for what it must not get: refused, and nothing is spent or shown.

It speaks the real protocol to the real ClientApp, with instructions made by hand. Each
differs from an honest one in one thing alone; the honest one is answered.
"""

import io
import json
import math
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array as SentArray
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch.optim.optimizer import register_optimizer_step_pre_hook

from client.app import app, reply
from client.site import Site
from shared.protocol import AdapterSpec, RoundPlan
from shared.signing import load_key, sign
from shared.wire import open_refusal, open_reply, pack_plan, with_witness
from shared.witness import Witness, statement
from simulations.grid import LocalGrid
from tests.factories import (
    mechanism,
    small_recipe,
    tiny_plan,
    tiny_spec,
    write_site,
    zeros,
)
from tests.standin import a_witness

LIMITS: Mapping[str, Any] = {
    "min_sigma": 1.0,
    "min_prior_sigma": 4.0,
    "max_q": 0.5,
    "max_steps": 3,
    "max_clip": 0.5,
    "max_rank": 4,
}  # an honest plan is at each of them
FILES = {  # all that a site may have in its folder after refusals
    "site.toml", "policy.toml", "site.key", "ledger.witness", "ledger.lock",
    "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm",
}  # fmt: skip


def honest(**changes: Any) -> RoundPlan:
    """What both sites would answer."""
    return tiny_plan(number=2, **changes)


def packed(asked: RoundPlan) -> RecordDict:
    return pack_plan(asked, zeros(asked))


@dataclass(frozen=True)
class Target:
    """A site deep in a folder of its own, so that a way out of it would be seen."""

    root: Path
    site: Site

    def tree(self) -> set[str]:
        """Every path below the root."""
        return {path.relative_to(self.root).as_posix() for path in self.root.rglob("*")}

    def ask(self, content: RecordDict, kind: str = "train") -> Message:
        """Let Flower's grid carry an instruction to the site, and its answer back."""
        grid = LocalGrid(app, {"site-1": {"site": str(self.site.folder)}})
        (answer,) = grid.send_and_receive([Message(content, 1, kind)])
        return answer


def target(root: Path, people: int = 0, **policy: Any) -> Target:
    return Target(root, write_site(root / "a" / "b" / "site-1", people, **policy))


@pytest.fixture
def newcomer(tmp_path: Path) -> Target:
    """A site that never trained; its data folder is not there."""
    return target(tmp_path, **LIMITS)


@pytest.fixture(scope="module")
def veteran(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A site that answered round 1; its data folder is there."""
    made = target(tmp_path_factory.mktemp("veteran"), 20, **LIMITS)
    answer = made.ask(packed(replace(honest(), number=1)))
    assert open_refusal(answer.content) is None
    return made


@contextmanager
def optimiser_steps() -> Iterator[list[object]]:
    """Collect every step that any optimiser takes inside the block."""
    seen: list[object] = []
    handle = register_optimizer_step_pre_hook(lambda *_: seen.append(1))
    try:
        yield seen
    finally:
        handle.remove()


def assert_refused(where: Target, *asked: tuple[RecordDict, str]) -> None:
    """Nothing trained, nothing charged, nothing written, nothing told but a class."""
    ledger = where.site.open_ledger()
    charged, spent, paths = ledger.events(), ledger.epsilon(), where.tree()

    with optimiser_steps() as steps:
        answers = [where.ask(content) for content, _ in asked]

    assert not any(answer.has_error() for answer in answers)
    assert [
        {name: dict(record) for name, record in answer.content.items()}
        for answer in answers
    ] == [{"refusal": {"site": "site-1", "reason": reason}} for _, reason in asked]
    assert steps == []
    assert (ledger.events(), ledger.epsilon()) == (charged, spent)
    site = where.site.folder.relative_to(where.root).as_posix()
    assert where.tree() - paths <= {f"{site}/{name}" for name in FILES}


def test_the_same_server_is_answered_while_it_asks_what_it_may(tmp_path: Path) -> None:
    """Or the refusals below could be for any reason."""
    where = target(tmp_path, 20, **LIMITS)

    with optimiser_steps() as steps:
        answer = where.ask(packed(honest()))

    assert open_reply(answer.content, honest().shapes).update.number == 2
    assert len(steps) == 3


ASKED: dict[str, RoundPlan] = {
    "less noise": honest(mechanism=mechanism(sigma=0.999)),
    "no noise": honest(mechanism=mechanism(sigma=0.0, prior_sigma=0.0)),
    "more steps": honest(mechanism=mechanism(steps=4)),
    "a larger rate": honest(mechanism=mechanism(q=0.51)),
    "everybody": honest(mechanism=mechanism(q=1.0)),
    "a longer clip": honest(mechanism=mechanism(clip=0.51)),
    "a popularity with less noise": honest(mechanism=mechanism(prior_sigma=3.9)),
    "a metric": honest(mechanism=mechanism(metric_sigma=1e5)),
    "a bigger rank": honest(spec=tiny_spec(rank=5)),
    "other modules": honest(spec=tiny_spec(modules="attention:1")),
    "more modules": honest(spec=tiny_spec(modules="dense:2")),
    "another encoder": replace(honest(), spec=AdapterSpec(base="1" * 64, rank=4)),
    "an encoder by its path": replace(honest(), spec=tiny_spec(base="../../weights")),
    "a site that it is not": replace(honest(), sites=("site-2", "site-3")),
    "nobody": replace(honest(), sites=()),
    "another tensor": replace(honest(), shapes={"encoder.weight": (32, 4)}),
    "one tensor more": replace(
        honest(), shapes={**honest().shapes, "head.factors": (8, 4)}
    ),
    "one tensor less": replace(honest(), shapes={}),
    "another shape": replace(
        honest(), shapes={name: (*shape, 1) for name, shape in honest().shapes.items()}
    ),
    "a shape turned round": replace(
        honest(), shapes={name: shape[::-1] for name, shape in honest().shapes.items()}
    ),
}


@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("who", ["newcomer", "veteran"])
def test_a_plan_beyond_the_policy_is_refused(
    what: str, who: str, request: pytest.FixtureRequest
) -> None:
    where = request.getfixturevalue(who)

    assert_refused(where, (packed(ASKED[what]), "PolicyRefused"))


def test_a_release_that_the_site_does_not_make_is_refused(tmp_path: Path) -> None:
    without = mechanism(prior_sigma=0.0)
    where = target(tmp_path, 20, **LIMITS, releases=())

    assert_refused(where, (packed(honest()), "PolicyRefused"))
    answer = where.ask(packed(honest(mechanism=without)))

    assert open_refusal(answer.content) is None


@pytest.mark.parametrize(
    "again",
    [
        replace(honest(), number=1, max_norm=99.0),
        replace(honest(), number=1, recipe=small_recipe(learning_rate=0.5)),
        replace(honest(), number=1, mechanism=mechanism(sigma=50.0)),
    ],
    ids=["another limit", "another step", "another noise"],
)
def test_a_round_is_not_repeated_under_another_plan(
    veteran: Target, again: RoundPlan
) -> None:
    assert_refused(veteran, (packed(again), "PolicyRefused"))


@pytest.mark.parametrize(
    "noise", [mechanism(sigma=50.0), mechanism(q=0.1), mechanism(steps=1)]
)
def test_the_mechanism_of_a_run_is_not_changed_on_the_way(
    veteran: Target, noise: Any
) -> None:
    """Within every limit; but epsilon composes what was fixed in advance."""
    assert_refused(veteran, (packed(honest(mechanism=noise)), "PolicyRefused"))


def test_a_round_asked_for_again_and_again_gives_the_same_and_costs_nothing(
    veteran: Target,
) -> None:
    ledger = veteran.site.open_ledger()
    spent, content = ledger.epsilon(), packed(replace(honest(), number=1))

    with optimiser_steps() as steps:
        answers = [veteran.ask(content).content for _ in range(3)]

    updates = [open_reply(answer, honest().shapes).update for answer in answers]
    assert len({update.ledger_head for update in updates}) == 1
    for name in updates[0].delta:
        assert len({update.delta[name].tobytes() for update in updates}) == 1
    assert steps == []
    assert ledger.epsilon() == spent


Spoil = Callable[[RecordDict], None]


def tensor_of(content: RecordDict) -> str:
    return next(iter(content.array_records["adapter"]))


def put(array: SentArray | np.ndarray) -> Spoil:
    """Another array in place of the first."""
    sent = array if isinstance(array, SentArray) else SentArray(array)

    def spoil(content: RecordDict) -> None:
        content.array_records["adapter"][tensor_of(content)] = sent

    return spoil


def filled(value: float, dtype: str = "float32") -> np.ndarray:
    (shape,) = honest().shapes.values()
    return np.full(math.prod(shape), value, dtype)


def one_value(value: float) -> np.ndarray:
    array = filled(0)
    array[-1] = value
    return array


def claiming(shape: tuple[int, ...], data: bytes = b"") -> SentArray:
    return SentArray("float32", shape, "numpy.ndarray", data)


class Trap:
    """Writes a file where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("sprung"), "user 17")


def pickled() -> SentArray:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap()] * 3, object), allow_pickle=True)
    return SentArray("float32", filled(0).shape, "numpy.ndarray", buffer.getvalue())


def more_tensors(content: RecordDict) -> None:
    content.array_records["adapter"]["head.factors"] = SentArray(filled(0))


def no_tensors(content: RecordDict) -> None:
    content["adapter"] = ArrayRecord({})


def renamed(content: RecordDict) -> None:
    arrays, name = content.array_records["adapter"], tensor_of(content)
    arrays[f"../{name}"] = arrays.pop(name)


def with_record(name: str, record: Any) -> Spoil:
    def spoil(content: RecordDict) -> None:
        content[name] = record

    return spoil


def without_record(name: str) -> Spoil:
    def spoil(content: RecordDict) -> None:
        del content[name]

    return spoil


def with_key(content: RecordDict) -> None:
    content.config_records["plan"]["code"] = "import os"


def without_text(content: RecordDict) -> None:
    content.config_records["plan"]["json"] = b"{}"


SPOILT: dict[str, tuple[Spoil, str]] = {
    "a weight that is no number": (put(one_value(np.nan)), "ModelError"),
    "an infinite weight": (put(one_value(np.inf)), "ModelError"),
    "weights that are no numbers": (put(filled(np.nan)), "ModelError"),
    "double precision": (put(filled(0, "float64")), "RoundError"),
    "half precision": (put(filled(0, "float16")), "RoundError"),
    "a pickle": (put(pickled()), "RoundError"),
    "no bytes": (put(claiming(filled(0).shape)), "RoundError"),
    "a shape of a gigabyte": (put(claiming((1 << 28,))), "ModelError"),
    "a shape below zero": (put(claiming((-4, -32))), "ModelError"),
    "a shape that is not the plan's": (put(np.zeros(1, "f4")), "ModelError"),
    "as many dimensions as a tensor": (put(claiming((4, 32))), "ModelError"),
    "one tensor more than the plan's": (more_tensors, "ModelError"),
    "no tensor": (no_tensors, "ModelError"),
    "a tensor by a path": (renamed, "RoundError"),
    "a record more": (with_record("x", ConfigRecord({"run": "1"})), "RoundError"),
    "metrics": (with_record("x", MetricRecord({"q": 1.0})), "RoundError"),
    "a reply": (with_record("update", ConfigRecord({"site": "a"})), "RoundError"),
    "a second adapter": (with_record("more", ArrayRecord({})), "RoundError"),
    "a plan of arrays": (with_record("plan", ArrayRecord({})), "RoundError"),
    "no plan": (without_record("plan"), "RoundError"),
    "no adapter": (without_record("adapter"), "RoundError"),
    "a key more": (with_key, "RoundError"),
    "a plan in bytes": (without_text, "RoundError"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_records_that_are_not_those_of_an_instruction_are_refused(
    newcomer: Target, what: str
) -> None:
    spoil, reason = SPOILT[what]
    content = packed(honest())
    spoil(content)

    assert_refused(newcomer, (content, reason))

    assert not Path("sprung").exists()


@pytest.mark.parametrize("weight", [1e3, 1e10, 1e20, 3e38])
def test_weights_that_are_finite_and_absurd_are_refused_before_they_cost(
    newcomer: Target, weight: float
) -> None:
    content = packed(honest())
    put(filled(weight))(content)

    assert_refused(newcomer, (content, "PolicyRefused"))


def test_weights_within_the_policy_get_what_the_charge_pays_for(tmp_path: Path) -> None:
    """The guarantee holds for any weights: noise is added whatever they are."""
    where, content = target(tmp_path, 20, **LIMITS), packed(honest())
    put(filled(50.0))(content)

    answer = where.ask(content)

    assert len(where.site.open_ledger().events()) == 2
    assert open_reply(answer.content, honest().shapes).update.number == 2


WAYS_OUT = [
    *("../../../out", "/srv/out", "a/b", "a\\b", "..", ".", "", "a\0", "a\n", "~"),
    "a" * 300,
]
NOT_A_NUMBER: list[Any] = [np.nan, np.inf, -np.inf, None, "3", [3], {}]


def changed(path: str, value: Any) -> str:
    """The plan's line with one value of its own."""
    made = json.loads(honest().to_json())
    *parents, key = path.split(".")
    place = made
    for name in parents:
        place = place[name]
    place[key] = value
    return json.dumps(made, sort_keys=True, separators=(",", ":"))


ODD: dict[str, list[Any]] = {
    "run": WAYS_OUT,
    "sites": [["site-1", name] for name in WAYS_OUT] + ["site-1", None],
    "shapes": [
        *({name: [32, 4]} for name in WAYS_OUT),
        *({"b": [n]} for n in (-1, 0, 1.5, "4", 1 << 28, 10**400)),
        *([], None, {"b": 4}, {"b": None}),
    ],
    "spec.modules": [*WAYS_OUT, "dense:0", "dense:-1", "dense:1/..", "output:1"],
    "spec.rank": [*NOT_A_NUMBER, 0, -4, 10**9, 4.0, True],
    "spec.seed": [*NOT_A_NUMBER, -1, 2**64],
    "spec.scale": [*NOT_A_NUMBER, 0.0, -1.0, 1e9, 10**400],
    "spec.max_tokens": [*NOT_A_NUMBER, 0, 10**9],
    "mechanism.q": [*NOT_A_NUMBER, 0.0, -0.1, 1.1],
    "mechanism.sigma": [*NOT_A_NUMBER, -1.0, 0.1, 1e9, 10**400],
    "mechanism.clip": [*NOT_A_NUMBER, 0.0, -1.0, 1e9],
    "mechanism.steps": [*NOT_A_NUMBER, 0, -1, 1.5, True, 10**9],
    "mechanism.prior_sigma": [*NOT_A_NUMBER, -1.0, 1e9],
    "mechanism.metric_sigma": [*NOT_A_NUMBER, -1.0, 1e-9, 1e9],
    "recipe.learning_rate": [*NOT_A_NUMBER, 0.0, -0.1, 1e9],
    "recipe.temperature": [*NOT_A_NUMBER, -1.0, 1e300],
    "recipe.alpha": [*NOT_A_NUMBER, -0.1, 1.1],
    "recipe.factors": [*NOT_A_NUMBER, 0, -4, 10**9],
    "recipe.history": [*NOT_A_NUMBER, 0, -1, 10**9],
    "recipe.targets": [*NOT_A_NUMBER, 0, -1, 10**9],
    "recipe.negatives": [*NOT_A_NUMBER, 0, -1, 10**12],
    "recipe.seed": [*NOT_A_NUMBER, -1, 2**64],
    "number": [*NOT_A_NUMBER, 0, -1, 2.0, True, 10**30],
    "max_norm": [*NOT_A_NUMBER, 0.0, -1.0],
    "deadline_s": [*NOT_A_NUMBER, 0.0, -1.0],
    "quorum": [*NOT_A_NUMBER, 0, -1],
    "more": ["user 17"],
    "recipe.more": [1],
}


@pytest.mark.parametrize("key", ODD)
def test_a_plan_of_odd_names_and_numbers_is_refused(newcomer: Target, key: str) -> None:
    asked = []
    for value in ODD[key]:
        content = packed(honest())
        content["plan"] = ConfigRecord({"json": changed(key, value)})
        asked.append((content, "ConfigError"))

    assert_refused(newcomer, *asked)


@pytest.mark.parametrize(
    "line",
    [
        *("", "{", "[]", "7", "null", "NaN", "[" * 100_000),
        changed("max_norm", 1.5).replace("1.5", "1e999"),
        changed("number", 1.5).replace("1.5", "1" * 5000),
    ],
    ids=["nothing", "half", "list", "number", "null", "NaN", "deep", "1e999", "long"],
)
def test_a_plan_that_is_no_json_of_a_plan_is_refused(
    newcomer: Target, line: str
) -> None:
    content = packed(honest())
    content["plan"] = ConfigRecord({"json": line})

    assert_refused(newcomer, (content, "ConfigError"))


def seen(site: Site, **changes: Any) -> Witness:
    """The site's own end, changed after it was signed."""
    return replace(site.open_ledger().witness(), **changes)


def signed(site: Site, entries: int, head: str = "0" * 64) -> Witness:
    """Another end that the site itself signed, as a copy of it that went on would."""
    changed_end = seen(site, entries=entries, head=head)
    said = statement("site-1", entries - 1, head)
    return replace(
        changed_end, signature=sign(load_key(site.folder / "site.key"), said)
    )


WITNESSES: dict[str, Callable[[Site], Witness]] = {
    "of another key": lambda _: a_witness("site-1", 2),
    "of another site": lambda _: a_witness("site-2", 1),
    "of a key that claims the site's": lambda site: replace(
        a_witness("site-1", 2), key=seen(site).key
    ),
    "with another head": lambda site: seen(site, head="1" * 64),
    "with another length": lambda site: seen(site, entries=seen(site).entries + 1),
    "with another name": lambda site: replace(seen(site), site="site-2"),
    "without a signature": lambda site: seen(site, signature=""),
    "ahead of the ledger": lambda site: signed(site, seen(site).entries + 1),
    "far ahead": lambda site: signed(site, 10**9),
    "of a clone": lambda site: signed(site, seen(site).entries),
    "of no entry": lambda site: signed(site, 0),
    "of fewer than no entries": lambda site: signed(site, -1),
}


@pytest.mark.parametrize("what", WITNESSES)
@pytest.mark.parametrize("who", ["newcomer", "veteran"])
def test_a_witness_that_is_no_end_of_the_ledger_stops_the_site(
    what: str, who: str, request: pytest.FixtureRequest
) -> None:
    """A lying server can cause refusal, and nothing else."""
    where = request.getfixturevalue(who)
    content = with_witness(packed(honest()), WITNESSES[what](where.site))

    assert_refused(where, (content, "LedgerBroken"))


def test_a_true_witness_stops_nobody(tmp_path: Path) -> None:
    where = target(tmp_path, 20, **LIMITS)
    earlier = seen(where.site)
    where.site.open_ledger().refused("run", 1, "PolicyRefused")

    answer = where.ask(with_witness(packed(honest()), earlier))

    assert open_refusal(answer.content) is None


@pytest.mark.parametrize(
    ("shape", "data", "reason"),
    [
        ((1 << 28,), 0, "ConfigError"),  # a gigabyte, in plan and array
        ((1 << 26,), 0, "RoundError"),  # as much as a plan may, and no bytes
        ((32, 4), 300 << 20, "RoundError"),  # more bytes than their shape says
    ],
)
def test_a_huge_array_costs_the_site_no_memory(
    tmp_path: Path, shape: tuple[int, ...], data: int, reason: str
) -> None:
    where = target(tmp_path, **LIMITS)
    content = packed(honest())
    (name,) = honest().shapes
    line = changed("shapes", {name: list(shape)})
    content["plan"] = ConfigRecord({"json": line})
    put(claiming((math.prod(shape),), bytes(data)))(content)

    tracemalloc.start()
    answer = reply(content, where.site.folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert open_refusal(answer) == ("site-1", reason)
    assert peak < 8 << 20
    assert where.site.open_ledger().events() == []


@pytest.mark.parametrize("kind", ["evaluate", "query", "train.more"])
def test_an_instruction_of_another_kind_does_nothing(
    newcomer: Target, kind: str
) -> None:
    entries = newcomer.site.open_ledger().entries()

    answer = newcomer.ask(packed(honest()), kind)

    assert answer.has_error()
    assert str(newcomer.site.folder) not in str(answer.error.reason)
    assert newcomer.site.open_ledger().entries() == entries


def test_every_refusal_is_in_the_ledger_by_its_class_alone(tmp_path: Path) -> None:
    where = target(tmp_path, **LIMITS)
    content = packed(honest())
    content["plan"] = ConfigRecord({"json": changed("run", "../../../out")})

    where.ask(content)
    where.ask(packed(ASKED["less noise"]))

    refused = [entry.body for entry in where.site.open_ledger().entries()[1:]]
    assert [(body["run"], body["round"], body["reason"]) for body in refused] == [
        ("", 0, "ConfigError"),
        ("run", 2, "PolicyRefused"),
    ]
