"""The chain of entries: nothing in it can be changed, moved, removed or made up."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.accounting import GaussianEvent, cross_check, epsilon
from shared.chain import Chain, verify_lines
from shared.entries import GENESIS
from shared.errors import ConfigError, LedgerBroken
from shared.ledger_file import read_ledger
from tests.shared.books import (
    DELTA,
    KEY,
    OTHER_KEY,
    ROUND,
    book,
    busy,
    forged,
    seal,
    signed,
    train,
    vectors,
)

NOISELESS = {"mechanism": "none", **dict.fromkeys(("q", "sigma", "steps", "clip"))}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The lines of an export with an entry of every state, and their closing line."""
    folder = tmp_path_factory.mktemp("exported")
    busy(folder).export(folder / "lines")
    return (folder / "lines").read_text("utf-8").splitlines()


def until(exported: list[str], n: int) -> tuple[Chain, str]:
    """The chain of the entries before ``n``, and the line of ``n`` unsigned."""
    chain = Chain()
    for signed_line in exported[:n]:
        line, _, signature = signed_line.rpartition(" ")
        chain.add(line, signature)
    return chain, exported[n].rpartition(" ")[0]


def add_forged(exported: list[str], n: int, changes: dict[str, Any]) -> None:
    """Change entry ``n`` and sign it as the site itself would."""
    chain, line = until(exported, n)
    made = forged(line, changes)
    chain.add(made, signed(chain, made))


def test_an_export_is_verified_without_the_ledger(tmp_path: Path) -> None:
    ledger = busy(tmp_path)
    ledger.export(tmp_path / "ledger.jsonl")

    with (tmp_path / "ledger.jsonl").open(encoding="utf-8") as lines:
        chain = verify_lines(lines)

    assert chain.entries == ledger.entries()
    assert chain.head == ledger.head()
    assert chain.witness == ledger.witness()
    assert chain.epsilon("add_remove") == ledger.epsilon() > 0


def test_every_entry_is_signed_and_an_unsigned_one_is_refused(
    exported: list[str],
) -> None:
    signatures = {line.rpartition(" ")[2] for line in exported[:-1]}
    assert len(signatures) == 6

    for n in range(6):
        chain, line = until(exported, n)
        with pytest.raises(LedgerBroken, match=f"^ledger entry {n}: the signature is"):
            chain.add(line, "")
        without = [*exported[:n], line, *exported[n + 1 :]]
        with pytest.raises(LedgerBroken, match=f"^ledger entry {n}: "):
            verify_lines(without)
    with pytest.raises(LedgerBroken, match="ledger entry 0: no signature"):
        verify_lines(["{}", "{}"])


@pytest.mark.parametrize("n", range(6))
def test_a_signature_by_another_key_is_refused_with_the_number(
    exported: list[str], n: int
) -> None:
    chain, line = until(exported, n)

    with pytest.raises(LedgerBroken, match=f"^ledger entry {n}: the signature is not"):
        chain.add(line, signed(chain, line, OTHER_KEY))


def test_a_signature_is_good_for_one_entry_of_one_site(exported: list[str]) -> None:
    for other in (3, 5):
        chain, line = until(exported, 4)
        with pytest.raises(LedgerBroken, match=r"^ledger entry 4: the signature"):
            chain.add(line, exported[other].rpartition(" ")[2])
    chain, line = until(exported, 0)
    moved = forged(line, {"site": "south"})
    with pytest.raises(LedgerBroken, match=r"^ledger entry 0: the signature"):
        chain.add(moved, signed(chain, moved))


