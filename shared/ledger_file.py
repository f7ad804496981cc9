"""A ledger's SQLite file: durable, append-only, read whole and verified every time.

Nothing here decides what may be charged; ``shared/ledger.py`` does. An entry that is
added is signed and held to the same checks as one that is read.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.chain import Chain, verify_lines
from shared.entries import Entry, canonical, hash_after
from shared.errors import LedgerBroken
from shared.signing import sign
from shared.witness import statement

BUSY_S = 120  # longest wait for another process of the site
CLOCK_SLACK = timedelta(hours=1)  # a clock may be set back by so much unnoticed
MAGIC = b"SQLite format 3\0"
_UNREADABLE = (sqlite3.Error, OSError, UnicodeDecodeError)  # the last: of its messages

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE entry (
    n INTEGER PRIMARY KEY, line TEXT NOT NULL, hash TEXT NOT NULL,
    signature TEXT NOT NULL
) STRICT;
CREATE TRIGGER entry_kept BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'a ledger entry is never deleted'); END;
CREATE TRIGGER entry_fixed BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'a ledger entry is never changed'); END;
CREATE TRIGGER entry_next BEFORE INSERT ON entry
    WHEN NEW.n IS NOT (SELECT count(*) FROM entry)
    BEGIN SELECT RAISE(ABORT, 'a ledger entry is only added at the end'); END;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pen:
    """Who writes: the site, its key, and what the clock says."""

    site: str
    key: Ed25519PrivateKey
    now: Callable[[], str]

    def __repr__(self) -> str:
        return f"Pen({self.site})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An open transaction: the verified chain and the right to add to it."""

    db: sqlite3.Connection
    chain: Chain
    pen: Pen

    def append(self, state: str, **fields: Any) -> Entry:
        """Add one signed entry, held to the same checks as one that is read."""
        chain, pen, n = self.chain, self.pen, len(self.chain.entries)
        place = {"n": n, "prev": chain.head, "date": self._date()}
        try:
            line = canonical({"state": state, **place, **fields})
        except ValueError as error:
            raise LedgerBroken(f"ledger entry {n}: {error}") from None
        said = statement(pen.site, n, hash_after(chain.head, line))
        entry = chain.add(line, sign(pen.key, said))
        row = (entry.n, entry.line, entry.hash, entry.signature)
        self.db.execute("INSERT INTO entry VALUES (?, ?, ?, ?)", row)
        return entry

    def _date(self) -> str:
        """Return the time, unless the clock stands before the newest entry."""
        date, entries = self.pen.now(), self.chain.entries
        newest = entries[-1].body["date"] if entries else date
        if datetime.fromisoformat(date) < datetime.fromisoformat(newest) - CLOCK_SLACK:
            raise LedgerBroken(
                f"ledger of site {self.pen.site!r}: the clock says {date}, but the "
                f"newest entry is of {newest}: set the clock right"
            )
        return date


def make_file(path: Path) -> None:
    """Make an empty ledger at ``path``."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)


@contextmanager
def access(path: Path) -> Iterator[None]:
    """Turn what a disk or SQLite says into the one refusal that callers know."""
    try:
        yield
    except _UNREADABLE as error:
        raise LedgerBroken(
            f"ledger {path}: {error}; nothing may be trained: make room, allow "
            "writing, or restore the file from its backup"
        ) from error


@contextmanager
def transaction(path: Path, pen: Pen) -> Iterator[Page]:
    """Lock, read, and commit unless something is raised."""
    with _connected(path) as db:
        db.execute("BEGIN IMMEDIATE")
        yield Page(db=db, chain=_stored(db), pen=pen)
        db.execute("COMMIT")  # closing without it rolls back


def read_file(path: Path) -> Chain:
    """Return the verified chain of a ledger's own file."""
    with _connected(path) as db:
        return _stored(db)


def read_ledger(path: Path) -> Chain:
    """Return the verified chain of a copied ledger or of an export; change nothing.

    Needs no key and no witness, so that it works anywhere.

    Raises:
        LedgerBroken: If it is neither an intact ledger nor an intact export.
    """
    try:
        with path.open("rb") as file:
            is_database = file.read(len(MAGIC)) == MAGIC
        if not is_database:
            *lines, _ = path.read_bytes().decode().split("\n")  # ends are "\n" alone
            return verify_lines(lines)
        log = path.with_name(f"{path.name}-wal")
        mode = "ro" if log.exists() else "ro&immutable=1"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            chain = _stored(db)
    except _UNREADABLE as error:
        raise LedgerBroken(f"ledger {path} cannot be read: {error}") from None
    if not chain.entries:
        raise LedgerBroken(f"ledger {path} holds no entry")
    return chain


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Connect to a file that must exist; a commit is on disk when it returns."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connect = sqlite3.connect(uri, BUSY_S, isolation_level=None, uri=True)
    with closing(connect) as db:
        db.text_factory = lambda raw: raw.decode(errors="replace")
        db.execute("PRAGMA synchronous = FULL")
        yield db


def _stored(db: sqlite3.Connection) -> Chain:
    """Return a file's chain, each entry held against its stored number and hash."""
    chain = Chain()
    rows = db.execute("SELECT n, line, hash, signature FROM entry ORDER BY n")
    for n, text, digest, signature in rows:
        expected = len(chain.entries)
        if n != expected:
            raise LedgerBroken(f"ledger entry {expected}: missing; the next is {n}")
        line = str(text)  # a torn page may give anything, whatever the table says
        if digest != hash_after(chain.head, line):
            raise LedgerBroken(f"ledger entry {n}: its hash does not match")
        chain.add(line, str(signature))
    return chain
