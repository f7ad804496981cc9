"""What a simulation found, as JSON values; every epsilon is from a ledger."""

import hashlib
import json
import math
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from client.site import open_site
from shared.accounting import epsilon
from shared.code import code_digest
from shared.entries import UNIT
from shared.ledger import Ledger
from simulations import arms, evaluate
from simulations.arms import Trained
from simulations.evaluate import Outcome
from simulations.report.content import OPEN
from simulations.report.schema import SCHEMA
from simulations.scenario import NOT_PRIVATE
from simulations.stage import Stage, main_arm

LIBRARIES = ("tacit", "torch", "flwr", "numpy")
WEIGHTS = "adapter_model.safetensors"
TrainedArms = Mapping[str, Sequence[Trained]]


def build(
    stage: Stage,
    trained: TrainedArms,
    outcomes: Sequence[Outcome],
    timing: Mapping[str, float],
    *,
    command: str = "",
) -> dict[str, Any]:
    """Return the report; every epsilon is recomputed from the ledgers of the run.

    Args:
        stage: Of the run.
        trained: What each trained arm left on disk.
        outcomes: What each arm came to.
        timing: Seconds of each part of the run.
        command: The exact command line; by default this process's own.
    """
    main = main_arm(stage.scenario)
    rng = np.random.default_rng([stage.scenario.simulation.seed, 2])
    rounds = {arm: _rounds(found) for arm, found in trained.items()}
    sites = [_site_row(site, rounds[main]) for site in trained[main]] if main else []
    return {
        "schema": SCHEMA,
        "asked": {
            "command": command or command_line(),
            "scenario": stage.scenario.name,
            "versions": {
                "python": platform.python_version(),
                **{name: version(name) for name in LIBRARIES},
            },
        },
        "config": stage.scenario.tables(),
        "engine": stage.scenario.simulation.engine,
        "arm": main,
        "sites": sites,
        "rounds": [
            _round_row(arm, told) for arm, found in rounds.items() for told in found
        ],
        "metrics": {outcome.arm: _metrics(outcome, rng) for outcome in outcomes},
        "differences": _differences(outcomes, rng),
        "slice_differences": _slice_differences(outcomes, rng),
        "privacy": _privacy(sites, trained, outcomes, stage),
        "timing": {**timing, "total_s": round(sum(timing.values()), 3)},
        "digests": _digests(stage, trained),
    }


def command_line() -> str:
    """Return the command that this process was started with, as a shell reads it."""
    program = Path(sys.argv[0]).name
    return shlex.join(["tacit" if program == "-c" else program, *sys.argv[1:]])


def _rounds(trained: Sequence[Trained]) -> list[Any]:
    """Return the rounds of an arm: of one federation, or of one for each site."""
    folders = dict.fromkeys(site.registry.parent for site in trained)
    return [told for folder in folders for told in arms.read_rounds(folder)]


def _site_row(site: Trained, rounds: Sequence[Any]) -> dict[str, Any]:
    """Return what one site spent and sent."""
    opened = open_site(site.folder)
    ledger: Ledger = opened.open_ledger()
    events, spent = ledger.events(), ledger.epsilon()
    finite = math.isfinite(spent)
    mine = [report for report in rounds if site.name in report.sites_ok]
    return {
        "name": site.name,
        "epsilon": _number(spent),
        "epsilon_replace_one": _number(
            epsilon(events, opened.policy.delta, "replace_one") if finite else math.inf
        ),
        "budget": _number(opened.policy.epsilon),
        "delta": opened.policy.delta,
        "rounds": len(mine),
        "refused": {
            str(report.number): report.refused[site.name]
            for report in rounds
            if site.name in report.refused
        },
        "bytes_up": sum(report.bytes_up[site.name] for report in mine),
        "bytes_down": sum(report.bytes_down for report in mine),
        "ledger": str(site.folder / "ledger.sqlite"),
        "ledger_head": ledger.head(),
    }


def _number(value: float) -> float | None:
    """Return a finite number, or None: JSON has no infinity."""
    return value if math.isfinite(value) else None


