"""A server that asks for what it must not get: refused, and nothing is spent or shown.

It speaks the real protocol to the real ClientApp, with instructions made by hand. Each
differs from an honest one in one thing alone; the honest one is answered.
"""

import io
import json
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
from tests.factories import mechanism, small_recipe, tiny_plan, tiny_spec, write_site
from tests.factories import zeros
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


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A site that never trained; its data folder is not there."""
    return target(tmp_path_factory.mktemp("newcomer"), **LIMITS)


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


def assert_refused(where: Target, content: RecordDict, reason: str) -> None:
    """Nothing trained, nothing charged, nothing written, nothing told but a class."""
    ledger = where.site.open_ledger()
    charged, spent, paths = ledger.events(), ledger.epsilon(), where.tree()

    with optimiser_steps() as steps:
        answer = where.ask(content)

    assert not answer.has_error()
    assert {name: dict(record) for name, record in answer.content.items()} == {
        "refusal": {"site": "site-1", "reason": reason}
    }
    assert steps == []
    assert (ledger.events(), ledger.epsilon()) == (charged, spent)
    site = where.site.folder.relative_to(where.root).as_posix()
    assert where.tree() - paths <= {f"{site}/{name}" for name in FILES}


@pytest.mark.parametrize("people", [20])
def test_the_same_server_is_answered_while_it_asks_what_it_may(
    tmp_path: Path, people: int
) -> None:
    """Or the refusals below could be for any reason."""
    where = target(tmp_path, people, **LIMITS)

    with optimiser_steps() as steps:
        answer = where.ask(packed(honest()))

    assert open_reply(answer.content).update.number == 2
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

    assert_refused(where, packed(ASKED[what]), "PolicyRefused")


def test_a_release_that_the_site_does_not_make_is_refused(tmp_path: Path) -> None:
    without = mechanism(prior_sigma=0.0)
    where = target(tmp_path, 20, **LIMITS, releases=())

    assert_refused(where, packed(honest()), "PolicyRefused")
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
    assert_refused(veteran, packed(again), "PolicyRefused")


@pytest.mark.parametrize(
    "noise", [mechanism(sigma=50.0), mechanism(q=0.1), mechanism(steps=1)]
)
def test_the_mechanism_of_a_run_is_not_changed_on_the_way(
    veteran: Target, noise: Any
) -> None:
    """Within every limit; but epsilon composes what was fixed in advance."""
    assert_refused(veteran, packed(honest(mechanism=noise)), "PolicyRefused")


def test_a_round_asked_for_again_and_again_gives_the_same_and_costs_nothing(
    veteran: Target,
) -> None:
    ledger = veteran.site.open_ledger()
    spent, content = ledger.epsilon(), packed(replace(honest(), number=1))

    with optimiser_steps() as steps:
        answers = [veteran.ask(content).content for _ in range(3)]

    updates = [open_reply(answer).update for answer in answers]
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
    return np.full(shape, value, dtype)


def one_value(value: float) -> np.ndarray:
    array = filled(0)
    array[-1, -1] = value
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
    (shape,) = honest().shapes.values()
    return SentArray("float32", shape, "numpy.ndarray", buffer.getvalue())


def more_tensors(content: RecordDict) -> None:
    content.array_records["adapter"]["head.factors"] = SentArray(filled(0))


def no_tensors(content: RecordDict) -> None:
    content["adapter"] = ArrayRecord({})


def renamed(content: RecordDict) -> None:
    arrays = content.array_records["adapter"]
    arrays["../" + tensor_of(content)] = arrays.pop(tensor_of(content))


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
    "a shape that is not the plan's": (put(np.zeros((1, 1), "f4")), "ModelError"),
    "one tensor more than the plan's": (more_tensors, "ModelError"),
    "no tensor": (no_tensors, "ModelError"),
    "a tensor by a path": (renamed, "ModelError"),
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

    assert_refused(newcomer, content, reason)

    assert not Path("sprung").exists()


PLAN = json.loads(honest().to_json())
OUT = ["../../../out", "/tmp/out", "a/b", "..", ".", "", "a\\b", "a\0", "~", "a" * 65]


def changed(path: str, value: Any) -> str:
    """The plan's line with one value of its own."""
    made = json.loads(honest().to_json())
    *parents, key = path.split(".")
    place = made
    for name in parents:
        place = place[name]
    place[key] = value
    return json.dumps(made, sort_keys=True, separators=(",", ":"))


