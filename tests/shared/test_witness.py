"""The witness: a ledger that lost its end, or has a double, does not go on."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import LedgerBroken
from shared.ledger import Ledger
from shared.ledger_file import read_ledger
from shared.signing import public_key, sign
from shared.witness import (
    Witness,
    keep_witness,
    kept_witness,
    statement,
    witness_from,
)
from tests.shared.books import KEY, OTHER_KEY, book, busy, train

OURS = public_key(KEY)


def witness(head: str = "ab" * 32, entries: int = 3) -> Witness:
    """An end of site north's ledger, signed."""
    said = statement("north", entries - 1, head)
    return Witness(
        site="north", key=OURS, entries=entries, head=head, signature=sign(KEY, said)
    )


def copied(folder: Path, to: Path) -> Path:
    """A copy of a whole site's folder."""
    return Path(shutil.copytree(folder, to))


def refused(ledger: Ledger, fault: str) -> None:
    """Nothing can be read from a ledger or written to it."""
    for call in (ledger.epsilon, lambda: train(ledger, 9), ledger.witness):
        with pytest.raises(LedgerBroken, match=fault):
            call()


def test_a_witness_is_the_signed_end_of_the_ledger(tmp_path: Path) -> None:
    ledger = busy(tmp_path)

    seen = ledger.witness()

    assert (seen.site, seen.key) == ("north", OURS)
    assert (seen.entries, seen.head) == (6, ledger.head())
    assert seen.signature == ledger.entries()[-1].signature
    assert seen.holds()
    assert seen == kept_witness(tmp_path / "ledger.witness")
    assert seen == witness_from(json.loads(seen.to_json()))


