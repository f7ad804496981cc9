"""The ledger: what is charged stays charged, and what is changed is refused."""

import json
import math
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.accounting import GaussianEvent, epsilon
from shared.chain import GENESIS, Chain, verify_lines
from shared.errors import BudgetSpent, ConfigError, LedgerBroken
from shared.ledger import Ledger

DELTA = 1e-5
ROOT = Path(__file__).parents[2]
ROUND = GaussianEvent(q=0.2, sigma=2.99, steps=20)
CHEAP = GaussianEvent(q=1.0, sigma=20.0, steps=1)


def book(folder: Path, budget: float = 3.0, **changes: Any) -> Ledger:
    """The ledger of site north, opened or created."""
    given = {
        "site": "north",
        "delta": DELTA,
        "now": lambda: "2026-01-01T00:00:00+00:00",
    }
    return Ledger.open(folder / "ledger.sqlite", epsilon=budget, **{**given, **changes})


def train(
    ledger: Ledger, number: int, event: GaussianEvent = ROUND, what: str = "training"
) -> int:
    """Plan one round of run r."""
    return ledger.plan(
        run="r", number=number, what=what, event=event, clip=1.0, plan_digest="ab"
    )


def seal(ledger: Ledger, planned: int, number: int) -> None:
    """Seal three bytes under a plan."""
    ledger.sealed(planned, run="r", number=number, content=b"abc", tensors=["a", "b"])


def unprotected(ledger: Ledger, number: int) -> int:
    """Plan a round without noise."""
    return ledger.plan_unprotected(
        run="r", number=number, what="training", plan_digest="ab"
    )


def states(ledger: Ledger) -> list[str]:
    return [entry.state for entry in ledger.entries()]


def busy(folder: Path) -> Ledger:
    """A ledger with an entry of every state."""
    ledger = book(folder)
    seal(ledger, train(ledger, 1, CHEAP), 1)
    ledger.refused("r", 2, "PolicyRefused")
    book(folder, budget=5.0)
    train(ledger, 2, CHEAP)
    return ledger


def meddle(folder: Path, *statements: str) -> None:
    """Change the file as someone with an editor for SQLite would."""
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db, db:
        for trigger in ("entry_kept", "entry_fixed", "entry_next"):
            db.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            db.execute(statement)


