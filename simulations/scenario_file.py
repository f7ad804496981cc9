"""How a scenario is read: ``defaults.toml``, then a TOML file, then the command line.

A key that somebody says is for every arm; only what nobody says has two defaults, one
for arms with privacy and one for arms without.
"""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.config import read
from shared.errors import ConfigError
from shared.protocol import OWN, STEPS, AdapterSpec, Recipe
from simulations.scenario import (
    BASELINES,
    NOT_PRIVATE,
    Attack,
    Scenario,
    Simulation,
    site_names,
)

Tables = dict[str, dict[str, Any]]

DEFAULTS = Path(__file__).parent / "defaults.toml"
LARGEST_ADAM_STEP = 0.2  # it moves every value by so much, in each step
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


def read_scenario(
    file: Path | None, options: Mapping[str, object], sets: Sequence[str]
) -> Scenario:
    """Merge defaults, a file, the command line's options and its ``--set key=value``.

    Args:
        file: A TOML file with tables ``[simulation]``, ``[spec]``, ``[mechanism]``,
            ``[recipe]``, ``[federation]``, ``[budgets]`` and ``[attack]``, and for arms
            without privacy ``[no-dp.mechanism]`` and so on; or None.
        options: Keys of ``[simulation]`` in kebab-case; None where not given.
        sets: Such as ``recipe.rank=64`` or ``epsilon=2``, read as TOML values.

    Raises:
        ConfigError: With every unknown key and wrong value at once.
    """
    said = _file_tables(file) if file else {}
    own = said.setdefault("simulation", {})
    own.update({key: value for key, value in options.items() if value is not None})
    for text in sets:
        table, key, value = _assignment(text)
        _inner(said, table)[key] = value
    _require_known(said)
    tables = completed(said)
    simulation = read(Simulation, tables["simulation"], "[simulation]")
    scenario = Scenario(
        simulation=simulation,
        overrides={name: tables[name] for name in TABLES},
        budgets=_budgets(tables.get("budgets", {}), simulation.sites),
        attack=_attack(tables.get("attack", {}), simulation.sites),
        no_dp=tables["no-dp"],
        name=file.stem if file else "generated",
    )
    trained = [arm for arm in simulation.arms if arm not in (*BASELINES, "text")]
    for arm in trained or ["federated"]:
        _require_fit(scenario, arm)
    return scenario


def completed(said: Tables) -> Tables:
    """Return what is said, and the defaults of what nobody said.

    Guarantee: a key that is said is for every arm, unless ``[no-dp.*]`` says another
    value of it; only a key that nobody says has two defaults.
    """
    known = _file_tables(DEFAULTS)
    if said.get("simulation", {}).get("partition") == "domain":
        known["recipe"]["prior"] = OWN  # no two sites have the same items to share one
    bare, own = known.pop("no-dp"), said.get("no-dp", {})
    merged = {name: {**keys, **said.get(name, {})} for name, keys in known.items()}
    no_dp = {
        name: {
            key: value
            for key, value in {**keys, **own.get(name, {})}.items()
            if key in own.get(name, {}) or key not in said.get(name, {})
        }
        for name, keys in bare.items()
    }
    return {**said, **merged, "no-dp": {name: k for name, k in no_dp.items() if k}}


def _inner(tables: Tables, name: str) -> dict[str, Any]:
    """Return the table with a dotted name, which is made if need be."""
    table: dict[str, Any] = tables
    for part in name.split("."):
        table = table.setdefault(part, {})
    return table


def _require_fit(scenario: Scenario, arm: str) -> None:
    """Return if what an arm trains by can be read, and fits together."""
    bare = scenario.simulation.no_dp or arm in NOT_PRIVATE
    who, sent = f"arms {'without' if bare else 'with'} privacy", scenario.of(arm)
    said, rule = sent.overrides["recipe"], sent.overrides["federation"]["rule"]
    if said["head"] == STEPS and said["optimizer"] == "sgd":
        raise ConfigError(
            f"{who}: recipe.head='steps' needs recipe.optimizer=adam, with "
            "federation.rule=fedavg and recipe.learning-rate=0.02 or so"
        )
    _ = sent.spec("0" * 64), sent.mechanism(sigma=1.0)
    recipe, faults = sent.recipe(), []
    if recipe.optimizer == "adam" and rule == "spectral":
        faults.append(
            "federation.rule='spectral' takes out white noise, and recipe.optimizer="
            "'adam' leaves other noise: give federation.rule=fedavg"
        )
    if recipe.optimizer == "adam" and recipe.learning_rate > LARGEST_ADAM_STEP:
        faults.append(
            f"recipe.learning-rate={recipe.learning_rate} is a step of 'sgd'; 'adam' "
            f"moves every value by it: give 0.02 or so, at most {LARGEST_ADAM_STEP}"
        )
    if faults:
        raise ConfigError("\n  ".join([f"{who}:", *faults]))


def _require_known(said: Tables) -> None:
    """Return if every table and key that is said is one of a scenario."""
    no_dp = said.get("no-dp", {})
    faults = [
        f"unknown table [{name}]"
        for name in sorted(said.keys() - {*TABLES, *_OTHER_TABLES})
    ]
    faults += [
        *_unknown("", said, TABLES),
        *_unknown("no-dp.", no_dp, {**TABLES, "spec": {}, "simulation": {"rounds"}}),
        *(f"unknown table [no-dp.{n}]" for n in sorted(no_dp.keys() - _FOR_NO_DP)),
    ]
    if faults:
        raise ConfigError("\n  ".join(["scenario:", *faults]))


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


def _file_tables(file: Path) -> Tables:
    """Return what a file says; every key at its top must be a table."""
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
