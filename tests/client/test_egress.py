"""The door: exactly what is allowed leaves, and nothing else."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import client.egress
from client.egress import release_metric_value, release_update, seal
from client.reach import reach
from client.site import Site
from shared.accounting import GaussianEvent
from shared.adapter import norm
from shared.errors import EgressRefused, LedgerBroken
from shared.ledger import Ledger
from shared.protocol import Adapter, AdapterUpdate, Recipe, RoundPlan
from shared.sealing import metric_bytes, update_bytes
from tests.factories import write_site
from tests.standin import a_plan

SHAPES = {"a.lora_B.weight": (3, 2), "b.lora_B.weight": (4,)}
SECRET = 0.7125374
RATE, STEPS = 0.5, 20
REACH = reach(RATE, STEPS, 10)


def plan(max_norm: float = 10.0) -> RoundPlan:
    recipe = Recipe(learning_rate=RATE)
    asked = replace(a_plan(number=3), shapes=SHAPES, max_norm=max_norm, recipe=recipe)
    assert asked.mechanism.steps == STEPS
    return asked


def honest(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}


def allowed(delta: Mapping[str, np.ndarray], max_norm: float) -> bool:
    """The oracle: the allow-list, said in the slow and obvious way."""
    if set(delta) != set(SHAPES):
        return False
    for name, array in delta.items():
        if array.dtype != np.float32 or array.shape != SHAPES[name]:
            return False
        if not np.isfinite(array).all() or (array == 0).all():
            return False
    squares = sum(float(x) ** 2 for array in delta.values() for x in array.flat)
    return math.sqrt(squares) <= min(max_norm, REACH)


ARRAYS = st.one_of(
    *(
        hnp.arrays(
            dtype,
            st.sampled_from([(3, 2), (4,), (2, 3), ()]),
            elements=elements,
            fill=st.nothing(),
        )
        for dtype, elements in (
            (np.float32, st.floats(width=32)),
            (np.float32, st.floats(-2, 2, width=32)),
            (np.float32, st.just(0.0)),
            (np.float64, st.floats(-1, 1)),
            (np.int32, st.integers(-2, 2)),
        )
    )
)
GOOD = st.integers(0, 99).map(honest)


@st.composite
def deltas(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Honest deltas, with some tensors replaced, added or left out."""
    delta = draw(GOOD)
    names = st.sampled_from([*SHAPES, "c.lora_B.weight", "popularity"])
    delta |= draw(st.dictionaries(names, ARRAYS, max_size=2))
    for name in draw(st.sets(names, max_size=1)):
        delta.pop(name, None)
    return delta


@given(delta=deltas(), max_norm=st.sampled_from([0.5, 3.0, 10.0, 1e30]))
def test_whatever_is_not_exactly_allowed_is_refused(
    delta: dict[str, np.ndarray], max_norm: float
) -> None:
    if allowed(delta, max_norm):
        update, _ = seal(delta, plan(max_norm), site="a", ledger_head="f")

        assert update.delta.keys() == SHAPES.keys()
    else:
        with pytest.raises(EgressRefused):
            seal(delta, plan(max_norm), site="a", ledger_head="f")


@given(delta=GOOD)
def test_what_is_allowed_leaves_as_it_is_and_says_whose_it_is(delta: Adapter) -> None:
    update, _ = seal(delta, plan(), site="site-1", ledger_head="f" * 64)

    assert {n: a.tobytes() for n, a in update.delta.items()} == {
        n: a.tobytes() for n, a in delta.items()
    }
    assert (update.site, update.run, update.number) == ("site-1", "rehearsal", 3)
    assert update.plan == plan().digest()
    assert update.ledger_head == "f" * 64