ODD_PLANS = {
    **{f"run {name!r}": changed("run", name) for name in OUT},
    **{f"site {name!r}": changed("sites", ["site-1", name]) for name in OUT},
    **{f"tensor {name!r}": changed("shapes", {name: [32, 4]}) for name in OUT[:6]},
    **{f"modules {name!r}": changed("spec.modules", name) for name in OUT},
    **{
        f"{path}={value}": changed(path, value)
        for path, value in (
            *(("mechanism.sigma", value) for value in (np.nan, np.inf, -1.0, 10**400)),
            *(("mechanism.q", value) for value in (0.0, -0.1, 1.1, np.nan)),
            *(("mechanism.steps", value) for value in (0, -1, 10**9, 1.5, "3", True)),
            *(("mechanism.clip", value) for value in (0.0, np.inf, -np.inf, None)),
            *(("mechanism.metric_sigma", value) for value in (-1.0, 1e-9, np.nan)),
            *(("recipe.learning_rate", value) for value in (-0.1, 0.0, 1e9, np.inf)),
            *(("recipe.factors", value) for value in (-4, 0, 10**9, [4])),
            *(("recipe.negatives", value) for value in (-1, 10**12)),
            *(("recipe.history", value) for value in (-1, 10**9)),
            *(("recipe.targets", value) for value in (-1, 0, 10**9)),
            *(("recipe.temperature", value) for value in (-1.0, 1e300)),
            *(("recipe.seed", value) for value in (-1, 2**64)),
            *(("spec.rank", value) for value in (0, -4, 10**9, 4.0)),
            *(("spec.seed", value) for value in (-1, 2**64)),
            *(("spec.scale", value) for value in (np.nan, 1e9, -1.0)),
            *(("spec.max_tokens", value) for value in (0, 10**9)),
            *(("number", value) for value in (0, -1, 10**30, "2", 2.0)),
            *(("max_norm", value) for value in (np.nan, -1.0, 0.0)),
            *(("deadline_s", value) for value in (np.inf, -1.0)),
            *(("shapes", value) for value in ([], None, {"b": [1 << 28]})),
            *(("shapes", {"b": [value]}) for value in (-1, 0, 1.5, 10**400)),
            *(("more", "user 17"), ("recipe.more", 1), ("sites", "site-1")),
        )
    },
    "a number too large for a float": changed("mechanism.sigma", 1.5).replace(
        "1.5", "1e999", 1
    ),
    "no JSON": "{",
    "no object": "[]",
    "deep": "[" * 100_000,
    "nothing": "",
}


@pytest.mark.parametrize("what", ODD_PLANS)
def test_a_plan_of_odd_names_and_numbers_is_refused(
    newcomer: Target, what: str
) -> None:
    content = packed(honest())
    assert ODD_PLANS[what] != content.config_records["plan"]["json"]
    content.config_records["plan"]["json"] = ODD_PLANS[what]

    assert_refused(newcomer, content, "ConfigError")


def of_the_veteran(site: Site, entries: int, head: str) -> Witness:
    """An end that the veteran itself signed, as a copy of it that went on would."""
    key = load_key(site.folder / "site.key")
    genuine = site.open_ledger().witness()
    signature = sign(key, statement("site-1", entries - 1, head))
    return replace(genuine, entries=entries, head=head, signature=signature)


WITNESSES: dict[str, Callable[[Site], Witness]] = {
    "of another key": lambda _: a_witness("site-1", 2),
    "of another site": lambda _: a_witness("site-2", 1),
    "of another key that claims the site's": lambda site: replace(
        a_witness("site-1", 2), key=site.open_ledger().witness().key
    ),
    "with another head": lambda site: replace(
        site.open_ledger().witness(), head="0" * 64
    ),
    "with another length": lambda site: replace(
        site.open_ledger().witness(), entries=1
    ),
    "without a signature": lambda site: replace(
        site.open_ledger().witness(), signature=""
    ),
    "ahead of the ledger": lambda site: of_the_veteran(site, 999, "0" * 64),
    "of a clone": lambda site: of_the_veteran(site, 2, "0" * 64),
    "of no entry": lambda site: of_the_veteran(site, 0, "0" * 64),
    "of fewer than no entries": lambda site: of_the_veteran(site, -1, "0" * 64),
}


@pytest.mark.parametrize("what", WITNESSES)
@pytest.mark.parametrize("who", ["newcomer", "veteran"])
def test_a_witness_that_is_no_end_of_the_ledger_stops_the_site(
    what: str, who: str, request: pytest.FixtureRequest
) -> None:
    """A lying server can cause refusal, and nothing else."""
    where = request.getfixturevalue(who)
    content = with_witness(packed(honest()), WITNESSES[what](where.site))

    assert_refused(where, content, "LedgerBroken")


def test_a_true_witness_stops_nobody(tmp_path: Path) -> None:
    where = target(tmp_path, 20, **LIMITS)
    seen = where.site.open_ledger().witness()
    where.site.open_ledger().refused("run", 1, "PolicyRefused")

    answer = where.ask(with_witness(packed(honest()), seen))

    assert open_refusal(answer.content) is None


HUGE: dict[str, Callable[[], tuple[RecordDict, str]]] = {}


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
    content.config_records["plan"]["json"] = line
    put(claiming(shape, bytes(data)))(content)

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
    assert str(newcomer.site.folder) not in answer.error.reason
    assert newcomer.site.open_ledger().entries() == entries


def test_every_refusal_is_in_the_ledger_by_its_class_alone(tmp_path: Path) -> None:
    where = target(tmp_path, **LIMITS)
    content = packed(honest())
    content.config_records["plan"]["json"] = ODD_PLANS["run '../../../out'"]

    where.ask(content)
    where.ask(packed(ASKED["less noise"]))

    refused = [entry.body for entry in where.site.open_ledger().entries()[1:]]
    assert [(body["run"], body["round"], body["reason"]) for body in refused] == [
        ("", 0, "ConfigError"),
        ("run", 2, "PolicyRefused"),
    ]
