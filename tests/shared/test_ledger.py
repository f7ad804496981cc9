"""The ledger: what is charged stays charged, and nothing is charged beyond a budget."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.accounting import GaussianEvent, epsilon
from shared.code import code_digest
from shared.entries import GENESIS
from shared.errors import BudgetSpent, ConfigError, LedgerBroken
from shared.ledger import Ledger
from shared.signing import public_key
from tests.shared.books import (
    CHEAP,
    DELTA,
    KEY,
    NEW_YEAR,
    OTHER_KEY,
    ROUND,
    VECTORS,
    book,
    busy,
    limits,
    seal,
    states,
    train,
    unprotected,
    vectors,
)

# SHA-256 of abc, FIPS 180-2
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def event(triple: list[float]) -> GaussianEvent:
    """An event of the vectors: q, sigma, steps."""
    q, sigma, steps = triple
    return GaussianEvent(q=q, sigma=sigma, steps=int(steps))


def test_the_budget_holds_to_the_last_round(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    for number in range(1, 6):
        train(ledger, number, ROUND)
    assert ledger.epsilon() == pytest.approx(2.989279, abs=2.5e-3)

    with pytest.raises(BudgetSpent, match=r"2\.9893.*round 6.*3\.2998.*budget 3\.0000"):
        train(ledger, 6, ROUND)

    assert states(ledger) == ["opened", *["planned"] * 5, "refused"]
    assert ledger.entries()[-1].body["reason"] == "BudgetSpent"
    assert ledger.epsilon() == pytest.approx(2.989279, abs=2.5e-3)
    assert ledger.epsilon("replace_one") == pytest.approx(6.10492, abs=9e-3)
    assert ledger.events() == [ROUND] * 5


@pytest.mark.parametrize("row", vectors("refusal"), ids=str)
def test_a_round_is_allowed_or_refused_as_the_vectors_say(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    ledger = book(tmp_path, row["budget"], delta=row["delta"])
    for number, triple in enumerate(row["ledger"]):
        train(ledger, number, event(triple))

    planned: list[int] = []
    refusals: list[BudgetSpent] = []
    try:
        planned.append(train(ledger, 9, event(row["planned"])))
    except BudgetSpent as refusal:
        refusals.append(refusal)

    assert bool(planned) == row["allow"]
    after = row["eps_after"]
    if row["allow"]:
        assert ledger.epsilon() == pytest.approx(after, rel=5e-4, abs=1e-3)
        assert ledger.entries()[-1].body["after"] == ledger.epsilon()
    else:
        assert f"bring it to {after:.4f}" in str(refusals[0])
        assert ledger.events() == [event(triple) for triple in row["ledger"]]


@pytest.mark.skipif(not VECTORS.exists(), reason=f"no vectors at {VECTORS}")
def test_a_ledger_grows_as_the_vectors_say(tmp_path: Path) -> None:
    growth = vectors("ledger_growth")
    ledger = book(tmp_path, 4.0)
    done = 0
    for row in growth["rows"]:
        steps = GaussianEvent(
            q=growth["q"], sigma=growth["sigma"], steps=row["steps"] - done
        )
        train(ledger, 1, steps)
        done = row["steps"]

        body = ledger.entries()[-1].body
        assert body["after"] == pytest.approx(row["add_remove"], rel=5e-4, abs=1e-3)
    bodies = [entry.body for entry in ledger.entries()[1:]]
    assert [body["before"] for body in bodies[1:]] == [
        body["after"] for body in bodies[:-1]
    ]


def test_steps_cost_the_same_however_they_are_split(tmp_path: Path) -> None:
    (tmp_path / "split").mkdir()
    whole, split = book(tmp_path), book(tmp_path / "split")
    train(whole, 1, GaussianEvent(q=0.2, sigma=2.99, steps=100))
    for number in range(5):
        train(split, number, ROUND)

    assert split.epsilon() == pytest.approx(whole.epsilon(), abs=1e-6)


def test_an_entry_says_what_was_planned_and_nothing_of_the_data(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    planned = train(ledger, 1, what="popularity")
    seal(ledger, planned, leaves=False)
    opened, plan, sealed = ledger.entries()

    assert opened.body == {
        "n": 0,
        "prev": GENESIS,
        "state": "opened",
        "date": NEW_YEAR,
        "format": 2,
        "site": "north",
        "key": public_key(KEY),
        "unit": "one user account at one site: all its interactions, over all time",
        "relation": "add_remove",
        "delta": 1e-5,
        "limits": limits().to_body(),
    }
    assert plan.body == {
        "n": 1,
        "prev": opened.hash,
        "state": "planned",
        "date": NEW_YEAR,
        "run": "r",
        "round": 1,
        "what": "popularity",
        "plan": "cd",
        "code": code_digest(),
        "mechanism": "poisson-gaussian",
        "q": 1.0,
        "sigma": 20.0,
        "steps": 1,
        "clip": 1.0,
        "before": 0.0,
        "after": epsilon([CHEAP], DELTA),
    }
    assert sealed.body == {
        "n": 2,
        "prev": plan.hash,
        "state": "sealed",
        "date": NEW_YEAR,
        "run": "r",
        "round": 1,
        "planned": planned,
        "leaves": False,
        "bytes": 3,
        "sha256": ABC,
        "tensors": ["a", "b"],
    }


def test_a_date_is_utc_unless_a_clock_is_given(tmp_path: Path) -> None:
    ledger = Ledger.open(
        tmp_path / "ledger.sqlite", site="north", delta=DELTA, limits=limits(), key=KEY
    )

    assert ledger.entries()[0].body["date"].endswith("+00:00")


def test_a_reopened_ledger_has_spent_the_same(tmp_path: Path) -> None:
    ledger = busy(tmp_path)
    again = book(tmp_path, 5.0)

    assert again.epsilon() == ledger.epsilon() == epsilon([CHEAP, CHEAP], DELTA)
    assert again.head() == ledger.head() == ledger.entries()[-1].hash
    assert again.entries() == ledger.entries() == again.chain().entries


def test_another_policy_is_an_entry_and_resets_nothing(tmp_path: Path) -> None:
    train(book(tmp_path, 1.0), 1)
    spent = book(tmp_path, 1.0).epsilon()

    lower = book(tmp_path, spent)
    with pytest.raises(BudgetSpent):
        train(lower, 2)
    train(book(tmp_path, 1.0), 2)
    book(tmp_path, limits=limits(1.0, policy="cd" * 32))
    book(tmp_path, limits=limits(1.0, policy="cd" * 32))

    assert states(lower) == [
        *("opened", "planned", "policy", "refused", "policy", "planned", "policy")
    ]
    assert lower.epsilon() == epsilon([CHEAP] * 2, DELTA) > spent
    assert lower.chain().limits == limits(1.0, policy="cd" * 32)


@pytest.mark.parametrize(
    "changes",
    [
        {"limits": limits(0.0)},
        {"limits": limits(math.nan)},
        {"limits": limits(max_clip=math.inf)},
        {"limits": limits(min_sigma_training=0.0)},
        {"delta": 0.0},
        {"delta": 1.0},
        {"delta": math.nan},
    ],
    ids=str,
)
def test_a_ledger_without_a_promise_is_not_made(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="must be"):
        book(tmp_path, **changes)

    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"site": "south"}, "site is 'north', not 'south'"),
        ({"delta": 1e-6}, "delta is 1e-05, not 1e-06"),
        ({"key": OTHER_KEY}, "key is '3b6a27.*', not '8a88e3"),
    ],
)
def test_a_ledger_serves_one_site_one_delta_and_one_key(
    tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    ledger = busy(tmp_path)

    with pytest.raises(LedgerBroken, match=f"ledger entry 0: {fault}"):
        book(tmp_path, **changes)

    assert len(ledger.entries()) == 6


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (
            lambda ledger: train(ledger, 1, GaussianEvent(q=0.6, sigma=2.0, steps=1)),
            r"training q=0\.6 is over 0\.5",
        ),
        (
            lambda ledger: train(ledger, 1, GaussianEvent(q=0.5, sigma=1.9, steps=1)),
            r"training sigma=1\.9 is under 2\.0",
        ),
        (
            lambda ledger: train(ledger, 1, GaussianEvent(q=0.5, sigma=2.0, steps=11)),
            "training steps=11 is over 10",
        ),
        (
            lambda ledger: train(
                ledger, 1, GaussianEvent(q=0.5, sigma=2.0, steps=1), clip=2.1
            ),
            r"training clip=2\.1 is over 2\.0",
        ),
        (
            lambda ledger: train(
                ledger, 1, GaussianEvent(q=0.5, sigma=1.9, steps=1), what="metrics"
            ),
            r"metrics sigma=1\.9 is under 2\.0",
        ),
        (lambda ledger: train(ledger, 1, what="hours"), "'hours' is not one of"),
    ],
)
def test_a_charge_outside_the_recorded_policy_is_not_written(
    tmp_path: Path, call: Callable[[Ledger], int], fault: str
) -> None:
    least = {"min_sigma_training": 2.0, "min_sigma_metrics": 2.0}
    ledger = book(tmp_path, limits=limits(100.0, max_q=0.5, max_steps=10, **least))

    with pytest.raises(LedgerBroken, match=f"^ledger entry 1: .*{fault}"):
        call(ledger)

    assert states(ledger) == ["opened"]
    assert ledger.epsilon() == 0


def test_a_site_that_promised_never_runs_without_noise(tmp_path: Path) -> None:
    ledger = book(tmp_path, 1e300)

    with pytest.raises(BudgetSpent, match="bring it to inf"):
        unprotected(ledger, 1)

    assert states(ledger) == ["opened", "refused"]
    assert ledger.epsilon() == 0


def test_a_run_without_noise_is_infinite_for_ever(tmp_path: Path) -> None:
    ledger = book(tmp_path, math.inf)
    unprotected(ledger, 1)
    train(ledger, 2)
    assert ledger.epsilon() == math.inf

    with pytest.raises(BudgetSpent):
        train(book(tmp_path, 1e300), 3)

    assert ledger.epsilon() == ledger.epsilon("replace_one") == math.inf
    assert ledger.events() == [CHEAP]


def test_what_was_sealed_last_for_a_round_is_found(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    first, second = train(ledger, 1), train(ledger, 1)
    seal(ledger, second)
    release = train(ledger, 1, what="popularity")
    seal(ledger, first)
    sealed = ledger.sealed_for("r", 1, "training")

    assert first < second
    assert sealed is not None
    assert sealed.body["planned"] == first
    assert ledger.sealed_for("r", 1, "popularity") is None
    assert ledger.sealed_for("r", 2, "training") is None
    assert ledger.sealed_for("q", 1, "training") is None
    assert seal(ledger, release) == ledger.sealed_for("r", 1, "popularity")


@pytest.mark.parametrize(
    ("planned", "fault"),
    [
        (1, "entry 4: 1 is not an unsealed plan"),  # sealed already
        (0, "entry 4: 0 is not an unsealed plan"),
        (3, "entry 4: 3 is not an unsealed plan"),  # a refusal
        (9, "entry 9: not there"),
        (-1, "entry -1: not there"),
    ],
)
def test_one_charge_pays_for_one_release(
    tmp_path: Path, planned: int, fault: str
) -> None:
    ledger = book(tmp_path)
    seal(ledger, train(ledger, 1))
    ledger.refused("r", 2, "PolicyRefused")

    with pytest.raises(LedgerBroken, match=fault):
        seal(ledger, planned)

    assert states(ledger) == ["opened", "planned", "sealed", "refused"]