def _round_row(arm: str, report: Any) -> dict[str, Any]:
    return {
        "arm": arm,
        "round": report.number,
        "seconds": report.seconds,
        "sites_ok": list(report.sites_ok),
        "refused": dict(report.refused),
        "update_norm": report.update_norm,
        "bytes_up": dict(report.bytes_up),
        "bytes_down": report.bytes_down,
    }


def _metrics(outcome: Outcome, rng: np.random.Generator) -> dict[str, Any]:
    """Return an arm's figures, marked where it promises nothing.

    Exact figures on held-out events: a simulation owns its data and may show them.
    """
    figures = evaluate.summary(outcome, rng)
    if outcome.arm in NOT_PRIVATE or not math.isfinite(outcome.epsilon):
        return {**figures, "epsilon": None, "label": OPEN}
    return figures


def _differences(
    outcomes: Sequence[Outcome], rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Return the paired gain of each federated arm over every other."""
    return {
        f"{one.arm} - {other.arm}": evaluate.difference(one, other, rng)
        for one, other in _pairs(outcomes)
    }


def _slice_differences(
    outcomes: Sequence[Outcome], rng: np.random.Generator
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the same gains slice by slice, for pairs that have a slice in common."""
    made = {
        f"{one.arm} - {other.arm}": evaluate.slice_differences(one, other, rng)
        for one, other in _pairs(outcomes)
    }
    return {pair: gains for pair, gains in made.items() if gains}


def _pairs(outcomes: Sequence[Outcome]) -> Iterator[tuple[Outcome, Outcome]]:
    """Yield each federated arm with every other."""
    for one in outcomes:
        if one.arm.startswith("federated"):
            yield from ((one, other) for other in outcomes if other.arm != one.arm)


def _privacy(
    sites: Sequence[Mapping[str, Any]],
    trained: TrainedArms,
    outcomes: Sequence[Outcome],
    stage: Stage,
) -> dict[str, Any]:
    """Return the guarantee of the main arm, in the words of PRIVACY.md."""
    spent = [site["epsilon"] for site in sites]
    finite = bool(spent) and None not in spent
    private = finite and not stage.scenario.simulation.insecure_test_noise
    return {
        "claim": "user-level DP per site" if private else OPEN,
        "unit": UNIT,
        "relation": "add/remove one user; the replace-one figure stands beside it",
        "accountant": "PLD upper bound (dp-accounting), composed over all ledger "
        "events",
        "epsilon_max": max(spent) if finite else None,
        "delta": max((site["delta"] for site in sites), default=None),
        "several_sites": "a person with accounts at several sites adds the sites' "
        "epsilons",
        "mechanisms": {
            arm: arms.describe(stage.scenario.of(arm), private=found[0].private)
            for arm, found in trained.items()
        },
        "not_covered": _not_covered(outcomes),
    }


def _not_covered(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what no epsilon of the report speaks of."""
    marked = [each.arm for each in outcomes if not math.isfinite(each.epsilon)]
    return [
        "exact metrics in this report: the simulation owns its data",
        *([f"the arms marked {OPEN}: {', '.join(marked)}"] if marked else []),
        "several arms at once: each has sites and ledgers of its own, as if it were "
        "the only one",
        "hyper-parameters, which were chosen on public data",
    ]


def _digests(stage: Stage, trained: TrainedArms) -> dict[str, str | None]:
    """Return SHA-256 of all that the figures rest on."""
    main = main_arm(stage.scenario)
    adapter = None
    if main:
        newest = arms.newest_version(trained[main][0], stage.bench.start)
        adapter = _of_file(newest / WEIGHTS)
    config = json.dumps(stage.scenario.tables(), sort_keys=True)
    return {
        "base": stage.bench.spec.base,
        "code": code_digest(),
        "data": _of_folder(stage.bench.data),
        "adapter": adapter,
        "config": hashlib.sha256(config.encode()).hexdigest(),
    }


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_folder(folder: Path) -> str:
    """Return a digest over paths and contents of all files below a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            total.update(f"{name} {_of_file(path)}\n".encode())
    return total.hexdigest()
