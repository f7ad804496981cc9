"""The ledger's file: what a disk, a clock or an editor does to it is refused."""

import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.entries import GENESIS, hash_after
from shared.errors import LedgerBroken
from shared.ledger import Ledger
from shared.ledger_file import Pen, _connected, make_file, read_ledger
from tests.shared.books import (
    CHEAP,
    DELTA,
    KEY,
    NEW_YEAR,
    book,
    busy,
    child,
    forged,
    meddle,
    seal,
    states,
    told,
    train,
)

NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Act as one for whom permissions hold: root would write anyway."""
    am_root = os.geteuid() == 0
    if am_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if am_root:
            os.seteuid(0)


def at_rest(folder: Path) -> Ledger:
    """The ledger in a folder, without looking at its file."""
    pen = Pen(site="north", key=KEY, now=lambda: NEW_YEAR)
    return Ledger(
        path=folder / "ledger.sqlite",
        delta=DELTA,
        pen=pen,
        witness_path=folder / "ledger.witness",
    )


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE entry SET line = '{}' WHERE n = 1", "never changed"),
        ("UPDATE entry SET signature = '' WHERE n = 1", "never changed"),
        ("UPDATE entry SET n = 9 WHERE n = 1", "never changed"),
        ("DELETE FROM entry WHERE n = 5", "never deleted"),
        ("REPLACE INTO entry VALUES (5, '{}', '', '')", "only added at the end"),
        ("INSERT INTO entry VALUES (-1, '{}', '', '')", "only added at the end"),
        ("INSERT INTO entry VALUES (7, '{}', '', '')", "only added at the end"),
    ],
)
def test_sqlite_itself_keeps_every_entry(
    tmp_path: Path, statement: str, reason: str
) -> None:
    ledger = busy(tmp_path)

    with (
        closing(sqlite3.connect(ledger.path)) as db,
        pytest.raises(sqlite3.IntegrityError, match=reason),
    ):
        db.execute(statement)

    assert len(ledger.entries()) == 6


def test_the_file_is_durable_at_every_commit(tmp_path: Path) -> None:
    with _connected(busy(tmp_path).path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE entry SET line = replace(line, '20.0', '90.0') WHERE n = 1", "1: its"),
        ("UPDATE entry SET line = CAST(X'FF' AS TEXT) WHERE n = 4", "4: its hash"),
        ("UPDATE entry SET hash = '' WHERE n = 5", "5: its hash"),
        ("UPDATE entry SET hash = upper(hash) WHERE n = 5", "5: its hash"),
        ("UPDATE entry SET signature = '' WHERE n = 5", "5: the signature"),
        ("UPDATE entry SET signature = upper(signature) WHERE n = 0", "0: the sig"),
        (
            "UPDATE entry SET signature = (SELECT signature FROM entry WHERE n = 2)"
            " WHERE n = 3",
            "3: the signature",
        ),
        ("DELETE FROM entry WHERE n = 3", "3: missing; the next is 4"),
        ("DELETE FROM entry WHERE n = 0", "0: missing; the next is 1"),
        ("UPDATE entry SET n = -n", "0: missing; the next is -5"),
        (
            "UPDATE entry SET line = (SELECT line FROM entry AS other"
            " WHERE other.n = 9 - entry.n) WHERE n IN (4, 5)",
            "4: its hash",
        ),
        ("DELETE FROM entry WHERE n = 5", "has seen 6 entries; the ledger has only 5"),
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
        lambda: book(tmp_path, 5.0),
        lambda: train(ledger, 3),
        lambda: seal(ledger, 5),
        lambda: ledger.refused("r", 3, "PolicyRefused"),
        ledger.epsilon,
    ]

    for call in calls:
        with pytest.raises(LedgerBroken, match=fault):
            call()


def test_whoever_has_not_the_key_cannot_rewrite_the_chain(tmp_path: Path) -> None:
    """A charge made smaller, and every hash after it anew."""
    ledger, head = busy(tmp_path), GENESIS
    entries = ledger.entries()
    meddle(tmp_path, "DELETE FROM entry")
    with closing(sqlite3.connect(ledger.path)) as db, db:
        for entry in entries:
            sigma = {"sigma": 90.0} if entry.n == 1 else {}
            line = forged(entry.line, {"prev": head, **sigma})
            head = hash_after(head, line)
            row = (entry.n, line, head, entry.signature)
            db.execute("INSERT INTO entry VALUES (?, ?, ?, ?)", row)

    for read in (ledger.epsilon, lambda: read_ledger(ledger.path)):
        with pytest.raises(LedgerBroken, match="ledger entry 1: the signature is not"):
            read()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), byte=st.integers(0, 255))
def test_a_file_with_any_one_byte_changed_says_the_same_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, byte: int
) -> None:
    """Its pages hold bytes that mean nothing; and where an end can be cut off with one,
    a reader without the witness sees a shorter chain, never another."""
    folder = tmp_path_factory.getbasetemp() / "changed-file"
    if not folder.exists():
        folder.mkdir()
        shutil.copy(busy(folder).path, folder / "whole")
    ledger, honest = at_rest(folder), read_ledger(folder / "whole").entries
    whole = (folder / "whole").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    ledger.path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])

    with suppress(LedgerBroken):
        assert ledger.entries() == honest
    with suppress(LedgerBroken):
        found = read_ledger(ledger.path).entries
        assert found == honest[: len(found)]
        assert found


def test_what_sqlite_says_of_a_torn_schema_need_not_be_text(tmp_path: Path) -> None:
    ledger = busy(tmp_path)
    torn = ledger.path.read_bytes().replace(b"entry_next", b"\xe5ntry_next", 1)
    ledger.path.write_bytes(torn)

    for read in (ledger.entries, lambda: read_ledger(ledger.path)):
        with pytest.raises(LedgerBroken, match=r"malformed|codec can't decode"):
            read()


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, 5000, -1])
def test_an_empty_or_torn_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = busy(tmp_path).path
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(LedgerBroken, match=f"{path}|ledger entry"):
        book(tmp_path, 5.0)
    with pytest.raises(LedgerBroken, match=r"ledger e|cannot be read"):
        read_ledger(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LedgerBroken, match=r"absent.*nothing may be trained"):
        book(tmp_path / "absent")


@pytest.mark.parametrize("kind", ["file", "export"])
def test_a_copy_or_an_export_is_read_where_nothing_can_be_written(
    tmp_path: Path, open_folder: Path, kind: str
) -> None:
    ledger = busy(tmp_path)
    copy = open_folder / kind
    if kind == "file":
        shutil.copy(ledger.path, copy)
    else:
        ledger.export(copy)
    open_folder.chmod(0o555)

    with ordinary_user():
        chain = read_ledger(copy)

    assert chain.entries == ledger.entries()
    assert [*open_folder.iterdir()] == [copy]


def test_a_copy_taken_after_a_kill_has_what_was_not_yet_in_the_file(
    tmp_path: Path,
) -> None:
    """SQLite's log lies beside it then."""
    ledger = book(tmp_path)
    code = (
        "from shared import ledger\n"
        "ledger.keep_witness = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "import sqlite3, shared.ledger_file as file\n"
        "keep_open = sqlite3.connect(folder / 'ledger.sqlite')\n"
        "keep_open.execute('SELECT * FROM entry').fetchone()\n"
        "train(book(folder), 1)\n"
    )
    with child(tmp_path, code) as process:
        assert process.wait(60) == -signal.SIGKILL
    (tmp_path / "copy").mkdir()
    for path in tmp_path.glob("ledger.sqlite*"):
        shutil.copy(path, tmp_path / "copy")
    assert (tmp_path / "copy" / "ledger.sqlite-wal").exists()

    chain = read_ledger(tmp_path / "copy" / "ledger.sqlite")

    assert chain.events == ledger.events() == [CHEAP]


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\xff\xfe", b"SQLite format 3\0", b"a"]
)
def test_what_is_neither_a_ledger_nor_an_export_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "odd").write_bytes(content)

    for path in (tmp_path / "odd", tmp_path / "absent", tmp_path):
        with pytest.raises(LedgerBroken, match=r"cannot be read|ledger export"):
            read_ledger(path)


