"""PLAN.toml: what an operator asks for; read strictly, into the settings of a run."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from server.operator import Operator
from server.settings import Settings, read_settings
from server.sites import admitted
from shared.config import key_of
from shared.encoder import base_digest
from shared.errors import ConfigError
from shared.protocol import AdapterSpec
from shared.start import write_start

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
    """

    run: str
    sites: tuple[str, ...]
    start: str = ""
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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
    faults = [
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
    )


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
    spec = read_settings(flat).spec  # every fault at once, before anything is written
    flat["federation.start"] = str(_start(operator, plan, spec))
    return read_settings(flat)


def _start(operator: Operator, plan: PlanFile, spec: AdapterSpec) -> Path:
    """Return the PEFT folder that round 1 starts from."""
    if plan.start:
        from server.releases import find  # noqa: PLC0415

        return find(operator.folder, plan.start).folder.resolve()
    line = json.dumps(
        {key_of(key): value for key, value in asdict(spec).items()}, sort_keys=True
    )
    folder = operator.starts / hashlib.sha256(line.encode()).hexdigest()[:16]
    folder.parent.mkdir(exist_ok=True)
    write_start(folder, operator.settings.base, spec)
    return folder.resolve()
