"""What a simulation found: ``report.json``, the final adapter, a table for people."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from client.site import open_site
from shared.accounting import epsilon
from shared.entries import UNIT
from shared.ledger import Ledger
from shared.metrics import hit, ndcg
from simulations import arms, evaluate
from simulations.arms import Trained
from simulations.evaluate import Outcome
from simulations.stage import Stage, main_arm

SCHEMA = "tacit/report/1"


def build(
    stage: Stage,
    trained: Mapping[str, Sequence[Trained]],
    outcomes: Sequence[Outcome],
    timing: Mapping[str, float],
) -> dict[str, Any]:
    """Return the report; every epsilon is recomputed from the ledgers of the run."""
    main = main_arm(stage.scenario)
    rng = np.random.default_rng([stage.scenario.simulation.seed, 2])
    shown = trained.get(main or "", [])
    folders = dict.fromkeys(site.registry.parent for site in shown)  # many if "local"
    rounds = [told for folder in folders for told in arms.read_rounds(folder)]
    sites = [_site_row(site, rounds) for site in shown]
    return {
        "schema": SCHEMA,
        "config": stage.scenario.tables(),
        "engine": stage.scenario.simulation.engine,
        "arm": main,
        "sites": sites,
        "rounds": [_round_row(report) for report in rounds],
        "metrics": {outcome.arm: _metrics(outcome, rng) for outcome in outcomes},
        "differences": _differences(outcomes, rng),
        "privacy": _privacy(sites, trained, stage),
        "timing": {**timing, "total_s": round(sum(timing.values()), 3)},
    }


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


def _round_row(report: Any) -> dict[str, Any]:
    return {
        "round": report.number,
        "seconds": report.seconds,
        "sites_ok": list(report.sites_ok),
        "refused": dict(report.refused),
        "update_norm": report.update_norm,
    }


def _metrics(outcome: Outcome, rng: np.random.Generator) -> dict[str, Any]:
    """Return the figures over all users, and NDCG@10 and HR@10 of each site.

    Exact figures on held-out events: a simulation owns its data and may show them.
    """
    per_site = {
        name: {
            "ndcg@10": float(ndcg(ranking.rank, evaluate.CUT).mean()),
            "hr@10": float(hit(ranking.rank, evaluate.CUT).mean()),
            "users": len(ranking.rank),
        }
        for name, ranking in outcome.sites.items()
    }
    promise: dict[str, Any] = {"epsilon": _number(outcome.epsilon)}
    if promise["epsilon"] is None:
        promise["label"] = "NOT PRIVATE"
    return {**evaluate.summary(outcome, rng), "sites": per_site, **promise}


def _differences(
    outcomes: Sequence[Outcome], rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Return the paired gain of each federated arm over every other."""
    return {
        f"{one.arm} - {other.arm}": evaluate.difference(one, other, rng)
        for one in outcomes
        if one.arm.startswith("federated")
        for other in outcomes
        if other.arm != one.arm
    }


def _privacy(
    sites: Sequence[Mapping[str, Any]],
    trained: Mapping[str, Sequence[Trained]],
    stage: Stage,
) -> dict[str, Any]:
    """Return the guarantee of the main arm, in the words of PRIVACY.md."""
    spent = [site["epsilon"] for site in sites]
    private = bool(spent) and all(value is not None for value in spent)
    test_noise = stage.scenario.simulation.insecure_test_noise
    return {
        "claim": "user-level DP per site"
        if private and not test_noise
        else "NOT PRIVATE",
        "unit": UNIT,
        "relation": "add/remove one user; the replace-one figure stands beside it",
        "accountant": "PLD upper bound (dp-accounting), composed over all ledger "
        "events",
        "epsilon_max": max(spent) if private else None,
        "delta": max((site["delta"] for site in sites), default=None),
        "several_sites": "a person with accounts at several sites adds the sites' "
        "epsilons",
        "mechanisms": {
            arm: arms.describe(stage.scenario, private=found[0].private)
            for arm, found in trained.items()
        },
        "not_covered": [
            "exact metrics in this report: the simulation owns its data",
            "the popularity arm, which counts exactly",
            "hyper-parameters, which were chosen on public data",
        ],
    }


def write(out: Path, made: Mapping[str, Any]) -> None:
    """Write ``report.json`` all or nothing."""
    fresh = out / "report.json.new"
    fresh.write_text(json.dumps(made, indent=2, allow_nan=False) + "\n", "utf-8")
    fresh.replace(out / "report.json")


def save_adapter(stage: Stage, trained: Mapping[str, Sequence[Trained]]) -> None:
    """Copy the newest global adapter to ``out/adapter`` as a plain PEFT folder."""
    main = main_arm(stage.scenario)
    if main is None or main == "local":
        return
    newest = arms.newest_version(trained[main][0], stage.bench.start)
    target = stage.out / "adapter"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(newest, target)


def show(made: Mapping[str, Any], console: Console) -> None:
    """Print the arms, the paired differences and the sites."""
    console.print(_arms_table(made))
    for name, gain in made["differences"].items():
        spread = f"[{gain['low']:+.4f}, {gain['high']:+.4f}]"
        console.print(
            f"  {name}: NDCG@10 {gain['mean']:+.4f} {spread}", highlight=False
        )
    console.print(_sites_table(made))
    if "cold" in made:
        from simulations import cold  # noqa: PLC0415  # torch, only when it is asked

        console.print(cold.table(made["cold"]))
    privacy = made["privacy"]
    worst = privacy["epsilon_max"]
    console.print(
        f"Privacy ({made['arm']}): {privacy['claim']}"
        + (
            ""
            if worst is None
            else f", epsilon {worst:.3f} at delta {privacy['delta']:g}"
        )
        + f"; unit: {privacy['unit']}.",
        highlight=False,
    )
    console.print(f"Finished in {made['timing']['total_s']:.0f} s.", highlight=False)


def _arms_table(made: Mapping[str, Any]) -> Table:
    table = Table(title="Held-out events, full ranking; 95 % bootstrap over users")
    for column in ("arm", "NDCG@10", "HR@10", "coverage@10", "privacy"):
        table.add_column(column)
    for arm, figures in made["metrics"].items():
        cells = [
            "{mean:.4f} [{low:.4f}, {high:.4f}]".format(**figures[name])
            for name in ("ndcg@10", "hr@10", "coverage@10")
        ]
        table.add_row(
            arm, *cells, figures.get("label") or f"epsilon {figures['epsilon']:.3f}"
        )
    return table


def _sites_table(made: Mapping[str, Any]) -> Table:
    table = Table(title=f"Sites of the arm {made['arm']}")
    for column in (
        "site",
        "epsilon spent",
        "allowed",
        "replace-one",
        "rounds",
        "KB up",
        "KB down",
        "refused",
    ):
        table.add_column(column)
    for site in made["sites"]:
        spent, allowed, swapped = (
            "infinite" if site[key] is None else f"{site[key]:.3f}"
            for key in ("epsilon", "budget", "epsilon_replace_one")
        )
        refused = ", ".join(f"round {n}: {why}" for n, why in site["refused"].items())
        table.add_row(
            site["name"],
            spent,
            allowed,
            swapped,
            str(site["rounds"]),
            f"{site['bytes_up'] / 1000:.1f}",
            f"{site['bytes_down'] / 1000:.1f}",
            refused,
        )
    return table
