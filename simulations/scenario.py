"""What one simulation is asked: defaults, then a TOML file, then the command line."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.config import read
from shared.errors import ConfigError
from shared.protocol import AdapterSpec, Mechanism, Recipe

if TYPE_CHECKING:
    from server.settings import Federation

NOT_PRIVATE = (  # arms that promise nothing, whatever the budget
    *("popularity", "item-knn", "ease", "als", "bpr"),
    *("central-no-dp", "local-no-dp", "federated-no-dp"),
)
ARMS = (
    *("popularity", "dp-popularity", "item-knn", "ease", "als", "bpr"),
    *("text", "text-dp-popularity", "cf"),
    *("central-no-dp", "local-no-dp", "local", "federated-no-dp", "federated"),
)
DEFAULT_ARMS = ("popularity", "text-dp-popularity", "local", "federated")
SPLITS = ("leave-two-out", "leave-one-out")
POSITIVES = ("likes", "all")
ATTACKS = ("random", "sign-flip", "promotion")
PRECISIONS = ("auto", "float32", "bfloat16")
PARTITIONS = ("iid", "size", "taste", "domain")
ENGINES = ("inprocess", "ray")
_FOR_NO_DP = {"simulation", "mechanism", "recipe", "federation"}
_OTHER_TABLES = ("simulation", "budgets", "attack", "no-dp")
TABLES: Mapping[str, frozenset[str]] = {
    # what a scenario may set of each; the rest follows from the scenario itself
    "spec": frozenset(AdapterSpec.__dataclass_fields__) - {"base"},
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
class Attack:
    """The table ``[attack]``: what some sites do instead of what they are asked.

    Attributes:
        kind: ``random``, ``sign-flip`` or ``promotion`` (of one item).
        sites: How many sites attack, the last ones; 0 is a peaceful world.
        strength: Factor on what an attacking site sends.
    """

    kind: str = "sign-flip"
    sites: int = 0
    strength: float = 1.0

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = []
        if self.kind not in ATTACKS:
            faults.append(f"kind={self.kind!r} is not one of {', '.join(ATTACKS)}")
        if self.sites < 0:
            faults.append(f"sites={self.sites} must not be below 0")
        if not 0 < self.strength < float("inf"):
            faults.append(f"strength={self.strength} must be finite and above 0")
        return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The table ``[simulation]``.

    Attributes:
        data: Folder of a data set; empty for the generated population.
        sites: Number of sites.
        users: Number of generated users, all sites together.
        items: Number of generated items.
        split: ``leave-two-out``, or ``leave-one-out``, which trains on the validation
            event as well.
        positives: ``likes``, or ``all``: every event counts as a like.
        negatives: Also rank among so many random items that the user never met; 0 for
            the full ranking alone.
        cold_items: Share of the items whose events no site may train on.
        unseen_sites: So many sites, the last ones, never train: they are served with
            what the others trained.
        curves: Whether every round's version is measured on validation events.
        rounds: Rounds of every trained arm.
        epsilon: Budget of each site, for all its rounds and its popularity release.
        delta: Target delta of each site.
        prior_share: Part of the budget for the popularity release, as a share of mu**2
            (Gaussian DP), which adds up over releases.
        head_share: The same for the co-occurrence release, where the recipe asks for
            one.
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
    items: int = 1320
    split: str = "leave-two-out"
    positives: str = "likes"
    negatives: int = 0
    cold_items: float = 0.0
    unseen_sites: int = 0
    curves: bool = True
    rounds: int = 5
    epsilon: float = 8.0
    delta: float = 1e-5
    prior_share: float = 0.4
    head_share: float = 0.3
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
                ("split", self.split, SPLITS),
                ("positives", self.positives, POSITIVES),
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
        faults += [
            f"{name}={share} is not in (0, 1)"
            for name, share in (
                ("prior-share", self.prior_share),
                ("head-share", self.head_share),
                ("prior-share + head-share", self.prior_share + self.head_share),
            )
            if not 0 < share < 1
        ]
        if not 0 < self.delta < 1:
            faults.append(f"delta={self.delta} is not in (0, 1)")
        if not 0 <= self.cold_items < 1:
            faults.append(f"cold-items={self.cold_items} is not in [0, 1)")
        if not 0 <= self.unseen_sites < max(1, self.sites):
            faults.append(
                f"unseen-sites={self.unseen_sites} must leave one of {self.sites} "
                "sites that trains"
            )
        faults += [
            f"{name}={value} must not be below 0"
            for name, value in (
                ("seed", self.seed),
                ("workers", self.workers),
                ("negatives", self.negatives),
            )
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
        attack: What hostile sites do.
        no_dp: The same tables again, for arms without privacy: what learns best under
            noise is not what learns best without.
        name: Of its file; ``generated`` without one.
    """

    simulation: Simulation
    overrides: Mapping[str, Mapping[str, Any]]
    budgets: Mapping[str, float]
    attack: Attack = Attack()
    no_dp: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = "generated"

    def of(self, arm: str) -> "Scenario":
        """Return the scenario as an arm runs it, with ``no_dp`` merged where due."""
        own = self.simulation
        if not self.no_dp or not (own.no_dp or arm in NOT_PRIVATE):
            return self
        rounds = self.no_dp.get("simulation", {}).get("rounds", own.rounds)
        merged = {
            name: {**keys, **self.no_dp.get(name, {})}
            for name, keys in self.overrides.items()
        }
        asked = replace(own, rounds=rounds)
        return replace(self, simulation=asked, overrides=merged, no_dp={})

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
            **({"attack": asdict(self.attack)} if self.attack.sites else {}),
            **({"no-dp": dict(self.no_dp)} if self.no_dp else {}),
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
            ``[recipe]``, ``[federation]``, ``[budgets]`` and ``[attack]``, and for arms
            without privacy ``[no-dp.mechanism]`` and so on; or None.
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
        _inner(tables, table)[key] = value
    no_dp = tables.get("no-dp", {})
    faults = [
        f"unknown table [{name}]"
        for name in sorted(tables.keys() - {*TABLES, *_OTHER_TABLES})
    ]
    faults += [
        *_unknown("", tables, TABLES),
        *_unknown("no-dp.", no_dp, {**TABLES, "spec": {}, "simulation": {"rounds"}}),
        *(f"unknown table [no-dp.{n}]" for n in sorted(no_dp.keys() - _FOR_NO_DP)),
    ]
    if faults:
        raise ConfigError("\n  ".join(["scenario:", *faults]))
    simulation = read(Simulation, own, "[simulation]")
    scenario = Scenario(
        simulation=simulation,
        overrides={name: tables.get(name, {}) for name in TABLES},
        budgets=_budgets(tables.get("budgets", {}), simulation.sites),
        attack=_attack(tables.get("attack", {}), simulation.sites),
        no_dp=no_dp,
        name=file.stem if file else "generated",
    )
    for arm in ("federated", "federated-no-dp"):
        sent = scenario.of(arm)
        _ = sent.spec("0" * 64), sent.recipe(), sent.mechanism(sigma=1.0)
    return scenario


def _inner(tables: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the table with a dotted name, which is made if need be."""
    table: dict[str, Any] = tables
    for part in name.split("."):
        table = table.setdefault(part, {})
    return table


def _unknown(
    where: str, tables: Mapping[str, Any], known: Mapping[str, Collection[str]]
) -> list[str]:
    """Return one sentence for each key that a table may not have."""
    return [
        f"unknown key {where}{name}.{key}"
        for name, keys in known.items()
        for key in sorted(
            tables.get(name, {}).keys() - {key.replace("_", "-") for key in keys}
        )
    ]


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
        parsed = _number_or_word(value)
    return table or "simulation", key, parsed


def _number_or_word(value: str) -> float | str:
    """Return ``.5`` as people write it, which TOML does not read; else the word."""
    try:
        return float(value)
    except ValueError:
        return value


def _attack(given: Mapping[str, object], sites: int) -> Attack:
    attack = read(Attack, dict(given), "[attack]")
    if attack.sites >= sites:
        raise ConfigError(
            f"attack.sites={attack.sites} leaves no honest site of {sites}"
        )
    return attack


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
