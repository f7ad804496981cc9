"""What a sweep found: the mean over its seeds, of every arm at every point.

With two seeds or more an interval is Student's over the seeds; with one it is the run's
own bootstrap over users. Differences are paired: the same seed on both sides.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from simulations.report.schema import NAME, SWEEP, read
from simulations.scenario import NOT_PRIVATE
from simulations.sweep_plan import Keys, Point

_PARTS = ("mean", "low", "high")
CUTS = ("ndcg@10", "hr@10")
BOTH_TAILS = 0.975  # of a 95 % interval

Made = Mapping[int, Mapping[str, Any]]  # seed -> report of the run
Groups = Mapping[tuple[str, str], tuple[Keys, Made]]  # (arm, keys as text) -> the same


def build(
    asked: Mapping[str, Any],
    points: Sequence[Point],
    folder: Path,
    failures: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """Return the report of a sweep, from the reports of the runs that finished.

    Args:
        asked: The command, the scenario's name, the keys and the seeds.
        points: Every run that was asked for.
        folder: Where the runs lie.
        failures: What failed, and why.
    """
    runs = [
        (point, read(folder / point.name))
        for point in points
        if (folder / point.name / NAME).is_file()
    ]
    groups = _groups(runs)
    return {
        "schema": SWEEP,
        "asked": dict(asked),
        "interval": _interval_is(asked["seeds"]),
        "rows": [
            _row(asked["scenario"], arm, keys, made)
            for (arm, _), (keys, made) in groups.items()
        ],
        "differences": _differences(groups),
        "failures": [dict(failure) for failure in failures],
        "runs": [
            {
                "folder": f"{folder.name}/{point.name}",
                "keys": dict(point.keys),
                "seed": point.seed,
                "seconds": made["timing"]["total_s"],
            }
            for point, made in runs
        ],
    }


def _interval_is(seeds: Sequence[int]) -> str:
    if len(seeds) > 1:
        return f"95 % t-interval over {len(seeds)} seeds, of the means over users"
    return "95 % bootstrap over users, of one seed"


def _groups(runs: Iterable[tuple[Point, Mapping[str, Any]]]) -> Groups:
    """Return the reports of each arm and point, by seed."""
    groups: dict[tuple[str, str], tuple[Keys, dict[int, Mapping[str, Any]]]] = {}
    for point, made in runs:
        for arm in made["metrics"]:
            place = arm, json.dumps(point.keys)
            groups.setdefault(place, (point.keys, {}))[1][point.seed] = made
    return {place: (keys, made) for place, (keys, made) in groups.items()}


def _row(scenario: str, arm: str, keys: Keys, made: Made) -> dict[str, Any]:
    """Return the figures of one arm at one point."""
    first = next(iter(made.values()))
    own = first["config"]["simulation"]
    spent = [run["metrics"][arm]["epsilon"] for run in made.values()]
    label = first["metrics"][arm].get("label")
    return {
        "scenario": scenario,
        "sites": own["sites"],
        "epsilon": own["epsilon"] if _has_budget(arm, spent, own) else None,
        "arm": arm,
        "seeds": len(made),
        **({"label": label} if label else {}),
        "keys": dict(keys),
        **{cut: _figure(arm, cut, made) for cut in CUTS},
        "spent": None if None in spent else max(spent),
    }


def _figure(arm: str, cut: str, made: Made) -> dict[str, float]:
    """Return the mean over the seeds with its interval."""
    found = [run["metrics"][arm][cut] for run in made.values()]
    if len(found) == 1:
        return {part: found[0][part] for part in _PARTS}
    return _over_seeds([figure["mean"] for figure in found])


def _over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Return mean and Student's 95 % interval of two values or more."""
    mean, wide = float(np.mean(values)), _half_width(values)
    return {"mean": mean, "low": mean - wide, "high": mean + wide}


def _half_width(values: Sequence[float]) -> float:
    return _error(values) * float(stdtrit(len(values) - 1, BOTH_TAILS))


def _error(values: Sequence[float]) -> float:
    """Return the standard error of the mean."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _has_budget(
    arm: str, spent: Sequence[float | None], own: Mapping[str, Any]
) -> bool:
    """Return whether an arm depends on the budget that was asked."""
    return arm not in NOT_PRIVATE and not own["no-dp"] and any(spent)


def _differences(groups: Groups) -> list[dict[str, Any]]:
    """Return the paired gain of each federated arm over every other, at every point.

    An arm without a budget stands at the points that differ in budget alone.
    """
    found = []
    for (one, _), (keys, made) in groups.items():
        for (other, _), (others, theirs) in groups.items():
            comparable = one.startswith("federated") and other != one
            if comparable and others.items() <= keys.items():
                gain = _gain(one, other, made, theirs)
                if gain:
                    found.append(
                        {"keys": dict(keys), "one": one, "other": other} | gain
                    )
    return found


def _gain(one: str, other: str, made: Made, theirs: Made) -> dict[str, float]:
    """Return NDCG@10 of ``one`` minus ``other`` over the seeds that both have.

    With one seed it is the run's own, of the same users; empty if there is none.
    """
    both = [seed for seed in made if seed in theirs]
    if len(both) > 1:
        gains = [
            made[seed]["metrics"][one]["ndcg@10"]["mean"]
            - theirs[seed]["metrics"][other]["ndcg@10"]["mean"]
            for seed in both
        ]
        return {**_over_seeds(gains), "p": _significance(gains)}
    own = [made[seed]["differences"].get(f"{one} - {other}") for seed in both]
    return {part: own[0][part] for part in (*_PARTS, "p")} if own and own[0] else {}


def _significance(gains: Sequence[float]) -> float:
    """Return p of a two-sided paired t-test; 1 where every gain is nought."""
    error, mean = _error(gains), abs(float(np.mean(gains)))
    if not error:
        return float(mean == 0)
    return float(2 * stdtr(len(gains) - 1, -mean / error))
