"""What a run is asked to do, read strictly from Flower's flat run config."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from server.aggregate import fewest_for_krum, rule_faults
from shared.config import Scalar, key_of, read
from shared.errors import ConfigError
from shared.protocol import FLOAT32, WIRES, AdapterSpec, Mechanism, Recipe

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """Who takes part, for how long, and how updates become one adapter.

    Attributes:
        run: Name of the run.
        out: Absolute folder for versions and events.
        start: Absolute PEFT folder of the adapter that round 1 starts from.
        sites: Names of the sites, separated by commas.
        rounds: Number of the last round.
        quorum: Fewest sites that must answer; 0 means more than half.
        deadline_s: Longest wait for the sites of one round.
        rule: One of ``server.aggregate.RULES``.
        server_learning_rate: Step of fedadam and fedavgm; 0 is the rule's own.
        trim: Share that fedtrimmedavg drops at each end.
        malicious: Dishonest sites that krum withstands.
        max_norm: Longest joint L2 norm of an update that counts.
        wire: What updates travel as: float32, float16 or int8; see docs/privacy.md.
        resume: Go on after the newest version in ``out``.
        key: Absolute path of the operator's key; empty to sign no version.
    """

    run: str
    out: str
    start: str
    sites: str
    rounds: int = 10
    quorum: int = 0
    deadline_s: float = 600.0
    rule: str = "fedavg"
    server_learning_rate: float = 0.0
    trim: float = 0.2
    malicious: int = 0
    max_norm: float = 100.0
    wire: str = FLOAT32
    resume: bool = False
    key: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The sites, in the agreed order."""
        return tuple(name.strip() for name in self.sites.split(","))

    @property
    def needed(self) -> int:
        """The fewest sites that must answer."""
        return self.quorum or len(self.names) // 2 + 1

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = rule_faults(
            self.rule,
            learning_rate=self.server_learning_rate,
            trim=self.trim,
            malicious=self.malicious,
        )
        if self.wire not in WIRES:
            faults.append(f"wire={self.wire!r} is not one of {', '.join(WIRES)}")
        return faults + self._name_faults() + self._number_faults()

    def _name_faults(self) -> list[str]:
        faults = [
            f"{key}={name!r} is not 1 to 64 letters, digits, '.', '_' or '-'"
            for key, name in [("run", self.run), *(("sites", n) for n in self.names)]
            if not _NAME.fullmatch(name)
        ]
        if len(set(self.names)) < len(self.names):
            faults.append(f"sites={self.sites!r} names a site twice")
        faults += [
            f"{key}={path!r} is not an absolute path"
            for key, path in (
                ("out", self.out),
                ("start", self.start),
                ("key", self.key or "/"),
            )
            if not Path(path).is_absolute()
        ]
        return faults

    def _number_faults(self) -> list[str]:
        krum = self.rule in {"krum", "multikrum"}
        least = fewest_for_krum(self.malicious) if krum else 1
        faults = []
        if self.rounds < 1:
            faults.append(f"rounds={self.rounds} is below 1")
        if not least <= self.needed <= len(self.names):
            faults.append(
                f"quorum={self.needed} is not in {least}..{len(self.names)}"
                f" ({len(self.names)} sites, {self.rule})"
            )
        faults += [
            f"{key}={value} is not in (0, 1e9)"
            for key, value in (
                ("deadline-s", self.deadline_s),
                ("max-norm", self.max_norm),
            )
            if not 0 < value < 1e9
        ]
        return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole run config: one dataclass for each dotted prefix."""

    federation: Federation
    spec: AdapterSpec
    mechanism: Mechanism
    recipe: Recipe

    def flat(self) -> dict[str, Scalar]:
        """Return the settings as Flower's flat run config."""
        return {
            f"{group}.{key_of(field.name)}": getattr(getattr(self, group), field.name)
            for group, kind in GROUPS.items()
            for field in fields(kind)
        }


GROUPS: Mapping[str, type] = {
    "federation": Federation,
    "spec": AdapterSpec,
    "mechanism": Mechanism,
    "recipe": Recipe,
}


def read_settings(flat: Mapping[str, object]) -> Settings:
    """Build the settings, or report the faults of all groups at once.

    Raises:
        ConfigError: With every unknown, missing, mistyped or impossible value.
    """
    faults = [
        f"unknown key {key!r}; known prefixes: {', '.join(GROUPS)}"
        for key in sorted(flat)
        if key.partition(".")[0] not in GROUPS
    ]
    if flat.get("spec.base") == "":
        faults.append("spec.base is empty; it is the digest of the encoder")
    groups: dict[str, Any] = {}
    for name, kind in GROUPS.items():
        prefix = f"{name}."
        mine = {
            k.removeprefix(prefix): v for k, v in flat.items() if k.startswith(prefix)
        }
        try:
            groups[name] = read(kind, mine, name)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    return Settings(**groups)


def defaults() -> dict[str, Scalar]:
    """Return every run-config key with its default; empty text where there is none."""
    return {
        f"{name}.{key_of(field.name)}": ""
        if field.default is MISSING
        else field.default
        for name, kind in GROUPS.items()
        for field in fields(kind)
    }