FAULTS: dict[str, tuple[str, np.ndarray | None, str]] = {
    "a tensor is missing": ("a.lora_B.weight", None, "a.lora_B.weight: missing"),
    "a tensor is unknown": ("users", np.ones(3, np.float32), "users: not agreed"),
    "another shape": (
        "b.lora_B.weight",
        np.ones(5, np.float32),
        r"shape \(5,\), expected \(4,\)",
    ),
    "another type": ("b.lora_B.weight", np.ones(4), "float64, expected float32"),
    "not a number": (
        "b.lora_B.weight",
        np.array([1, np.nan, 1, np.inf], np.float32),
        "2 of 4 values are not finite",
    ),
    "unchanged": ("b.lora_B.weight", np.zeros(4, np.float32), "did not change"),
    "too long": (
        "b.lora_B.weight",
        np.full(4, 6, np.float32),
        r"update norm 12\.\d+ is over the plan's max-norm 10\.0",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_alone_is_enough_and_is_named(fault: str) -> None:
    name, array, told = FAULTS[fault]
    delta = {n: a for n, a in honest().items() if n != name}
    if array is not None:
        delta[name] = array

    with pytest.raises(EgressRefused, match=told):
        seal(delta, plan(), site="a", ledger_head="f")


def test_a_refusal_holds_no_value_of_a_tensor() -> None:
    delta = {**honest(), "b.lora_B.weight": np.full(4, SECRET, np.float64)}

    with pytest.raises(EgressRefused) as caught:
        seal(delta, plan(), site="a", ledger_head="f")

    assert "0.71" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_longest_update_that_is_accepted_is_exactly_the_limit() -> None:
    delta = {
        "a.lora_B.weight": np.zeros((3, 2), np.float32),
        "b.lora_B.weight": np.array([0, 4, 0, 0], np.float32),
    }
    delta["a.lora_B.weight"][1, 1] = 3

    update, _ = seal(delta, plan(5.0), site="a", ledger_head="f")

    assert norm(update.delta) == 5.0
    with pytest.raises(EgressRefused, match="max-norm"):
        seal(delta, plan(4.9999), site="a", ledger_head="f")


@given(seed=st.integers(0, 99), length=st.floats(1e-3, 1e6))
def test_no_update_is_longer_than_the_steps_of_its_plan_can_make_it(
    seed: int, length: float
) -> None:
    """Whatever the server would accept: a longer one is not what training made."""
    scale = length / norm(honest(seed))
    delta = {n: (a * scale).astype(np.float32) for n, a in honest(seed).items()}

    if norm(delta) <= REACH:
        seal(delta, plan(1e30), site="a", ledger_head="f")
    else:
        with pytest.raises(EgressRefused, match="is over what its steps can reach"):
            seal(delta, plan(1e30), site="a", ledger_head="f")


@pytest.mark.parametrize(
    "written",
    [
        lambda update: update_bytes(update)[:-1],
        lambda update: update_bytes(replace(update, delta=honest(1))),
    ],
    ids=["cut", "of other values"],
)
def test_an_update_that_cannot_be_read_back_does_not_leave(
    monkeypatch: pytest.MonkeyPatch, written: Callable[[AdapterUpdate], bytes]
) -> None:
    monkeypatch.setattr(client.egress, "update_bytes", written)

    with pytest.raises(EgressRefused, match="not the same after being saved and read"):
        seal(honest(), plan(), site="a", ledger_head="f")


def test_what_was_sealed_does_not_follow_later_changes_of_the_mapping() -> None:
    delta = honest()
    update, _ = seal(delta, plan(), site="a", ledger_head="f")

    del delta["a.lora_B.weight"]

    assert update.delta.keys() == SHAPES.keys()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return write_site(tmp_path, releases=("metrics",))


@pytest.fixture
def ledger(site: Site) -> Ledger:
    return site.open_ledger()


def charged(ledger: Ledger, what: str) -> int:
    """The number of a charge for round 3."""
    return ledger.plan(
        run="rehearsal",
        number=3,
        what=what,
        event=GaussianEvent(q=0.2, sigma=2.0, steps=1),
        clip=1.0,
        plan_digest=plan().digest(),
    )


def sealed(ledger: Ledger) -> list[dict[str, object]]:
    return [dict(e.body) for e in ledger.entries() if e.state == "sealed"]


def test_an_update_is_kept_and_in_the_ledger_before_it_goes(
    site: Site, ledger: Ledger
) -> None:
    planned, head = charged(ledger, "training"), ledger.head()

    update = release_update(site, ledger, plan(), planned, honest())

    content = update_bytes(update)
    (entry,) = sealed(ledger)
    assert site.kept_bytes("rehearsal", "update-0003") == content
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert entry["bytes"] == len(content)
    assert entry["tensors"] == sorted(SHAPES)
    assert entry["leaves"] is True
    assert entry["planned"] == planned
    assert update.ledger_head == head
    assert update.site == "site-1"


def test_a_metric_is_kept_and_in_the_ledger_before_it_goes(
    site: Site, ledger: Ledger
) -> None:
    planned = charged(ledger, "metrics")

    metric = release_metric_value(site, ledger, plan(), planned, "ndcg@10", 0.375)

    content = metric_bytes(metric)
    (entry,) = sealed(ledger)
    assert site.kept_bytes("rehearsal", "metric-0003") == content
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert entry["bytes"] == len(content)
    assert (entry["tensors"], entry["leaves"]) == (["ndcg@10"], True)
    assert entry["planned"] == planned
    assert asdict(metric) == {
        "site": "site-1",
        "run": "rehearsal",
        "number": 3,
        "plan": plan().digest(),
        "name": "ndcg@10",
        "value": 0.375,
    }


def test_what_may_not_leave_is_neither_kept_nor_sealed(
    site: Site, ledger: Ledger
) -> None:
    planned = charged(ledger, "training")

    with pytest.raises(EgressRefused):
        release_update(site, ledger, plan(), planned, {"users": np.ones(3, "f4")})

    assert sealed(ledger) == []
    assert site.kept_bytes("rehearsal", "update-0003") is None


def test_a_metric_that_the_policy_does_not_list_never_leaves(tmp_path: Path) -> None:
    site = write_site(tmp_path, releases=("popularity",))
    ledger = site.open_ledger()
    planned = charged(ledger, "metrics")

    with pytest.raises(EgressRefused, match="lists no metrics"):
        release_metric_value(site, ledger, plan(), planned, "ndcg@10", 0.5)

    assert sealed(ledger) == []
    assert site.kept_bytes("rehearsal", "metric-0003") is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_never_leaves(
    site: Site, ledger: Ledger, value: float
) -> None:
    planned = charged(ledger, "metrics")

    with pytest.raises(EgressRefused, match=r"^metric ndcg@10 is not finite and"):
        release_metric_value(site, ledger, plan(), planned, "ndcg@10", value)

    assert sealed(ledger) == []


def test_one_charge_lets_one_thing_out(site: Site, ledger: Ledger) -> None:
    planned = charged(ledger, "training")
    release_update(site, ledger, plan(), planned, honest())

    with pytest.raises(LedgerBroken, match="not an unsealed plan"):
        release_update(site, ledger, plan(), planned, honest(1))
    with pytest.raises(LedgerBroken, match="not an unsealed plan"):
        release_metric_value(site, ledger, plan(), planned, "ndcg@10", 0.5)

    assert len(sealed(ledger)) == 1


def test_nothing_goes_that_cannot_be_recorded(
    site: Site, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = charged(ledger, "training")

    def full(*_: object, **__: object) -> None:
        raise LedgerBroken("disk full")

    monkeypatch.setattr(Ledger, "sealed", full)
    with pytest.raises(LedgerBroken):
        release_update(site, ledger, plan(), planned, honest())
    with pytest.raises(LedgerBroken):
        release_metric_value(site, ledger, plan(), planned, "ndcg@10", 0.5)
