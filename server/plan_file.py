"""PLAN.toml: what an operator asks for; read strictly, into the settings of a run."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from server.operator import Operator
from server.settings import Settings, read_settings
from server.sites import admitted
from server.start import start_of
from shared.config import read
from shared.encoder import base_digest
from shared.errors import ConfigError
from shared.popularity import SharedItems
from shared.protocol import SHARED

TABLES = ("federation", "spec", "mechanism", "recipe")
OURS = {  # what a plan may not say: it follows from the operator's folder
    "federation": ("run", "out", "start", "sites", "resume", "key"),
    "spec": ("base",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """What a plan says.

    Attributes:
        run: Name of the run.
        sites: Admitted sites that take part.
        start: Release to start from, such as ``spring/3``; empty for an untrained one.
        tables: The tables of ``TABLES``, as run config has them.
        catalogue: The one catalogue of all sites, if they share its popularity.
    """

    run: str
    sites: tuple[str, ...]
    start: str = ""
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    catalogue: SharedItems | None = None


def read_plan(path: Path) -> PlanFile:
    """Read a plan; ``settings_for`` checks its values.

    Raises:
        ConfigError: If it is missing, not TOML, or has keys of another kind.
    """
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    tables = {name: said.pop(name, {}) for name in TABLES}
    catalogue, unfit = _catalogue(said.pop("catalogue", None))
    faults = unfit + [
        f"[{table}] {key} is not for a plan to say"
        for table, keys in OURS.items()
        for key in keys
        if key in tables[table]
    ]
    faults += [
        f"unknown key {key!r}" for key in said.keys() - {"run", "sites", "start"}
    ]
    faults += [f"missing key {key!r}" for key in ("run", "sites") if key not in said]
    sites = said.get("sites", [])
    if not (isinstance(sites, list) and all(isinstance(name, str) for name in sites)):
        faults.append(f"sites={sites!r} is not a list of names")
    if faults:
        raise ConfigError("\n  ".join([f"{path}: {len(faults)} fault(s)", *faults]))
    return PlanFile(
        run=str(said["run"]),
        sites=tuple(sites),
        start=str(said.get("start", "")),
        tables=tables,
        catalogue=catalogue,
    )


def _catalogue(table: object) -> tuple[SharedItems | None, list[str]]:
    """Return the table ``[catalogue]``, if there is one, and what is wrong with it."""
    if table is None:
        return None, []
    if not isinstance(table, dict):
        return None, [f"catalogue={table!r} is not a table: write [catalogue]"]
    try:
        return read(SharedItems, table, "[catalogue]"), []
    except ConfigError as error:
        return None, [str(error)]


def settings_for(operator: Operator, plan: PlanFile, *, resume: bool) -> Settings:
    """Return the settings of a run; writes the adapter it starts from, if need be.

    Raises:
        ConfigError: With every impossible value, and every site that is not admitted.
    """
    known = {identity.site for identity in admitted(operator)}
    strangers = sorted(set(plan.sites) - known)
    if strangers:
        raise ConfigError(
            f"sites {', '.join(strangers)} are not admitted; tacit server invite and "
            "tacit server admit come first"
        )
    flat = {
        f"{table}.{key}": value
        for table, keys in plan.tables.items()
        for key, value in keys.items()
    }
    flat |= {
        "federation.run": plan.run,
        "federation.out": str(operator.runs.resolve() / plan.run),
        "federation.start": "/",
        "federation.sites": ",".join(plan.sites),
        "federation.key": str(operator.key.resolve()),
        "federation.resume": resume,
        "spec.base": base_digest(operator.settings.base),
    }
    asked = read_settings(flat)  # every fault at once, before anything is written
    _require_catalogue(plan, asked.recipe.prior)
    start = start_of(operator, plan.start, asked.spec, plan.catalogue)
    return replace(asked, federation=replace(asked.federation, start=str(start)))


def _require_catalogue(plan: PlanFile, prior: str) -> None:
    """Raise unless a plan names a catalogue exactly where its prior is shared."""
    if prior == SHARED and plan.catalogue is None:
        raise ConfigError(
            "[recipe] prior='shared' needs the table [catalogue] with digest and "
            "items, equal at all sites: tacit site data check prints them as "
            "'catalogue' and 'items'"
        )
    if prior != SHARED and plan.catalogue is not None:
        raise ConfigError(
            f"[catalogue] is for a popularity that sites share, but [recipe] prior="
            f"{prior!r}: give 'shared', or leave the table out"
        )