@pytest.mark.parametrize(
    ("n", "changes", "fault"),
    [
        (0, {"state": "policy"}, "unknown or missing: delta, format"),
        (0, {"format": 1}, "format, unit and relation are"),
        (0, {"unit": "one event"}, "format, unit and relation are"),
        (0, {"relation": "replace_one"}, "format, unit and relation are"),
        (0, {"delta": 0.0}, r"delta 0\.0 is not"),
        (0, {"delta": 1}, "delta 1 is not"),
        (0, {"limits": {}}, "limits: 8 fault"),
        (1, {"n": 2}, "out of sequence: it says 2"),
        (1, {"n": True}, "wrong type: n"),
        (1, {"n": 10**15}, "a number of 16 digits"),
        (1, {"prev": GENESIS}, "prev is not the hash"),
        (1, {"state": "released"}, "unknown state 'released'"),
        (1, {"state": ...}, "unknown state 'None'"),
        (1, {"clip": ...}, "unknown or missing: clip"),
        (1, {"batch": 32}, "unknown or missing: batch"),
        (1, {"sigma": None}, "sigma=None is not"),
        (1, {"clip": 0}, "clip 0 is not"),
        (1, {"clip": None}, "clip None is not"),
        (1, {"what": "batches"}, "'batches' is not one of"),
        (1, {"mechanism": "laplace"}, "unknown mechanism 'laplace'"),
        (1, {"mechanism": "none"}, "noise it has not"),
        (1, NOISELESS, "without noise under a finite budget"),
        (2, {"planned": 0}, "0 is not an unsealed plan"),
        (2, {"planned": 9}, "9 is not an unsealed plan"),
        (2, {"round": 2}, "1 is not an unsealed plan of its round"),
        (2, {"run": "s"}, "1 is not an unsealed plan of its round"),
        (2, {"tensors": "a"}, "wrong type: tensors"),
        (4, {"limits": {"epsilon": -1.0}}, "missing key 'max-q'"),
    ],
)
def test_an_entry_that_breaks_a_rule_is_refused_though_the_site_signed_it(
    exported: list[str], n: int, changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(LedgerBroken, match=rf"(?s)^ledger entry {n}: .*{fault}"):
        add_forged(exported, n, changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sigma": 0.4}, r"training sigma=0\.4 is under 0\.5"),
        ({"what": "metrics", "sigma": 0.9}, r"metrics sigma=0\.9 is under 1\.0"),
        ({"steps": 1001}, "training steps=1001 is over 1000"),
        ({"clip": 2.5}, r"training clip=2\.5 is over 2\.0"),
        ({"what": "popularity", "clip": 1.5}, r"popularity clip=1\.5 is over 1\.0"),
        ({"after": 3.1}, r"epsilon=3\.1 is over 3\.0"),
        ({"after": None}, r"epsilon=inf is over 3\.0"),
    ],
)
def test_a_charge_outside_the_policy_of_its_day_is_refused_by_every_reader(
    exported: list[str], changes: dict[str, Any], fault: str
) -> None:
    with pytest.raises(LedgerBroken, match=f"entry 1: outside the policy: {fault}"):
        add_forged(exported, 1, changes)


def test_a_charge_is_held_against_the_newest_policy(exported: list[str]) -> None:
    add_forged(exported, 5, {"after": 4.9})  # the budget was raised to 5
    with pytest.raises(LedgerBroken, match=r"entry 5: .* epsilon=5\.1 is over 5\.0"):
        add_forged(exported, 5, {"after": 5.1})


def test_entry_0_opens_and_no_other_does(exported: list[str]) -> None:
    """Else a second opening could bring another key, delta or budget."""
    chain, line = until(exported, 1)
    first = exported[0].rpartition(" ")[0]
    again = forged(first, {"n": 1, "prev": chain.head})
    with pytest.raises(LedgerBroken, match=r"^ledger entry 1: only entry 0 opens"):
        chain.add(again, signed(chain, again))

    policy = forged(exported[4].rpartition(" ")[0], {"n": 0, "prev": GENESIS})
    with pytest.raises(LedgerBroken, match=r"^ledger entry 0: only entry 0 opens"):
        Chain().add(policy, signed(Chain(), policy))

    chain.add(line, signed(chain, line))


def test_the_key_that_an_opening_names_is_one(exported: list[str]) -> None:
    chain, line = until(exported, 0)
    loud = forged(line, {"key": json.loads(line)["key"].upper()})

    with pytest.raises(LedgerBroken, match="entry 0: key is not 64 hexadecimal digits"):
        chain.add(loud, signed(chain, loud))


@pytest.mark.parametrize("row", vectors("invalid_events"), ids=str)
def test_an_event_that_is_none_is_neither_made_nor_read(
    exported: list[str], row: dict[str, Any]
) -> None:
    words = {"NaN": math.nan, "Infinity": math.inf}
    event = {name: words.get(row[name], row[name]) for name in ("q", "sigma", "steps")}

    with pytest.raises(ConfigError, match="privacy event"):
        GaussianEvent(**event)
    with pytest.raises(LedgerBroken, match=r"^ledger entry 1: "):
        add_forged(exported, 1, event)


