"""``[source]`` in ``data.toml``: which database, asked what; never a credential."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ConfigError
from shared.signing import OTHERS

DRIVERS = {  # how a URL begins -> SQLAlchemy's name
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
CONNECTION_KEYS = {  # what may stand behind the "?" of a URL
    *("host", "port", "target_session_attrs", "application_name", "gssencmode"),
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding"),
}
OVERLAP = 3600  # seconds; how long a transaction may take to show its events
LONGEST = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Where a site's rows come from, if not from files.

    Args:
        url: As SQLAlchemy writes it, without a password. A path of SQLite is relative
            to the folder of ``data.toml``.
        interactions: A SELECT that gives one row per event.
        items: A SELECT that gives one row per item.
        cursor: Column of ``interactions`` that grows from event to event: whole
            numbers, instants, or ISO 8601 text in SQLite. Empty: all is always read.
        overlap: How far below the newest cursor to read again, in seconds, or in the
            cursor's own unit where it is a number.
        password_env: Environment variable that holds the password.
        password_file: File that holds the password, readable by its owner alone;
            relative to the folder of ``data.toml``.
    """

    url: str
    interactions: str
    items: str
    cursor: str = ""
    overlap: int = OVERLAP
    password_env: str = ""
    password_file: str = ""

    @property
    def sqlite(self) -> bool:
        """Whether it is a file of SQLite."""
        return self.url.startswith("sqlite:")

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range; none repeats the URL."""
        faults = list(_url_faults(self.url))
        if self.password_env and self.password_file:
            faults.append("give 'password-env' or 'password-file', not both")
        if not 0 <= self.overlap <= LONGEST:
            faults.append(f"overlap={self.overlap} must be in [0, {LONGEST}]")
        empty = {"interactions": self.interactions, "items": self.items}
        faults += [f"query {name!r} is empty" for name in empty if not empty[name]]
        return faults


def password(source: Database, folder: Path) -> str | None:
    """Return the password, or None where the database is to ask for none.

    Raises:
        ConfigError: If the variable is not set, or the file is missing, no plain file,
            empty or open to others.
    """
    if source.password_env:
        found = os.environ.get(source.password_env)
        if not found:
            raise ConfigError(
                f"environment variable {source.password_env!r} is not set; data.toml "
                "says that it holds the password of the database"
            )
        return found
    return _from_file(folder / source.password_file) if source.password_file else None


def _from_file(path: Path) -> str:
    """Return the first line of a file that only its owner may read."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"password file {path} cannot be read ({type(error).__name__})"
        ) from None
    if not stat.S_ISREG(mode):
        raise ConfigError(f"password file {path} is no plain file")
    if mode & OTHERS:
        raise ConfigError(
            f"password file {path} has mode {mode & 0o777:03o}, so others may read it: "
            "chmod 600, and change the password"
        )
    if not found:
        raise ConfigError(f"password file {path} has an empty first line")
    return found


def _url_faults(url: str) -> Iterator[str]:
    """Yield what is wrong with a URL, without any part that may be secret."""
    from sqlalchemy import make_url  # noqa: PLC0415  # for sites with a database alone
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415

    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        yield "'url' is no URL of a database, such as postgresql://reader@host/shop"
        return
    if parts.drivername not in DRIVERS:
        yield f"'url' names an unknown kind of database; known: {', '.join(DRIVERS)}"
    if not parts.database:
        yield "'url' names no database"
    if parts.password is not None:
        yield (
            "'url' holds a password; take it out, give 'password-env' or "
            "'password-file', and change the password"
        )
    unknown = len(parts.query.keys() - CONNECTION_KEYS)
    if unknown:
        yield (
            f"'url' has {unknown} unknown key(s) after its '?'; known: "
            f"{', '.join(sorted(CONNECTION_KEYS))}"
        )
