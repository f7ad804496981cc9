"""``serving.toml``: how a site serves; the file may be missing, and every key too."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.config import read
from shared.errors import ConfigError

FILE = "serving.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A business rule: raise, lower or bound what has a value of an attribute.

    Attributes:
        attribute: Of the catalogue.
        value: Of the attribute; empty, for a cap alone, for each value by itself.
        add: Added to the score; below 0 it buries.
        most: Largest number of such items in one list; 0 sets no cap.
    """

    attribute: str
    value: str = ""
    add: float = 0.0
    most: int = 0

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        checks = [
            (bool(self.attribute), "attribute is empty"),
            (-1e3 <= self.add <= 1e3, f"add={self.add} is not in -1000..1000"),
            (0 <= self.most <= 1000, f"most={self.most} is not in 0..1000"),
            (bool(self.add) != bool(self.most), "give 'add' or 'most', one of them"),
            (bool(self.value or self.most), "'add' needs a 'value'"),
        ]
        return [fault for holds, fault in checks if not holds]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSettings:
    """How a site serves.

    Attributes:
        explore: Share of places in a list that new items get at least on average.
        adapt: Whether lists are interleaved to learn which alpha and share serve best.
        provider: Attribute that names who offers an item; for fairness figures.
        groups: User attributes by which figures are told apart.
        requests_per_minute: Of each key; more are told to wait.
        most_waiting: Requests that may wait; more are turned away.
        timeout_s: Longest time for a request.
        largest_body_kib: Longest body of a request.
        keep_days: How long lists that were shown are kept, for reports and learning.
        rules: Business rules.
    """

    explore: float = 0.05
    adapt: bool = True
    provider: str = ""
    groups: tuple[str, ...] = ()
    requests_per_minute: int = 60_000
    most_waiting: int = 64
    timeout_s: float = 5.0
    largest_body_kib: int = 256
    keep_days: int = 180
    rules: tuple[Rule, ...] = ()

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        ranges = [
            ("explore", self.explore, 0.0, 0.5),
            ("requests-per-minute", self.requests_per_minute, 1, 10_000_000),
            ("most-waiting", self.most_waiting, 1, 10_000),
            ("timeout-s", self.timeout_s, 0.1, 60.0),
            ("largest-body-kib", self.largest_body_kib, 1, 65_536),
            ("keep-days", self.keep_days, 1, 3650),
        ]
        return [
            f"{name}={value} is not in {low:g}..{high:g}"
            for name, value, low, high in ranges
            if not low <= value <= high
        ]


def read_settings(folder: Path) -> ServingSettings:
    """Read ``serving.toml`` of the site in ``folder``, or return the defaults.

    Raises:
        ConfigError: If it holds anything unknown or out of range; all faults at once.
    """
    path = folder / FILE
    try:
        flat: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return ServingSettings()
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    tables = flat.pop("rules", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise ConfigError(f"{path}: write each rule as a table [[rules]]")
    rules = [read(Rule, t, f"{path} rule {n}") for n, t in enumerate(tables, 1)]
    return read(ServingSettings, {**flat, "rules": tuple(rules)}, str(path))
