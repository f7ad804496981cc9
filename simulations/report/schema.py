"""What kinds of report there are, and the one door by which one is read again.

A folder without a report of ours is refused.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.errors import ConfigError

SCHEMA = "tacit/report/2"  # of a run
SWEEP = "tacit/sweep/1"
NAME = "report.json"
KINDS = (SCHEMA, SWEEP)


def read(folder: Path) -> dict[str, Any]:
    """Return the report of a run or of a sweep from its folder.

    Raises:
        ConfigError: If there is none, or it is not one of ours.
    """
    path = folder / NAME
    try:
        made = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{folder} holds no {NAME} ({error.strerror}): give the folder of a "
            "finished tacit simulate"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    if not isinstance(made, dict) or made.get("schema") not in KINDS:
        raise ConfigError(
            f"{path} is no report of this version ({', '.join(KINDS)}): run tacit "
            "simulate again"
        )
    return made


def read_run(folder: Path) -> dict[str, Any]:
    """Return the report of a run from its folder.

    Raises:
        ConfigError: If there is none, or it is of a sweep.
    """
    made = read(folder)
    if made["schema"] == SWEEP:
        raise ConfigError(
            f"{folder} holds a sweep, not a run: give the folders in {folder / 'runs'}"
        )
    return made


def settings_of(
    tables: Mapping[str, Any], where: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield each setting of a configuration by the name that ``--set`` knows it by."""
    for name, value in tables.items():
        if isinstance(value, Mapping):
            inside = "" if where + name == "simulation" else f"{where}{name}."
            yield from settings_of(value, inside)
        else:
            yield where + name, value