def test_a_file_that_may_not_be_written_is_refused_and_nothing_is_charged(
    open_folder: Path,
) -> None:
    ledger = book(open_folder)
    train(ledger, 1)

    for made in (0o555, 0o755):  # the folder; the folder may, the file may not
        open_folder.chmod(made)
        with ordinary_user():
            with pytest.raises(LedgerBroken, match="nothing may be trained"):
                train(ledger, 2)
            with pytest.raises(LedgerBroken, match="nothing may be trained"):
                ledger.alone().__enter__()
            with pytest.raises(LedgerBroken, match="nothing may be trained"):
                book(open_folder)
            assert read_ledger(ledger.path).events == [CHEAP]

    open_folder.chmod(0o755)
    assert ledger.events() == [CHEAP]
    assert train(ledger, 2) == 2


def test_a_full_disk_is_refused_wherever_it_fills_up(tmp_path: Path) -> None:
    """No file of the child may grow beyond a size; the sizes go up until it fits."""
    code = (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "most = resource.RLIM_INFINITY\n"
        "for size in range(0, 40_000, 2000):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))\n"
        "    try: train(book(folder), 1)\n"
        "    except LedgerBroken as error:\n"
        "        assert 'nothing may be trained' in str(error)\n"
        "        print('refused')\n"
        "    else: print('charged'); break\n"
    )

    *full, last = child(tmp_path, code).communicate(timeout=60)[0].split()

    assert len(full) >= 5
    assert set(full) == {"refused"}
    assert last == "charged"
    assert book(tmp_path).events() == [CHEAP]