def test_after_every_entry_the_newest_end_is_kept(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    assert kept_witness(ledger.witness_path) == ledger.witness()
    for number in range(3):
        ledger.refused("r", number, "PolicyRefused")

        assert kept_witness(ledger.witness_path) == ledger.witness()


def test_the_witness_may_be_kept_elsewhere(tmp_path: Path) -> None:
    ledger = book(tmp_path, witness_path=tmp_path / "disk")

    assert kept_witness(tmp_path / "disk") == ledger.witness()
    assert not (tmp_path / "ledger.witness").exists()


def test_an_old_copy_of_the_ledger_is_refused_by_the_newer_witness(
    tmp_path: Path,
) -> None:
    ledger = book(tmp_path)
    train(ledger, 1)
    shutil.copy(ledger.path, tmp_path / "backup")
    train(ledger, 2)

    shutil.copy(tmp_path / "backup", ledger.path)

    refused(ledger, "has seen 3 entries; the ledger has only 2; it was rolled back")
    with pytest.raises(LedgerBroken, match="has seen 3 entries"):
        book(tmp_path)
    assert len(read_ledger(ledger.path).entries) == 2  # nothing was written to it


def test_a_whole_old_folder_is_refused_by_what_the_server_has_seen(
    tmp_path: Path,
) -> None:
    (tmp_path / "site").mkdir()
    ledger = book(tmp_path / "site")
    old = copied(tmp_path / "site", tmp_path / "old")
    train(ledger, 1)

    with pytest.raises(LedgerBroken, match="has seen 2 entries; the ledger has only 1"):
        book(old).require_witnessed(ledger.witness())


def test_a_ledger_that_vanished_is_not_made_anew(tmp_path: Path) -> None:
    ledger = busy(tmp_path)
    ledger.path.unlink()

    with pytest.raises(LedgerBroken, match=r"is missing, but .*witness has seen it"):
        book(tmp_path)
    with pytest.raises(LedgerBroken, match="unable to open"):
        train(ledger, 3)

    assert not ledger.path.exists()


def test_a_witness_that_vanished_after_the_first_record_is_missed(
    tmp_path: Path,
) -> None:
    ledger = book(tmp_path)
    train(ledger, 1)
    ledger.witness_path.unlink()

    refused(ledger, r"its witness .*ledger\.witness is missing")
    with pytest.raises(LedgerBroken, match="is missing"):
        book(tmp_path)
    assert not ledger.witness_path.exists()


def test_a_witness_of_nothing_spent_is_written_again(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    ledger.witness_path.unlink()

    assert kept_witness(book(tmp_path).witness_path) == ledger.witness()


def test_a_clone_beside_the_original_is_refused_by_the_others_witness(
    tmp_path: Path,
) -> None:
    (tmp_path / "one").mkdir()
    original = book(tmp_path / "one")
    train(original, 1)
    clone = book(copied(tmp_path / "one", tmp_path / "two"))
    clone.require_witnessed(original.witness())  # not yet apart

    train(original, 2)
    clone.refused("r", 2, "PolicyRefused")

    for one, other in ((original, clone), (clone, original)):
        with pytest.raises(LedgerBroken, match=r"has seen another entry 2; .* cloned"):
            one.require_witnessed(other.witness())
    shutil.copy(clone.witness_path, original.witness_path)
    refused(original, "has seen another entry 2")


def test_a_witness_behind_the_ledger_is_taken_and_brought_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash between the commit and the writing of the witness."""
    ledger = book(tmp_path)
    train(ledger, 1)
    with monkeypatch.context() as patch:
        patch.setattr("shared.ledger.keep_witness", lambda *_: None)
        train(ledger, 2)
    behind = kept_witness(ledger.witness_path)
    assert behind is not None
    assert behind.entries == 2

    ledger.require_witnessed(behind)
    train(book(tmp_path), 3)

    assert kept_witness(ledger.witness_path) == ledger.witness()
    assert ledger.witness().entries == 4


def test_a_second_entry_is_never_without_a_witness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crash right after it would leave a ledger that nobody can open again."""
    seen: list[bool] = []
    book(tmp_path).witness_path.unlink()  # made, and crashed before the first witness
    later = tmp_path / "ledger.witness"
    honest = keep_witness

    def keep(path: Path, made: Witness) -> None:
        seen.append(later.exists())
        honest(path, made)

    monkeypatch.setattr("shared.ledger.keep_witness", keep)
    book(tmp_path, 5.0)  # another policy: the second entry

    assert seen == [False, True]


@pytest.mark.parametrize(
    ("site", "key", "fault"),
    [
        ("south", KEY, "belongs to site 'south'"),
        ("north", OTHER_KEY, "belongs to site 'north' with another name or key"),
    ],
)
def test_a_witness_of_another_site_or_key_is_refused(
    tmp_path: Path, site: str, key: Any, fault: str
) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "other").mkdir()
    ours = book(tmp_path / "ours")
    other = book(tmp_path / "other", site=site, key=key)

    with pytest.raises(LedgerBroken, match=fault):
        ours.require_witnessed(other.witness())
    shutil.copy(other.witness_path, ours.witness_path)
    refused(ours, fault)


@pytest.mark.parametrize(
    "changes",
    [
        {"site": "south"},
        {"key": public_key(OTHER_KEY)},
        {"entries": 2},
        {"entries": True},
        {"entries": "3"},
        {"head": "ac" * 32},
        {"head": "AB" * 32},
        {"head": ["ab" * 32]},
        {"signature": "00" * 64},
        {"signature": ""},
        {"signature": witness().signature.upper()},
        {"more": 1},
        {"head": ...},
    ],
    ids=str,
)
def test_a_witness_with_any_field_changed_is_none(changes: dict[str, Any]) -> None:
    fields = {**witness().fields(), **changes}
    given_ = {name: value for name, value in fields.items() if value is not ...}

    with pytest.raises(LedgerBroken, match="not the signed end of a ledger"):
        witness_from(given_)


def test_a_head_that_is_no_hash_is_none_though_it_is_signed() -> None:
    for head in ("", "ab" * 31, "AB" * 32, "ab" * 32 + "\n0"):
        with pytest.raises(LedgerBroken, match="not the signed end"):
            witness_from(witness(head).fields())


@settings(max_examples=100, deadline=None)
@given(data=st.data(), byte=st.integers(0, 255))
def test_a_kept_witness_with_any_one_byte_changed_is_another_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, byte: int
) -> None:
    """Blank space is nothing; whatever is said is signed."""
    path = tmp_path_factory.getbasetemp() / "a.witness"
    whole = f"{witness().to_json()}\n".encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])

    try:
        found = kept_witness(path)
    except LedgerBroken:
        return

    assert found == witness()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"null", b"\xff", b"[" * 100_000, b"9" * 9999, b"{}"],
    ids=lambda content: repr(content[:4]),
)
def test_a_file_that_holds_no_witness_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    ledger = book(tmp_path)
    ledger.witness_path.write_bytes(content)

    with pytest.raises(LedgerBroken, match="witness"):
        kept_witness(ledger.witness_path)
    refused(ledger, "witness")


def test_where_no_witness_was_kept_there_is_none(tmp_path: Path) -> None:
    assert kept_witness(tmp_path / "ledger.witness") is None


def test_a_witness_that_cannot_be_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.witness"
    keep_witness(path, witness())

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        keep_witness(path, witness("cd" * 32, 4))

    assert kept_witness(path) == witness()


def test_a_signature_of_an_entry_says_what_it_is_for() -> None:
    assert statement("north", 2, "ab") == "tacit ledger entry\nnorth\n2\nab"
    assert not replace(witness(), entries=4).holds()
