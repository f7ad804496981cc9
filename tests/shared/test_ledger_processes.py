"""Several processes of one site, and killed ones: one ledger, one charge for each."""

import math
import signal
from pathlib import Path

import pytest

from shared.accounting import epsilon
from shared.errors import BudgetSpent, LedgerBusy
from tests.shared.books import (
    CHEAP,
    DELTA,
    NEW_YEAR,
    book,
    child,
    go_on,
    states,
    told,
    train,
    unprotected,
)


@pytest.mark.slow
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
            go_on(racer)

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
            go_on(racer)

        answers = sorted([told(one), told(two)])
        for racer in (one, two):
            racer.kill()

    assert answers[0] == "in"
    assert "another process of site 'north' is in a round; wait for it" in answers[1]


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    with child(tmp_path, ALONE) as killed:
        go_on(killed)
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
