"""Users whom a site has forgotten: keyed hashes of their ids, and never an id.

    forgotten        a hash for each user, sorted, under a seal over all of them
    forgotten.key    32 random bytes, made here; its owner's alone

It refuses a list without its key, a key without its list, and a list that was changed:
nobody comes back because a file went missing.
"""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from filelock import FileLock

from shared.errors import ConfigError
from shared.secret_file import keep_secret
from shared.signing import OTHERS

LIST, KEY = "forgotten", "forgotten.key"
_USER, _SEAL = b"tacit forgotten user\n", b"tacit forgotten list\n"


@dataclass(frozen=True, slots=True, repr=False)
class Forgotten:
    """Who is never read again; ``user in forgotten`` asks for one id.

    Args:
        secret: What the hashes are keyed with.
        hashes: Of the ids, as hexadecimal digits.
    """

    secret: bytes
    hashes: frozenset[str]

    def __contains__(self, user: str) -> bool:
        return self.hash(user) in self.hashes

    def hash(self, user: str) -> str:
        """Return what stands for a user on the list."""
        return _hashed(self.secret, _USER + user.encode())

    def without(self, rows: pl.DataFrame, column: str) -> pl.DataFrame:
        """Return the rows whose user is not forgotten, in their order.

        Guarantee: no row of a forgotten user is left, and every other row is as it was.

        Args:
            rows: Of any table.
            column: Which holds the user's id as text; one that is not there or holds
                anything else is the loader's to refuse.
        """
        if not self.hashes or rows.schema.get(column) != pl.String:
            return rows
        gone = [user for user in rows[column].unique().drop_nulls() if user in self]
        return rows.filter(~pl.col(column).is_in(gone).fill_null(value=False))

    def __repr__(self) -> str:
        return "Forgotten(not shown)"


NOBODY = Forgotten(b"", frozenset())


def forgotten_at(site: Path | None) -> Forgotten:
    """Return whom a site has forgotten.

    Args:
        site: The site's folder; None for data of no site.

    Raises:
        ConfigError: If one of the two files is missing, open to others or changed.
    """
    if site is None or not ((site / LIST).exists() or (site / KEY).exists()):
        return NOBODY
    with _alone(site):
        return _read(site)


def add(site: Path, user: str) -> None:
    """Put a user on the list durably; once is as good as twice.

    Raises:
        ConfigError: If the id can be nobody's, or the list cannot be believed.
    """
    if not user.strip() or not _is_text(user):
        raise ConfigError("the user's id is empty or not UTF-8; give it as in the data")
    with _alone(site):
        fresh = not ((site / LIST).exists() or (site / KEY).exists())
        known = _begun(site) if fresh else _read(site)
        hashes = sorted(known.hashes | {known.hash(user)})
        lines = [_sealed(known.secret, hashes), *hashes]
        keep_secret(site / LIST, "".join(f"{line}\n" for line in lines).encode())


def _alone(site: Path) -> FileLock:
    """Return the lock that keeps a reader from seeing one of two new files."""
    return FileLock(site / f"{LIST}.lock")


def _read(site: Path) -> Forgotten:
    try:
        mode = (site / KEY).stat().st_mode
        secret = bytes.fromhex((site / KEY).read_text("ascii"))
        seal, *hashes = (site / LIST).read_text("ascii").split()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{site / LIST} and {KEY} cannot be read ({type(error).__name__}), so "
            "nobody knows who must be ignored: restore both from their backup"
        ) from None
    if mode & OTHERS:
        raise ConfigError(
            f"{site / KEY} has mode {mode & 0o777:03o}, so others may read it: "
            "chmod 600"
        )
    if not hmac.compare_digest(seal, _sealed(secret, hashes)):
        raise ConfigError(
            f"{site / LIST} was changed or is of another key: restore it and {KEY} "
            "from their backup"
        )
    return Forgotten(secret, frozenset(hashes))


def _begun(site: Path) -> Forgotten:
    """Make the key of a list that holds nobody yet."""
    secret = secrets.token_bytes(32)
    keep_secret(site / KEY, secret.hex().encode())
    return Forgotten(secret, frozenset())


def _is_text(user: str) -> bool:
    """Return whether the id can stand in a table; an argument may hold odd bytes."""
    try:
        user.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sealed(secret: bytes, hashes: Iterable[str]) -> str:
    return _hashed(secret, _SEAL + "\n".join(hashes).encode())


def _hashed(secret: bytes, text: bytes) -> str:
    return hmac.digest(secret, text, "sha256").hex()