@pytest.mark.parametrize("delta", vectors("invalid_delta"))
def test_a_delta_that_is_none_is_neither_opened_nor_read(
    exported: list[str], tmp_path: Path, delta: Any
) -> None:
    number = float(delta)

    with pytest.raises(ConfigError, match="delta"):
        book(tmp_path, delta=number)
    with pytest.raises(LedgerBroken, match=r"^ledger entry 0: "):
        add_forged(exported, 0, {"delta": number})

    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("line", ["", "[]", "[" * 100_000, '{"a":' * 100_000])
def test_a_line_that_is_no_entry_is_refused(line: str) -> None:
    with pytest.raises(LedgerBroken, match=r"^ledger entry 0: "):
        Chain().add(line, "")


def test_a_line_removed_doubled_or_moved_is_refused(exported: list[str]) -> None:
    for n in range(7):
        removed = exported[:n] + exported[n + 1 :]
        doubled = exported[: n + 1] + exported[n:]
        moved = [*removed, exported[n]] if n < 6 else [exported[n], *removed]

        for lines in (removed, doubled, moved):
            with pytest.raises(LedgerBroken, match=r"^ledger (entry \d|export): "):
                verify_lines(lines)


def test_two_lines_swapped_are_refused_with_the_number_of_the_first(
    exported: list[str],
) -> None:
    for n in range(5):
        lines = [*exported]
        lines[n], lines[n + 1] = lines[n + 1], lines[n]

        with pytest.raises(LedgerBroken, match=f"^ledger entry {n}: "):
            verify_lines(lines)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), byte=st.integers(0, 255))
def test_an_export_with_any_one_byte_changed_is_refused(
    exported: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    byte: int,
) -> None:
    whole = "".join(f"{line}\n" for line in exported).encode()
    at = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])

    if byte == whole[at]:
        assert len(read_ledger(path).entries) == 6
    else:
        with pytest.raises(LedgerBroken):
            read_ledger(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b"\r"),  # what a text file takes for the end of a line
        (b"\n", b"\x0b"),
        (b"\n", b"\x1c"),
        (b"\n", b"\r\n"),
        (b"a", b"A"),  # what a number in hexadecimal digits may hold
        (b" ", b"  "),
    ],
)
def test_an_export_written_another_way_is_refused(
    exported: list[str], tmp_path: Path, old: bytes, new: bytes
) -> None:
    whole = "".join(f"{line}\n" for line in exported).encode()
    start = whole.index(b"\n") - 129  # the space before the first signature
    changed = whole[:start] + whole[start:].replace(old, new, 1)
    (tmp_path / "lines").write_bytes(changed)
    assert old in whole[start : start + 130]

    with pytest.raises(LedgerBroken):
        read_ledger(tmp_path / "lines")


def test_an_export_cut_anywhere_is_refused(exported: list[str], tmp_path: Path) -> None:
    whole = "".join(f"{line}\n" for line in exported).encode()
    for keep in range(0, len(whole), 31):
        (tmp_path / "cut").write_bytes(whole[:keep])

        with pytest.raises(LedgerBroken, match=r"^ledger (entry \d|export): "):
            read_ledger(tmp_path / "cut")


def test_no_lines_are_no_ledger() -> None:
    for lines in ([], [""], ['{"entries":0,"head":"' + GENESIS + '"}']):
        with pytest.raises(LedgerBroken, match="ledger export"):
            verify_lines(lines)


def test_three_accountants_agree_on_what_a_file_alone_says(tmp_path: Path) -> None:
    ledger = book(tmp_path)
    for number in range(1, 6):
        seal(ledger, train(ledger, number, ROUND))
    ledger.export(tmp_path / "lines")

    chain = read_ledger(tmp_path / "lines")

    spent = cross_check(chain.events, chain.opening["delta"])  # raises if they do not
    assert chain.epsilon("add_remove") == spent["pld"] == epsilon([ROUND] * 5, DELTA)
    assert spent["prv"] is not None
    assert spent["rdp"] is not None
    assert spent["pld"] < spent["prv"] < spent["rdp"]


def test_an_end_that_the_chain_once_had_is_contained(exported: list[str]) -> None:
    whole = verify_lines(exported)

    for n in range(6):
        chain, line = until(exported, n)
        chain.add(line, signed(chain, line, KEY))
        assert chain.witness.holds()
        whole.require_contains(chain.witness)