def forged(line: str, changes: dict[str, Any]) -> str:
    """A line with fields changed, or removed where the change is ``...``."""
    body = {**json.loads(line), **changes}
    kept = {name: value for name, value in body.items() if value is not ...}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def child(folder: Path, budget: float, code: str) -> subprocess.Popen[str]:
    """Another process of the site; light, so it does not import this file."""
    setup = (
        "import os, resource, signal, sys\n"
        "from math import inf\n"
        "from pathlib import Path\n"
        "from shared.accounting import GaussianEvent\n"
        "from shared.errors import *\n"
        "from shared.ledger import Ledger\n"
        "kill = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"path = Path({str(folder / 'ledger.sqlite')!r})\n"
        f"site = dict(site='north', delta={DELTA}, epsilon={budget})\n"
        "where = dict(run='r', number=1, what='training', plan_digest='ab')\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", setup + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of an export with an entry of every state."""
    folder = tmp_path_factory.mktemp("exported")
    busy(folder).export(folder / "lines")
    return (folder / "lines").read_text("utf-8").splitlines()


def test_the_budget_holds_to_the_last_round(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    for number in range(1, 6):
        train(ledger, number)
    assert ledger.epsilon() == pytest.approx(2.989279, abs=2.5e-3)

    with pytest.raises(BudgetSpent, match=r"2\.9893.*round 6.*3\.2998.*budget 3\.0000"):
        train(ledger, 6)

    assert states(ledger) == ["opened", *["planned"] * 5, "refused"]
    assert ledger.entries()[-1].body["reason"] == "BudgetSpent"
    assert ledger.epsilon() == pytest.approx(2.989279, abs=2.5e-3)
    assert ledger.epsilon("replace_one") == pytest.approx(6.10492, abs=9e-3)
    assert ledger.events() == [ROUND] * 5


def test_noise_rounded_down_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(BudgetSpent, match=r"bring it to 3\.0017"):
        train(book(tmp_path), 1, GaussianEvent(q=0.2, sigma=2.98, steps=100))


def test_an_entry_says_what_was_planned_and_nothing_of_the_data(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    planned = train(ledger, 1, CHEAP, "popularity")
    seal(ledger, planned, 1)
    opened, plan, sealed = ledger.entries()

    assert opened.body == {
        "n": 0,
        "prev": GENESIS,
        "state": "opened",
        "date": "2026-01-01T00:00:00+00:00",
        "format": 1,
        "site": "north",
        "unit": "one user account at one site: all its interactions, over all time",
        "relation": "add_remove",
        "delta": 1e-5,
        "budget": 3.0,
    }
    assert plan.body == {
        "n": 1,
        "prev": opened.hash,
        "state": "planned",
        "date": "2026-01-01T00:00:00+00:00",
        "run": "r",
        "round": 1,
        "what": "popularity",
        "plan": "ab",
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
        "date": "2026-01-01T00:00:00+00:00",
        "run": "r",
        "round": 1,
        "planned": planned,
        "bytes": 3,
        # SHA-256 of abc, FIPS 180-2
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "tensors": ["a", "b"],
    }


def test_a_date_is_utc_unless_a_clock_is_given(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "l", site="north", epsilon=1.0, delta=DELTA)

    assert ledger.entries()[0].body["date"].endswith("+00:00")


def test_a_reopened_ledger_has_spent_the_same(tmp_path: Path) -> None:
    ledger = busy(tmp_path)
    again = book(tmp_path, budget=5.0)

    assert again.epsilon() == ledger.epsilon() == epsilon([CHEAP, CHEAP], DELTA)
    assert again.head() == ledger.head() == ledger.entries()[-1].hash
    assert again.entries() == ledger.entries()


def test_another_budget_is_recorded_and_resets_nothing(tmp_path: Path) -> None:
    train(book(tmp_path, budget=1.0), 1, CHEAP)
    spent = book(tmp_path, budget=1.0).epsilon()

    lower = book(tmp_path, budget=spent)
    with pytest.raises(BudgetSpent):
        train(lower, 2, CHEAP)
    train(book(tmp_path, budget=1.0), 2, CHEAP)

    assert states(lower) == [
        *("opened", "planned", "budget", "refused", "budget", "planned")
    ]


@pytest.mark.parametrize(("budget", "delta"), [(0, 1e-5), (math.nan, 1e-5), (1, 0)])
def test_a_ledger_without_a_promise_is_not_made(
    tmp_path: Path, budget: float, delta: float
) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        book(tmp_path, budget, delta=delta)

    assert list(tmp_path.iterdir()) == []


def test_a_site_that_promised_never_runs_without_noise(tmp_path: Path) -> None:
    ledger = book(tmp_path, budget=1e300)

    with pytest.raises(BudgetSpent, match="bring it to inf"):
        unprotected(ledger, 1)

    assert states(ledger) == ["opened", "refused"]
    assert ledger.epsilon() == 0


def test_a_run_without_noise_is_infinite_for_ever(tmp_path: Path) -> None:
    ledger = book(tmp_path, budget=math.inf)
    unprotected(ledger, 1)
    train(ledger, 2, CHEAP)
    assert ledger.epsilon() == math.inf

    with pytest.raises(BudgetSpent):
        train(book(tmp_path, budget=1e300), 3, CHEAP)

    assert ledger.epsilon() == ledger.epsilon("replace_one") == math.inf
    assert ledger.events() == [CHEAP]


def test_a_round_asked_for_again_is_found(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    first, second = train(ledger, 1, CHEAP), train(ledger, 1, CHEAP)
    seal(ledger, second, 1)
    plan, sealed = ledger.planned_for("r", 1, "training"), ledger.sealed_for("r", 1)

    assert first < second
    assert plan is not None
    assert plan.n == second
    assert sealed is not None
    assert sealed.body["planned"] == second
    assert ledger.planned_for("r", 1, "popularity") is None
    assert ledger.planned_for("r", 2, "training") is None
    assert ledger.sealed_for("q", 1) is None


@pytest.mark.parametrize(("planned", "number"), [(1, 1), (2, 2), (0, 2), (9, 2)])
def test_one_charge_pays_for_one_release_of_its_own_round(
    tmp_path: Path, planned: int, number: int
) -> None:
    ledger = book(tmp_path)
    seal(ledger, train(ledger, 1, CHEAP), 1)
    ledger.refused("r", 2, "PolicyRefused")

    with pytest.raises(LedgerBroken, match=f"{planned} is not an unsealed plan"):
        seal(ledger, planned, number)

    assert states(ledger) == ["opened", "planned", "sealed", "refused"]


def test_a_plan_of_an_unknown_purpose_is_not_written(tmp_path: Path) -> None:
    ledger = book(tmp_path)

    with pytest.raises(LedgerBroken, match="'metrics' is not one of"):
        train(ledger, 1, CHEAP, "metrics")

    assert states(ledger) == ["opened"]


@settings(max_examples=6, deadline=None)
@given(
    plans=st.lists(
        st.builds(
            lambda kind, steps: GaussianEvent(q=kind[0], sigma=kind[1], steps=steps),
            st.sampled_from([(1.0, 8.0), (1.0, 30.0)]),
            st.sampled_from([1, 20, 60]),
        ),
        min_size=2,
        max_size=5,
    )
)
def test_no_sequence_of_plans_brings_a_ledger_above_its_budget(
    tmp_path_factory: pytest.TempPathFactory, plans: list[GaussianEvent]
) -> None:
    ledger = book(tmp_path_factory.mktemp("site"), budget=1.0)
    allowed: list[GaussianEvent] = []
    for number, event in enumerate(plans, start=1):
        try:
            train(ledger, number, event)
        except BudgetSpent:
            assert epsilon([*allowed, event], DELTA) > 1.0
        else:
            allowed.append(event)

    assert ledger.events() == allowed
    assert ledger.epsilon() == epsilon(allowed, DELTA) <= 1.0


def test_two_processes_cannot_both_spend_the_last_of_a_budget(tmp_path: Path) -> None:
    limit = epsilon([CHEAP] * 2, DELTA)
    ledger = book(tmp_path, limit)
    train(ledger, 1, CHEAP)
    code = (
        "ledger = Ledger.open(path, **site)\n"
        f"event = {CHEAP}\n"
        "print('ready', flush=True); input()\n"
        "try: print(ledger.plan(event=event, clip=1.0, **where))\n"
        "except BudgetSpent: print('spent')\n"
    )
    racers = [child(tmp_path, limit, code) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"

    answers = [racer.communicate("go\n", timeout=60)[0].strip() for racer in racers]

    assert sorted(answers) == ["2", "spent"]
    assert ledger.events() == [CHEAP] * 2


def test_while_one_plans_no_other_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.ledger.BUSY_S", 0)
    other = book(tmp_path)

    def meanwhile() -> str:
        with pytest.raises(LedgerBroken, match="database is locked"):
            train(other, 1, CHEAP)
        return "while planning"

    assert train(book(tmp_path, now=meanwhile), 1, CHEAP) == 1
    assert other.events() == [CHEAP]


def test_a_ledger_made_meanwhile_is_kept(tmp_path: Path) -> None:
    def meanwhile() -> str:
        train(book(tmp_path), 1, CHEAP)
        return "while making"

    late = book(tmp_path, now=meanwhile)

    assert late.events() == [CHEAP]
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_two_processes_make_one_ledger(tmp_path: Path) -> None:
    code = "print(Ledger.open(path, **site).head())"
    racers = [child(tmp_path, 3.0, code) for _ in range(2)]
    heads = {racer.communicate(timeout=60)[0].strip() for racer in racers}

    assert heads == {book(tmp_path).head()}
    assert states(book(tmp_path)) == ["opened"]


@pytest.mark.parametrize(
    ("code", "spent"),
    [
        ("Ledger.open(path, now=kill, **site).plan_unprotected(**where)", 0.0),
        ("Ledger.open(path, **site).plan_unprotected(**where); kill()", math.inf),
    ],
    ids=["before the commit", "before the seal"],
)
def test_a_killed_process_stays_charged_from_the_commit_on(
    tmp_path: Path, code: str, spent: float
) -> None:
    book(tmp_path, math.inf)
    killed = child(tmp_path, math.inf, code)
    killed.communicate(timeout=60)

    ledger = book(tmp_path, math.inf)

    assert killed.returncode == -signal.SIGKILL
    assert ledger.epsilon() == spent
    assert ledger.sealed_for("r", 1) is None
    assert unprotected(ledger, 1) == (2 if spent else 1)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE entry SET line = '{}' WHERE n = 1", "never changed"),
        ("UPDATE entry SET n = 9 WHERE n = 1", "never changed"),
        ("DELETE FROM entry WHERE n = 5", "never deleted"),
        ("INSERT OR REPLACE INTO entry VALUES (5, '{}', '')", "only added at the end"),
        ("INSERT INTO entry VALUES (-1, '{}', '')", "only added at the end"),
        ("INSERT INTO entry VALUES (7, '{}', '')", "only added at the end"),
    ],
)
def test_sqlite_itself_keeps_every_entry(
    tmp_path: Path, statement: str, reason: str
) -> None:
    before = busy(tmp_path).entries()

    with (
        closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db,
        pytest.raises(sqlite3.IntegrityError, match=reason),
    ):
        db.execute(statement)

    assert book(tmp_path, budget=5.0).entries() == before


def test_the_file_is_durable_at_every_commit(tmp_path: Path) -> None:
    ledger = busy(tmp_path)

    with ledger._connected() as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            "UPDATE entry SET line = replace(line, '20.0', '90.0') WHERE n = 1",
            "1: its h",
        ),
        ("UPDATE entry SET line = CAST(X'FF' AS TEXT) WHERE n = 4", "4: its hash"),
        ("UPDATE entry SET hash = '' WHERE n = 5", "5: its hash"),
        ("DELETE FROM entry WHERE n = 3", "3: missing; the next is 4"),
        ("DELETE FROM entry WHERE n = 0", "0: missing; the next is 1"),
        ("UPDATE entry SET n = -n", "0: missing; the next is -5"),
        ("DELETE FROM entry", "no entry"),
        ("DROP TABLE entry", "no such table"),
    ],
)
def test_a_changed_file_is_refused_by_the_number_of_its_entry(
    tmp_path: Path, statement: str, fault: str
) -> None:
    ledger = busy(tmp_path)
    meddle(tmp_path, statement)
    calls: list[Callable[[], object]] = [
        lambda: book(tmp_path),
        lambda: train(ledger, 3, CHEAP),
        lambda: ledger.refused("r", 3, "PolicyRefused"),
        ledger.epsilon,
    ]

    for call in calls:
        with pytest.raises(LedgerBroken, match=fault):
            call()


@pytest.mark.parametrize(
    ("n", "changes", "fault"),
    [
        (0, {"state": "budget"}, "unknown or missing: delta, format"),
        (0, {"format": 2}, "format, unit and relation are"),
        (0, {"relation": "replace_one"}, "format, unit and relation are"),
        (0, {"delta": 0.0}, "delta 0.0 is not"),
        (0, {"budget": -1}, "budget -1.0 is not above 0"),
        (1, {"n": 2}, "out of sequence: it says 2"),
        (1, {"n": True}, "wrong type: n"),
        (1, {"prev": GENESIS}, "prev is not the hash"),
        (1, {"state": "released"}, "unknown state 'released'"),
        (1, {"state": []}, "unknown state"),
        (1, {"state": ...}, "unknown state 'None'"),
        (1, {"clip": ...}, "unknown or missing: clip"),
        (1, {"batch": 32}, "unknown or missing: batch"),
        (1, {"q": -0.1}, "q=-0.1 is not"),
        (1, {"q": 1.1}, "q=1.1 is not"),
        (1, {"sigma": 0.0}, "sigma=0.0 is not"),
        (1, {"sigma": None}, "sigma=None is not"),
        (1, {"sigma": math.nan}, "Out of range float"),
        (1, {"sigma": math.inf}, "Out of range float"),
        (1, {"steps": 0}, "steps=0 is not"),
        (1, {"steps": 1.5}, "steps=1.5 is not"),
        (1, {"steps": True}, "wrong type: steps"),
        (1, {"steps": "10"}, "wrong type: steps"),
        (1, {"clip": 0}, "clip 0 is not"),
        (1, {"clip": None}, "clip None is not"),
        (1, {"what": "metrics"}, "'metrics' is not one of"),
        (1, {"mechanism": "laplace"}, "unknown mechanism 'laplace'"),
        (1, {"mechanism": "none"}, "noise it has not"),
        (
            1,
            {
                "mechanism": "none",
                "q": None,
                "sigma": None,
                "steps": None,
                "clip": None,
            },
            "without noise under a finite budget",
        ),
        (2, {"planned": 0}, "0 is not an unsealed plan"),
        (2, {"round": 2}, "1 is not an unsealed plan of its round"),
        (2, {"tensors": "a"}, "wrong type: tensors"),
        (4, {"budget": math.nan}, "Out of range float"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_refused_though_its_hashes_fit(
    exported: list[str], n: int, changes: dict[str, Any], fault: str
) -> None:
    chain = Chain()
    for line in exported[:n]:
        chain.add(line)

    with pytest.raises(LedgerBroken, match=f"^ledger entry {n}: .*{fault}"):
        chain.add(forged(exported[n], changes))


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "7", "null", "{} ", '{"n":0,"n":0}', "[" * 100_000, "9" * 9999],
)
def test_a_line_that_is_no_canonical_object_is_refused(line: str) -> None:
    with pytest.raises(LedgerBroken, match=r"^ledger entry 0: "):
        Chain().add(line)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"site": "south"}, "site is 'north', not 'south'"),
        ({"delta": 1e-6}, "delta is"),
    ],
)
def test_a_ledger_serves_one_site_and_one_delta(
    tmp_path: Path, changes: dict[str, Any], fault: str
) -> None:
    busy(tmp_path)

    with pytest.raises(LedgerBroken, match=f"ledger entry 0: {fault}"):
        book(tmp_path, **changes)


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, 5000, -1])
def test_an_empty_or_torn_file_is_refused(tmp_path: Path, keep: int) -> None:
    busy(tmp_path)
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(LedgerBroken, match=f"{path}|its hash does not match"):
        book(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerBroken, match="nothing was charged"):
        book(tmp_path / "absent")


def test_a_ledger_that_vanished_is_not_made_anew_by_a_plan(tmp_path: Path) -> None:
    ledger = busy(tmp_path)
    ledger.path.unlink()

    with pytest.raises(LedgerBroken, match="unable to open"):
        train(ledger, 3, CHEAP)

    assert not ledger.path.exists()


@pytest.mark.parametrize("when", ["made", "added to"])
def test_a_full_disk_is_refused_and_nothing_is_charged(
    tmp_path: Path, when: str
) -> None:
    if when == "added to":
        book(tmp_path, math.inf)
    code = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: print(Ledger.open(path, **site).plan_unprotected(**where))\n"
        "except LedgerBroken as error: print('nothing was charged' in str(error))\n"
    )

    answer = child(tmp_path, math.inf, code).communicate(timeout=60)[0].strip()

    assert answer == "True"
    assert book(tmp_path, math.inf).epsilon() == 0


def test_an_export_is_verified_without_the_ledger(tmp_path: Path) -> None:
    ledger = busy(tmp_path)
    ledger.export(tmp_path / "ledger.jsonl")

    with (tmp_path / "ledger.jsonl").open(encoding="utf-8") as lines:
        chain = verify_lines(lines)

    assert chain.entries == ledger.entries()
    assert chain.head == ledger.head()
    assert chain.epsilon("add_remove") == ledger.epsilon()


@settings(max_examples=200)
@given(data=st.data(), byte=st.characters(max_codepoint=255))
def test_any_one_byte_changed_in_any_line_is_refused(
    exported: list[str], data: st.DataObject, byte: str
) -> None:
    n = data.draw(st.integers(0, len(exported) - 1))
    at = data.draw(st.integers(0, len(exported[n]) - 1))
    line = exported[n]
    changed = [*exported]
    changed[n] = line[:at] + (byte if byte != line[at] else "#") + line[at + 1 :]

    with pytest.raises(LedgerBroken):
        verify_lines(changed)


@pytest.mark.parametrize("n", range(7))
def test_a_line_removed_doubled_or_moved_is_refused(
    exported: list[str], n: int
) -> None:
    removed = exported[:n] + exported[n + 1 :]
    doubled = exported[: n + 1] + exported[n:]
    moved = [*removed, exported[n]] if n < 6 else [exported[n], *removed]

    for lines in (removed, doubled, moved):
        with pytest.raises(LedgerBroken, match="ledger e"):
            verify_lines(lines)


def test_no_lines_are_no_ledger() -> None:
    with pytest.raises(LedgerBroken, match="ledger export"):
        verify_lines([])
