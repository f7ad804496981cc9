"""API keys of a site: roles by name, and of each key its hash alone.

    serving/keys.toml    one table [[key]] each; its owner's alone

A key is 256 random bits, shown once when it is made, so a plain SHA-256 stands for it.
It refuses a file that others may read or that it does not understand: then nobody comes
in. A file that changes counts from the next request on.
"""

import hashlib
import hmac
import os
import re
import secrets
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, get_args

from filelock import FileLock

from shared.config import read
from shared.errors import ConfigError
from shared.secret_file import keep_secret
from shared.signing import OTHERS

FOLDER, FILE = "serving", "keys.toml"
Role = Literal["read", "write", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One API key, without what proves it.

    Attributes:
        name: Of whoever uses it.
        roles: What it may do: ``read``, ``write`` events and edits, ``admin``.
        sha256: Of the key.
        created: When it was made, ISO 8601.
    """

    name: str
    roles: tuple[str, ...]
    sha256: str
    created: str

    def faults(self) -> list[str]:
        """Return one sentence for each value that cannot be."""
        checks = [
            (bool(_NAME.fullmatch(self.name)), "name is not 1 to 64 of A-Za-z0-9._-"),
            (bool(self.roles), "roles is empty"),
            (set(self.roles) <= set(ROLES), f"a role is none of {', '.join(ROLES)}"),
            (bool(_HASH.fullmatch(self.sha256)), "sha256 is not 64 hexadecimal digits"),
            (not {'"', "\\", "\n"} & set(self.created), "created is no time"),
        ]
        return [fault for holds, fault in checks if not holds]


class Keys:
    """Who may come in; reads ``keys.toml`` again whenever it changes."""

    def __init__(self, path: Path, also: Sequence[Key] = ()) -> None:
        self._path = path
        self._also = tuple(also)
        self._stamp: tuple[int, ...] | None = None
        self._known = self._also

    @classmethod
    def of(cls, folder: Path, page_key: str = "") -> Self:
        """Return the keys of the site in ``folder``.

        Args:
            folder: The site's.
            page_key: SHA-256 of a key that the site's own page holds; it may do
                everything, and is in no file.

        Raises:
            ConfigError: If the file cannot be used.
        """
        page = Key(name="page", roles=ROLES, sha256=page_key, created="")
        keys = cls(folder / FOLDER / FILE, [page] if page_key else [])
        keys.owner("")
        return keys

    def owner(self, presented: str) -> Key | None:
        """Return whose key this is, or None; what is tried is not told by the time.

        Raises:
            ConfigError: If the file cannot be used any more.
        """
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._known = (*_read(self._path), *self._also)
            self._stamp = stamp
        tried = hashlib.sha256(presented.encode("latin-1", "replace")).hexdigest()
        found = None
        for key in self._known:
            if hmac.compare_digest(tried, key.sha256):
                found = key
        return found


def make(folder: Path, name: str, roles: Sequence[Role]) -> str:
    """Make a key for the site in ``folder`` and return it: nobody can, ever again.

    Raises:
        ConfigError: If the name is taken or cannot be one, or no role is given.
    """
    made = secrets.token_urlsafe(32)
    key = Key(
        name=name,
        roles=tuple(role for role in ROLES if role in roles),
        sha256=hashlib.sha256(made.encode()).hexdigest(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if faults := key.faults():
        raise ConfigError("\n  ".join(["this can be no key:", *faults]))
    with _alone(folder) as path:
        known = _read(path)
        if any(one.name == name for one in known):
            raise ConfigError(f"{path} has a key {name!r}; revoke it, or name another")
        keep_secret(path, _text([*known, key]))
    return made


def revoke(folder: Path, name: str) -> None:
    """Take a key away; requests with it are refused from then on.

    Raises:
        ConfigError: If there is no key of that name.
    """
    with _alone(folder) as path:
        known = _read(path)
        left = [key for key in known if key.name != name]
        if len(left) == len(known):
            names = ", ".join(key.name for key in known) or "none at all"
            raise ConfigError(f"{path} has no key {name!r}; it has {names}")
        keep_secret(path, _text(left))


def listed(folder: Path) -> tuple[Key, ...]:
    """Return the keys of the site in ``folder``, the oldest first."""
    return _read(folder / FOLDER / FILE)


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """Yield where the keys lie, while no other process changes them."""
    path = folder / FOLDER / FILE
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        yield path


def _read(path: Path) -> tuple[Key, ...]:
    try:
        mode = path.stat().st_mode
        whole: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}") from None
    if mode & OTHERS:
        raise ConfigError(
            f"{path} has mode {mode & 0o777:03o}, so others may read it: chmod 600"
        )
    tables = whole.pop("key", [])
    if whole or not (isinstance(tables, list) and all(map(_is_table, tables))):
        raise ConfigError(f"{path}: write each key as a table [[key]], nothing else")
    return tuple(read(Key, each, f"{path} key {n}") for n, each in enumerate(tables, 1))


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes whenever the file does."""
    with suppress(OSError):
        found = os.stat(path)  # noqa: PTH116  # for each request
        return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode
    return ()


def _text(keys: Iterable[Key]) -> bytes:
    """Return the file; no value needs an escape, ``Key.faults`` sees to that."""
    tables = [
        f'[[key]]\nname = "{key.name}"\nroles = {list(key.roles)}\n'
        f'sha256 = "{key.sha256}"\ncreated = "{key.created}"\n'
        for key in keys
    ]
    return "\n".join(tables).encode()
