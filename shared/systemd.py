"""Paths and accounts as systemd reads them in a unit."""

from pathlib import Path


def owner(folder: Path) -> str:
    """Return the name of the account that owns a folder, or its number without one."""
    try:
        return folder.owner()
    except KeyError:
        return str(folder.stat().st_uid)


def literal(path: Path) -> str:
    """Return a path in which systemd replaces nothing."""
    return str(path).replace("%", "%%")


def word(path: Path) -> str:
    """Return a path as one word of a list."""
    plain = literal(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'


def argument(path: Path) -> str:
    """Return a path as one word of a command, in which ``$`` means nothing."""
    return word(path).replace("$", "$$")