def test_a_disk_that_keeps_nothing_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    """Every fsync answers EIO: SQLite's, the witness's, the folder's."""
    train(book(tmp_path), 1)
    code = (
        "from tests.shared.failing_disk import fail_syncs\n"
        "(folder / 'new').mkdir(); ledger = book(folder)\n"
        "print('failing' if fail_syncs() else 'not here', flush=True)\n"
        "for call in (lambda: train(ledger, 2), lambda: book(folder / 'new')):\n"
        "    try: call()\n"
        "    except LedgerBroken as error: print(error)\n"
        "    else: print('charged')\n"
    )
    with child(tmp_path, code) as process:
        if told(process) != "failing":
            pytest.skip("no seccomp filter on this machine")
        answers = process.communicate(timeout=60)[0].splitlines()

    assert len(answers) == 2
    assert all("nothing may be trained" in answer for answer in answers)
    assert book(tmp_path).events()[:1] == [CHEAP]
    assert states(book(tmp_path / "new")) == ["opened"]


def test_a_witness_that_cannot_be_made_durable_stops_the_charged_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The charge is durable by then, and stays; the round does not go on."""
    ledger = book(tmp_path)

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(LedgerBroken, match="Input/output error; nothing may be"):
            train(ledger, 1)

    assert ledger.events() == [CHEAP]
    assert train(ledger, 2) == 2


@pytest.mark.parametrize(
    "date",
    [
        "2025-12-31T23:00:00+00:00",  # an hour, and no more
        "2025-12-31T23:55:00+00:00",
        "2026-01-01T00:30:00+01:00",  # 23:30 in UTC
    ],
)
def test_a_clock_set_back_by_minutes_is_taken(tmp_path: Path, date: str) -> None:
    train(book(tmp_path), 1)

    assert train(book(tmp_path, now=lambda: date), 2) == 2
    assert train(book(tmp_path), 3) == 3


@pytest.mark.parametrize(
    "date",
    [
        "2025-12-31T22:59:59+00:00",
        "2026-01-01T00:59:59+02:00",  # 22:59:59 in UTC
        "2016-01-01T00:00:00+00:00",
    ],
)
def test_a_clock_set_back_by_more_than_an_hour_stops_the_site(
    tmp_path: Path, date: str
) -> None:
    ledger = book(tmp_path)
    train(ledger, 1)

    with pytest.raises(LedgerBroken, match="newest entry is of 2026-01-01T00:00"):
        train(book(tmp_path, now=lambda: date), 2)

    assert ledger.events() == [CHEAP]
    assert train(ledger, 2) == 2


def test_a_value_that_json_lacks_is_not_written(tmp_path: Path) -> None:
    ledger = book(tmp_path)

    for clip in (float("nan"), float("inf")):
        with pytest.raises(LedgerBroken, match=r"^ledger entry 1: Out of range float"):
            train(ledger, 1, clip=clip)

    assert states(ledger) == ["opened"]


def test_while_one_plans_no_other_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.ledger_file.BUSY_S", 0)
    other = book(tmp_path)

    def meanwhile() -> str:
        with pytest.raises(LedgerBroken, match="database is locked"):
            train(other, 1)
        return NEW_YEAR

    assert train(book(tmp_path, now=meanwhile), 1) == 1
    assert other.events() == [CHEAP]


def test_a_pen_does_not_show_its_key() -> None:
    assert repr(Pen(site="north", key=KEY, now=lambda: NEW_YEAR)) == "Pen(north)"


def test_a_table_of_other_people_is_no_ledger(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other")) as db, db:
        db.execute("CREATE TABLE entry (n, line)")

    with pytest.raises(LedgerBroken, match="no such column"):
        read_ledger(tmp_path / "other")


def test_a_ledger_without_an_entry_is_none(tmp_path: Path) -> None:
    make_file(tmp_path / "empty")

    with pytest.raises(LedgerBroken, match=r"empty.* holds no entry"):
        read_ledger(tmp_path / "empty")
