"""Several runs side by side: what was asked differently, and what came of it.

Runs share no users, so their figures stand beside each other with their intervals; a
change since the first run is told without one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.errors import ConfigError
from simulations.report.content import HR, NDCG, OPEN, private
from simulations.report.schema import read_run, settings_of

KIND = "tacit/comparison/1"
CUTS = {NDCG: "NDCG@10", HR: "HR@10", "mrr@10": "MRR@10"}
Made = Mapping[str, Any]


def compare(folders: Sequence[Path]) -> dict[str, Any]:
    """Return the runs' figures side by side, arm by arm.

    Args:
        folders: Of runs; the first is what the others are held against.

    Raises:
        ConfigError: If there are fewer than two, or with every folder that holds no
            report of a run.
    """
    if len(folders) < 2:
        raise ConfigError(f"compare: {len(folders)} run given; give two or more")
    runs = _read(folders)
    arms = dict.fromkeys(arm for made in runs.values() for arm in made["metrics"])
    return {
        "schema": KIND,
        "runs": [
            {
                "name": name,
                "command": made["asked"]["command"],
                "scenario": made["asked"]["scenario"],
                "claim": made["privacy"]["claim"],
                "epsilon_max": made["privacy"]["epsilon_max"],
                "digests": made["digests"],
            }
            for name, made in runs.items()
        ],
        "settings": _settings(runs),
        "arms": {arm: _arm(arm, runs) for arm in arms},
    }


def _read(folders: Sequence[Path]) -> dict[str, Made]:
    """Return the reports by names that tell the folders apart."""
    runs: dict[str, Made] = {}
    faults = []
    for folder in folders:
        try:
            made = read_run(folder)
        except ConfigError as error:
            faults.append(str(error))
            continue
        name = folder.name if folder.name not in runs else str(folder)
        if name in runs:
            faults.append(f"{folder} is given twice")
        runs[name] = made
    if faults:
        raise ConfigError("\n  ".join(["compare:", *faults]))
    return runs


def _settings(runs: Mapping[str, Made]) -> dict[str, list[Any]]:
    """Return the settings that are not the same in all runs; None where not set."""
    each = [dict(settings_of(made["config"])) for made in runs.values()]
    keys = dict.fromkeys(key for settings in each for key in settings)
    found = {key: [settings.get(key) for settings in each] for key in keys}
    return {
        key: values
        for key, values in found.items()
        if any(value != values[0] for value in values)
    }


def _arm(arm: str, runs: Mapping[str, Made]) -> list[dict[str, Any] | None]:
    """Return an arm's figures in each run; None where the run has no such arm."""
    return [
        {
            **{cut: made["metrics"][arm][cut] for cut in CUTS},
            "epsilon": made["metrics"][arm]["epsilon"],
            **({} if private(made["metrics"][arm]) else {"label": OPEN}),
        }
        if arm in made["metrics"]
        else None
        for made in runs.values()
    ]
