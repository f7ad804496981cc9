"""What a sweep runs: one run for each point of a grid and each seed.

An arm that spends no budget comes out the same whatever the budget, so where budgets
are swept it runs once for each of the other settings.
"""

import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.errors import ConfigError
from simulations.scenario import NOT_PRIVATE

Value = bool | int | float | str | list[object]
Keys = Mapping[str, Value]

BUDGET = ("epsilon", "delta", "prior-share")  # keys that only budgets depend on
WITHOUT_BUDGET = (*NOT_PRIVATE, "text")  # arms that spend none
_SIMULATION = "simulation."


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: Of its folder.
        keys: What is swept, at this point.
        seed: Of the run.
        arms: What it compares.
    """

    name: str
    keys: Keys
    seed: int
    arms: tuple[str, ...]

    def sets(self) -> list[str]:
        """Return the point as ``--set`` has it."""
        told = {**self.keys, "seed": self.seed, "arms": list(self.arms)}
        return [f"{key}={json.dumps(value)}" for key, value in told.items()]


def read_sweeps(given: Sequence[str]) -> dict[str, list[Value]]:
    """Read ``key=value,value``: each key, and the values that it takes.

    Raises:
        ConfigError: With everything that cannot be swept.
    """
    swept: dict[str, list[Value]] = {}
    faults = []
    for text in given:
        key, equals, values = text.partition("=")
        key = key.strip().removeprefix(_SIMULATION)
        if not equals or not key or not values.strip():
            faults.append(f"--sweep {text}: write key=value,value")
        elif key in {"seed", "workers", "arms"} or key in swept:
            faults.append(f"--sweep {text}: {_why_not(key)}")
        else:
            swept[key] = _values(values)
    if faults:
        raise ConfigError("\n  ".join(["sweep:", *faults]))
    return swept


def _why_not(key: str) -> str:
    remedies = {
        "seed": "seeds are swept by --seeds N",
        "workers": "it changes no result",
        "arms": "all arms of a run are compared: give --arms",
    }
    return remedies.get(key, f"{key} is swept already: give all its values at once")


def _values(text: str) -> list[Value]:
    """Return what stands between the commas, as TOML or as bare words, each once."""
    try:
        found = tomllib.loads(f"v = [{text}]")["v"]
    except tomllib.TOMLDecodeError:
        found = [_value(word.strip()) for word in text.split(",")]
    return [value for n, value in enumerate(found) if value not in found[:n]]


def _value(word: str) -> Value:
    """Return a number, also one that begins with its point, or else the word."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(word, word)


def points(
    scenario: str,
    swept: Mapping[str, Sequence[Value]],
    seeds: Sequence[int],
    arms: Sequence[str],
) -> list[Point]:
    """Return all runs of a sweep, seed after seed.

    Guarantee: every arm meets every seed and every combination of the values of the
    keys that it depends on, exactly once.

    Args:
        scenario: Its name; folders are called by it.
        swept: Key -> the values that it takes.
        seeds: Of the runs.
        arms: What is compared.
    """
    budget = {key for key, values in swept.items() if _is_budget(key, len(values))}
    steady = tuple(arm for arm in arms if budget and arm in WITHOUT_BUDGET)
    rest = tuple(arm for arm in arms if arm not in steady)
    plans = [(steady, {k: v for k, v in swept.items() if k not in budget})]
    plans.append((rest, dict(swept)))
    return [
        Point(_name(scenario, keys, seed, bare=own is steady), keys, seed, own)
        for seed in seeds
        for own, ranges in plans
        if own
        for keys in _combinations(ranges)
    ]


def _is_budget(key: str, values: int) -> bool:
    return values > 1 and (key in BUDGET or key.startswith("budgets."))


def _combinations(swept: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    return [
        dict(zip(swept, values, strict=True))
        for values in itertools.product(*swept.values())
    ]


def _name(scenario: str, keys: Keys, seed: int, *, bare: bool) -> str:
    """Return the name of a run's folder: letters, digits and ``._=-`` alone."""
    told = [f"{key}={value}" for key, value in {**keys, "seed": seed}.items()]
    words = [scenario, *(["no-budget"] if bare else []), *told]
    return re.sub(r"[^\w.=-]+", "_", "-".join(words))
