"""The SQLite file of what a site's users do live: its tables, and the ways to open it.

    serving/serving.sqlite   raw behaviour: its owner's alone, and it never leaves

A commit is on the disk when it returns. What is deleted is overwritten with zeros, and
nothing is written to temporary files elsewhere. A file of another version is refused.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock

from shared.durable import sync_folder
from shared.errors import StoreFailed

FOLDER, FILE = "serving", "serving.sqlite"
BUSY_S = 60.0  # longest wait for another process of the site
VERSION = 1

SCHEMA = f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE events (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    user TEXT NOT NULL,
    kind TEXT NOT NULL,
    item TEXT NOT NULL,
    rating REAL,
    time INTEGER NOT NULL,
    shown TEXT NOT NULL,
    sentiment REAL NOT NULL,
    UNIQUE (user, id)
) STRICT;
CREATE INDEX events_of ON events (user);
CREATE TABLE edits (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL,
    interest TEXT NOT NULL,
    state TEXT NOT NULL,
    time INTEGER NOT NULL,
    UNIQUE (user, interest)
) STRICT;
CREATE TABLE searches (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL,
    event TEXT NOT NULL, -- id of the event whose words named the interest
    interest TEXT NOT NULL,
    UNIQUE (user, event, interest)
) STRICT;
CREATE TABLE people (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    user TEXT NOT NULL,
    attribute TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (user, attribute)
) STRICT;
CREATE TABLE items (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    text TEXT NOT NULL,
    attributes TEXT NOT NULL, -- JSON: name -> list of values
    time INTEGER NOT NULL
) STRICT;
CREATE TABLE shown (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    time INTEGER NOT NULL,
    user TEXT NOT NULL, -- empty: an anonymous visitor
    release TEXT NOT NULL,
    segment TEXT NOT NULL,
    alpha REAL NOT NULL,
    explore REAL NOT NULL,
    arms TEXT NOT NULL, -- JSON: [] or the names of [team a, team b]
    items TEXT NOT NULL -- JSON: [[item, team, explored, propensity], ...]
) STRICT;
CREATE INDEX shown_to ON shown (user);
CREATE INDEX shown_at ON shown (time);
PRAGMA user_version = {VERSION};
COMMIT;
"""
OF_USERS = ("events", "edits", "searches", "people", "shown")  # with a column ``user``


def file_of(site: Path) -> Path:
    """Return the store's file of the site in a folder."""
    return site / FOLDER / FILE


def make_file(site: Path) -> Path:
    """Return the store's file, made if it was not there.

    Raises:
        StoreFailed: If it cannot be made, or is of another version.
    """
    path = file_of(site)
    with failing(path, "no event can be kept"):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.chmod(0o700)
        with FileLock(path.with_suffix(".lock"), mode=0o600):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            path.chmod(0o600)  # the log and its index take the same mode
            with closing(connected(path, "rw")) as db:
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version == 0:
                    db.executescript(SCHEMA)
                elif version != VERSION:
                    raise StoreFailed(
                        f"{path} is of version {version}, and this one reads version "
                        f"{VERSION}: use the Tacit that wrote it"
                    )
            sync_folder(path.parent)
        sync_folder(path.parent.parent)
    return path


def connected(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to a file that must exist.

    Args:
        path: Of the store.
        mode: ``rw``, or ``ro`` to read beside a server that runs.
    """
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(
        uri, BUSY_S, isolation_level=None, check_same_thread=False, uri=True
    )
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA temp_store = MEMORY")  # or users' rows came to /var/tmp
    return db


@contextmanager
def read_only(site: Path) -> Iterator[sqlite3.Connection]:
    """Read the store of a site as it is at this moment; a server may go on writing.

    Raises:
        StoreFailed: If there is none, or it cannot be read.
    """
    path = file_of(site)
    with failing(path, "nothing was read"):
        if not path.exists():
            raise StoreFailed(f"{path} is not there: the site has served nobody yet")
        with closing(connected(path, "ro")) as db:
            db.execute("BEGIN")
            yield db


@contextmanager
def failing(path: Path, outcome: str) -> Iterator[None]:
    """Turn what a disk or SQLite says into the one error that callers know."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StoreFailed(
            f"{path}: {error}; {outcome}: make room, allow writing, or restore the "
            "file from its backup"
        ) from None
