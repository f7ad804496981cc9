"""A ledger that was written before tallies for serving were known of.

``older_ledger.jsonl`` is an export of that time, by the code of that time.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shared.chain import Chain, verify_lines
from shared.errors import LedgerBroken
from shared.ledger import Ledger
from shared.ledger_file import make_file, read_ledger
from shared.witness import keep_witness
from tests.shared.books import CHEAP, book, limits, states, train

EXPORT = Path(__file__).with_name("older_ledger.jsonl")


def older(folder: Path) -> Chain:
    """The ledger as it lay at the site, with its witness."""
    chain = read_ledger(EXPORT)
    make_file(folder / "ledger.sqlite")
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db, db:
        db.executemany(
            "INSERT INTO entry VALUES (?, ?, ?, ?)",
            [(e.n, e.line, e.hash, e.signature) for e in chain.entries],
        )
    keep_witness(folder / "ledger.witness", chain.witness)
    return chain


def test_its_export_is_verified_and_amounts_to_what_it_did() -> None:
    chain = read_ledger(EXPORT)

    assert "serving" not in EXPORT.read_text("utf-8")
    assert [entry.state for entry in chain.entries] == [
        *("opened", "planned", "sealed", "refused", "policy", "planned")
    ]
    assert chain.epsilon("add_remove") == chain.entries[-1].body["after"]
    assert chain.limits == limits(5.0)


def test_a_changed_digit_of_it_is_found() -> None:
    lines = EXPORT.read_text("utf-8").splitlines()
    lines[1] = lines[1].replace('"sigma":20.0', '"sigma":21.0')

    with pytest.raises(LedgerBroken, match="ledger entry 1: the signature"):
        verify_lines(lines)


def test_it_goes_on_and_may_charge_for_serving(tmp_path: Path) -> None:
    spent = older(tmp_path).epsilon("add_remove")

    ledger: Ledger = book(tmp_path, 5.0)
    assert len(ledger.entries()) == 6  # the same limits are no change of policy
    train(ledger, 1, CHEAP, what="serving")

    body = ledger.entries()[-1].body
    assert body["before"] == spent
    assert body["after"] == ledger.epsilon() > spent


def test_a_new_limit_on_serving_is_recorded_in_it(tmp_path: Path) -> None:
    older(tmp_path)

    ledger = book(tmp_path, limits=limits(5.0, min_sigma_serving=30.0))

    assert states(ledger)[-1] == "policy"
    with pytest.raises(LedgerBroken, match=r"serving sigma=20\.0 is under 30\.0"):
        train(ledger, 1, CHEAP, what="serving")
