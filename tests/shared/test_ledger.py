"""The ledger: what is charged stays charged, and nothing is charged beyond a budget."""

import math
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.accounting import GaussianEvent, epsilon, gaussian_epsilon
from shared.chain import verify_lines
from shared.code import code_digest
from shared.entries import GENESIS, Entry
from shared.errors import BudgetSpent, ConfigError, LedgerBroken, LedgerBusy
from shared.ledger import Ledger
from shared.ledger_file import read_ledger
from shared.signing import public_key
from tests.shared.books import (
    CHEAP,
    DELTA,
    KEY,
    NEW_YEAR,
    OTHER_KEY,
    ROUND,
    book,
    busy,
    child,
    limits,
    seal,
    states,
    told,
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


def test_a_ledger_grows_as_the_vectors_say(tmp_path: Path) -> None:
    growth = vectors("ledger_growth") or {"rows": []}
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


EVENTS = [
    GaussianEvent(q=1.0, sigma=sigma, steps=steps)
    for sigma, steps in ((8.0, 1), (8.0, 4), (30.0, 20))
]
BUDGETS = (0.5, 1.0, 2.0, math.inf)


@dataclass
class Told:
    """What a site was asked and answered, kept apart from its ledger."""

    folder: Path
    budget: float = 1.0
    charged: list[GaussianEvent] = field(default_factory=list)
    exposed: bool = False
    unsealed: list[int] = field(default_factory=list)
    before: list[Entry] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return book(self.folder, self.budget)

    def exact(self, *extra: GaussianEvent) -> float:
        """Epsilon by the closed form for q = 1, which the ledger may not go below."""
        squares = sum(e.steps / e.sigma**2 for e in [*self.charged, *extra])
        if self.exposed:
            return math.inf
        return gaussian_epsilon(math.sqrt(squares), DELTA) if squares else 0.0

    def plan(self, choice: int) -> None:
        wanted = EVENTS[choice % len(EVENTS)]
        try:
            self.unsealed.append(train(self.ledger, 1, wanted))
        except BudgetSpent:
            assert self.exact(wanted) > self.budget - 0.01  # PLD rounds up
        else:
            assert self.exact(wanted) <= self.budget
            self.charged.append(wanted)

    def expose(self, _choice: int) -> None:
        try:
            self.unsealed.append(unprotected(self.ledger, 1))
        except BudgetSpent:
            assert self.budget < math.inf
        else:
            assert self.budget == math.inf
            self.exposed = True

    def seal(self, choice: int) -> None:
        if self.unsealed:
            seal(self.ledger, self.unsealed.pop(choice % len(self.unsealed)))

    def seal_again(self, choice: int) -> None:
        sealed = [e.body["planned"] for e in self.before if e.state == "sealed"]
        for planned in sealed[choice % 3 :][:1]:
            with pytest.raises(LedgerBroken, match="not an unsealed plan"):
                seal(self.ledger, planned)

    def refuse(self, choice: int) -> None:
        self.ledger.refused("r", choice, "PolicyRefused")

    def change_policy(self, choice: int) -> None:
        self.budget = BUDGETS[choice % len(BUDGETS)]

    def check(self) -> None:
        chain = self.ledger.chain()
        assert chain.entries[: len(self.before)] == self.before
        assert chain.events == self.charged
        assert chain.exposed == self.exposed
        assert self.exact() <= chain.epsilon("add_remove")
        self.before = chain.entries


CALLS = (
    *(Told.plan, Told.plan, Told.plan, Told.expose),
    *(Told.seal, Told.seal_again, Told.refuse, Told.change_policy),
)


@settings(max_examples=12, deadline=None)
@given(
    calls=st.lists(
        st.tuples(st.sampled_from(CALLS), st.integers(0, 11)), min_size=3, max_size=12
    )
)
def test_no_sequence_of_calls_passes_a_budget_or_loses_an_entry(
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[tuple[Callable[[Told, int], None], int]],
) -> None:
    site = Told(tmp_path_factory.mktemp("site"))
    for call, choice in calls:
        call(site, choice)
        site.check()

    site.ledger.export(site.folder / "lines")
    lines = (site.folder / "lines").read_text("utf-8").splitlines()
    assert verify_lines(lines).entries == site.before
    assert read_ledger(site.folder / "ledger.sqlite").entries == site.before


def test_two_processes_cannot_both_spend_the_last_of_a_budget(tmp_path: Path) -> None:
    limit = epsilon([CHEAP] * 2, DELTA)
    ledger = book(tmp_path, limit)
    train(ledger, 1)
    code = (
        f"ledger = book(folder, {limit})\n"
        "print('ready', flush=True); input()\n"
        "try: print(train(ledger, 2))\n"
        "except BudgetSpent: print('spent')\n"
    )
    with child(tmp_path, code) as one, child(tmp_path, code) as two:
        assert [told(one), told(two)] == ["ready", "ready"]
        for racer in (one, two):
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()

        answers = {told(one), told(two)}

    assert answers == {"2", "spent"}
    assert ledger.events() == [CHEAP] * 2


def test_two_processes_make_one_ledger(tmp_path: Path) -> None:
    code = "print(book(folder).head())"
    with child(tmp_path, code) as one, child(tmp_path, code) as two:
        heads = {told(one), told(two)}

    assert heads == {book(tmp_path).head()}
    assert states(book(tmp_path)) == ["opened"]


def test_a_ledger_made_meanwhile_is_kept(tmp_path: Path) -> None:
    def meanwhile() -> str:
        train(book(tmp_path), 1)
        return NEW_YEAR

    late = book(tmp_path, now=meanwhile)

    assert late.events() == [CHEAP]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["ledger.sqlite", "ledger.witness"]


ALONE = (
    "ledger = book(folder)\n"
    "print('ready', flush=True); input()\n"
    "try:\n"
    "    with ledger.alone(): print('in', flush=True); input()\n"
    "except LedgerBusy as refusal: print(refusal, flush=True)\n"
)


def test_of_two_processes_at_once_exactly_one_gets_in(tmp_path: Path) -> None:
    with child(tmp_path, ALONE) as one, child(tmp_path, ALONE) as two:
        assert [told(one), told(two)] == ["ready", "ready"]
        for racer in (one, two):
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()

        answers = sorted([told(one), told(two)])
        for racer in (one, two):
            racer.kill()

    assert answers[0] == "in"
    assert "another process of site 'north' is in a round; wait for it" in answers[1]


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    with child(tmp_path, ALONE) as killed:
        killed.stdin.write("go\n")  # type: ignore[union-attr]  # it is a pipe
        killed.stdin.flush()  # type: ignore[union-attr]
        assert [told(killed), told(killed)] == ["ready", "in"]
        with pytest.raises(LedgerBusy), ledger.alone():
            pass

        killed.kill()
        assert killed.wait(60) == -signal.SIGKILL

    with ledger.alone():
        assert train(ledger, 1) == 1


def test_a_process_is_alone_until_it_is_done_whatever_happens(tmp_path: Path) -> None:
    ledger, other = book(tmp_path), book(tmp_path)
    with ledger.alone():
        for _ in range(2):
            with pytest.raises(LedgerBusy), other.alone():
                pass
    with pytest.raises(BudgetSpent), ledger.alone():
        unprotected(ledger, 1)

    with other.alone():
        assert train(other, 2) == 2


@pytest.mark.parametrize(
    ("code", "spent"),
    [
        ("unprotected(book(folder, inf, now=kill), 1)", 0.0),
        ("unprotected(book(folder, inf), 1); kill()", math.inf),
    ],
    ids=["before the commit", "before the seal"],
)
def test_a_killed_process_stays_charged_from_the_commit_on(
    tmp_path: Path, code: str, spent: float
) -> None:
    book(tmp_path, math.inf)
    kill = "kill = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
    with child(tmp_path, kill + code) as killed:
        assert killed.wait(60) == -signal.SIGKILL

    ledger = book(tmp_path, math.inf)

    assert ledger.epsilon() == spent
    assert ledger.sealed_for("r", 1, "training") is None
    assert unprotected(ledger, 1) == (2 if spent else 1)
