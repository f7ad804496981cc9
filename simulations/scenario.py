"""What one simulation is asked: defaults, then a TOML file, then the command line."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.config import read
from shared.errors import ConfigError
from shared.protocol import AdapterSpec, Mechanism, Recipe

if TYPE_CHECKING:
    from server.settings import Federation

ARMS = ("popularity", "text", "local", "federated", "federated-no-dp")
DEFAULT_ARMS = ("popularity", "text", "local", "federated")
PRECISIONS = ("auto", "float32", "bfloat16")
PARTITIONS = ("iid", "size", "taste", "domain")
ENGINES = ("inprocess", "ray")
TABLES: Mapping[str, frozenset[str]] = {
    # what a scenario may set of each; the rest follows from the scenario itself
    "spec": frozenset({"modules", "rank", "scale", "seed", "max-tokens"}),
    "mechanism": frozenset({"q", "clip", "steps", "metric-sigma"}),
    "recipe": frozenset(Recipe.__dataclass_fields__) - {"seed"},
    "federation": frozenset(
        {
            "quorum",
            "deadline-s",
            "rule",
            "server-learning-rate",
            "trim",
            "malicious",
            "max-norm",
            "wire",
        }
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The table ``[simulation]``.

    Attributes:
        data: Folder of a data set; empty for the generated population.
        sites: Number of sites.
        users: Number of generated users, all sites together.
        rounds: Rounds of every trained arm.
        epsilon: Budget of each site, for all its rounds and its popularity release.
        delta: Target delta of each site.
        prior_share: Part of the budget for the popularity release, as a share of mu**2
            (Gaussian DP), which adds up over releases.
        partition: How users come to sites: iid, size, taste or domain.
        attribute: Catalogue attribute that taste and domain go by; empty: found.
        engine: ``inprocess`` or ``ray``.
        arms: What to compare.
        seed: Of population, partition, data order, first factors and bootstrap.
        no_dp: Train every arm without clip and noise: NOT PRIVATE.
        insecure_test_noise: Repeatable noise from the seed: no privacy claim.
        base: Encoder.
        precision: Of frozen products in training: ``auto``, ``float32``, ``bfloat16``.
        workers: Processes that train and evaluate; 1 is this process alone, 0 as many
            as pay.
    """

    data: str = ""
    sites: int = 3
    users: int = 900
    rounds: int = 5
    epsilon: float = 8.0
    delta: float = 1e-5
    prior_share: float = 0.4
    partition: str = "iid"
    attribute: str = ""
    engine: str = "inprocess"
    arms: tuple[str, ...] = DEFAULT_ARMS
    seed: int = 0
    no_dp: bool = False
    insecure_test_noise: bool = False
    base: str = "minilm"
    precision: str = "auto"
    workers: int = 0

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = [
            f"{name}={value!r} is not one of {', '.join(known)}"
            for name, value, known in (
                ("partition", self.partition, PARTITIONS),
                ("engine", self.engine, ENGINES),
                ("precision", self.precision, PRECISIONS),
                *(("arms", arm, ARMS) for arm in self.arms),
            )
            if value not in known
        ]
        faults += [
            f"{name}={value} must be at least 1"
            for name, value in (
                ("sites", self.sites),
                ("rounds", self.rounds),
                ("users", self.users),
            )
            if value < 1
        ]
        if not 0 < self.epsilon < float("inf"):
            faults.append(
                f"epsilon={self.epsilon} must be finite and above 0; see --no-dp"
            )
        if not 0 < self.prior_share < 1:
            faults.append(f"prior-share={self.prior_share} is not in (0, 1)")
        if not 0 < self.delta < 1:
            faults.append(f"delta={self.delta} is not in (0, 1)")
        faults += [
            f"{name}={value} must not be below 0"
            for name, value in (("seed", self.seed), ("workers", self.workers))
            if value < 0
        ]
        return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario: the table above, overrides of what is sent, single budgets.

    Attributes:
        simulation: What to run.
        overrides: Table name -> keys that differ from the defaults.
        budgets: Site name -> its own epsilon.
    """

    simulation: Simulation
    overrides: Mapping[str, Mapping[str, Any]]
    budgets: Mapping[str, float]

    def tables(self) -> dict[str, Any]:
        """Return the scenario as it would stand in a file: all that makes the result.

        How many workers there are is not of it: a run may go on with others.
        """
        own = {
            name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
            for name in Simulation.__dataclass_fields__
            for value in [getattr(self.simulation, name)]
            if name != "workers"
        }
        return {
            "simulation": own,
            **{name: dict(keys) for name, keys in self.overrides.items() if keys},
            **({"budgets": dict(self.budgets)} if self.budgets else {}),
        }

    def spec(self, base: str) -> AdapterSpec:
        """Return the adapter's spec on the encoder with digest ``base``."""
        return read(AdapterSpec, {"base": base, **self.overrides["spec"]}, "[spec]")

    def recipe(self) -> Recipe:
        """Return how a step learns."""
        return read(
            Recipe,
            {"seed": self.simulation.seed, **self.overrides["recipe"]},
            "[recipe]",
        )

    def mechanism(self, **noise: float) -> Mechanism:
        """Return the mechanism; ``noise`` gives sigma, and prior-sigma if zero."""
        noisy = {key.replace("_", "-"): value for key, value in noise.items()}
        return read(Mechanism, {**self.overrides["mechanism"], **noisy}, "[mechanism]")

    def federation(self, **rest: object) -> "Federation":
        """Return what the server is asked; ``rest`` follows from the arm."""
        from server.settings import Federation  # noqa: PLC0415  # Flower, only when used

        own = {key.replace("_", "-"): value for key, value in rest.items()}
        return read(Federation, {**self.overrides["federation"], **own}, "[federation]")


def read_scenario(
    file: Path | None, options: Mapping[str, object], sets: Sequence[str]
) -> Scenario:
    """Merge a file, the command line's options and its ``--set key=value``.

    Args:
        file: A TOML file with tables ``[simulation]``, ``[spec]``, ``[mechanism]``,
            ``[recipe]``, ``[federation]`` and ``[budgets]``, or None.
        options: Keys of ``[simulation]`` in kebab-case; None where not given.
        sets: Such as ``recipe.rank=64`` or ``epsilon=2``, read as TOML values.

    Raises:
        ConfigError: With every unknown key and wrong value at once.
    """
    tables = _file_tables(file)
    own = tables.setdefault("simulation", {})
    own.update({key: value for key, value in options.items() if value is not None})
    for text in sets:
        table, key, value = _assignment(text)
        tables.setdefault(table, {})[key] = value
    faults = [
        f"unknown table [{name}]"
        for name in sorted(tables.keys() - {*TABLES, "simulation", "budgets"})
    ]
    for name, known in TABLES.items():
        named = {key.replace("_", "-") for key in known}
        faults += [
            f"unknown key {name}.{key}"
            for key in sorted(tables.get(name, {}).keys() - named)
        ]
    if faults:
        raise ConfigError("\n  ".join(["scenario:", *faults]))
    simulation = read(Simulation, own, "[simulation]")
    scenario = Scenario(
        simulation=simulation,
        overrides={name: tables.get(name, {}) for name in TABLES},
        budgets=_budgets(tables.get("budgets", {}), simulation.sites),
    )
    _ = scenario.spec("0" * 64), scenario.recipe(), scenario.mechanism(sigma=1.0)
    return scenario


def site_names(count: int) -> tuple[str, ...]:
    """Return ``site-1`` to ``site-N``, padded so that they sort in order."""
    width = len(str(count))
    return tuple(f"site-{number:0{width}}" for number in range(1, count + 1))


def _file_tables(file: Path | None) -> dict[str, dict[str, Any]]:
    """Return what a file says; every key at its top must be a table."""
    if file is None:
        return {}
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"scenario {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"scenario {file} is not TOML: {error}") from None
    loose = [key for key, value in tables.items() if not isinstance(value, dict)]
    if loose:
        raise ConfigError(f"scenario {file}: {', '.join(loose)} outside any [table]")
    return tables


def _assignment(text: str) -> tuple[str, str, object]:
    """Split ``table.key=value``; without a table the key is one of ``[simulation]``."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: write key=value, e.g. recipe.factors=16")
    table, _, key = name.strip().rpartition(".")
    try:
        parsed: object = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value
    return table or "simulation", key, parsed


def _budgets(given: Mapping[str, object], sites: int) -> dict[str, float]:
    known, budgets = site_names(sites), {}
    for name, value in given.items():
        if (
            name not in known
            or type(value) not in {int, float}
            or float(str(value)) <= 0
        ):
            raise ConfigError(
                f"budgets.{name}={value!r}: the name must be one of {known[0]}.."
                f"{known[-1]}, the value an epsilon above 0"
            )
        budgets[name] = float(str(value))
    return budgets
