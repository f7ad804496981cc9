"""Reports as a run and a sweep leave them, small and made up from a formula."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulations.report.schema import SCHEMA, SWEEP
from simulations.scenario import ARMS, NOT_PRIVATE

OPEN = {"label": "NOT PRIVATE", "epsilon": None}
TRAINED = ("central-no-dp", "local-no-dp", "local", "federated-no-dp", "federated")
FIGURES = [
    *(f"{name}@{cut}" for name in ("ndcg", "hr", "mrr") for cut in (5, 10, 20)),
    *("coverage@10", "gini@10", "novelty@10", "diversity@10"),
]


def figure(mean: float, spread: float = 0.01) -> dict[str, float]:
    """A mean with its interval."""
    return {"mean": mean, "low": mean - spread, "high": mean + spread}


def promise(arm: str) -> dict[str, Any]:
    """What an arm says of its privacy."""
    if arm in NOT_PRIVATE:
        return dict(OPEN)
    return {"epsilon": 0.0 if arm == "text" else 1.973}


def arm_figures(arm: str, place: int, sites: Sequence[str]) -> dict[str, Any]:
    """All that a report can say of one arm."""
    mean = 0.03 + 0.005 * place
    each = {
        name: {"users": 100 + n, "ndcg@10": mean + 0.004 * n, "hr@10": 2 * mean}
        for n, name in enumerate(sites)
    }
    small = {"users": 12, "ndcg@10": figure(mean / 2), "hr@10": figure(mean)}
    trained = arm in TRAINED
    return {
        **{name: figure(mean) for name in FIGURES},
        "sampled": {"negatives": 99, "ndcg@10": figure(0.3), "hr@10": figure(0.6)},
        "slices": {"new-users": small, "new-items": small},
        "sites": each,
        "worst_site": sites[0],
        "gap": 0.004 * (len(sites) - 1),
        "validation": {"ndcg@10": figure(mean)},
        "curve": [
            {"round": n, "ndcg@10": mean * (1 - 0.5**n)} for n in range(1, 6) if trained
        ],
        **({"chosen": {"k": 200}} if arm == "item-knn" else {}),
        **promise(arm),
    }


def a_run(arms: Sequence[str] = ARMS, sites: int = 3, **changes: Any) -> dict[str, Any]:
    """The report of a run in which every arm is in a place of its own."""
    names = [f"site-{n}" for n in range(1, sites + 1)]
    metrics = {arm: arm_figures(arm, n, names) for n, arm in enumerate(arms)}
    rounds = [
        {
            "round": number,
            "arm": arm,
            "seconds": 0.5 * number,
            "sites_ok": names,
            "refused": {},
            "update_norm": 0.1,
            "bytes_up": dict.fromkeys(names, 5_600),
            "bytes_down": 5_500,
        }
        for arm in arms
        if arm in TRAINED
        for number in range(1, 6)
    ]
    own = {"data": "", "sites": sites, "rounds": 5, "seed": 0, "epsilon": 2.0}
    made = {
        "schema": SCHEMA,
        "asked": {
            "command": "tacit simulate demo --epsilon 2",
            "scenario": "demo",
            "versions": {"tacit": "0.1.0", "python": "3.11.9"},
        },
        "digests": {"base": "ab" * 32, "data": "cd" * 32, "adapter": None},
        "config": {"simulation": {**own, "arms": list(arms)}, "recipe": {"alpha": 0.5}},
        "engine": "inprocess",
        "arm": "federated",
        "sites": [site_row(name) for name in names],
        "rounds": rounds,
        "metrics": metrics,
        "differences": {
            f"federated - {arm}": {**figure(0.01 - 0.002 * n), "p": 0.2 / (n + 1)}
            for n, arm in enumerate(arms)
            if arm != "federated" and "federated" in arms
        },
        "slice_differences": {
            f"federated - {arm}": {"unseen-sites": {**figure(0.01), "p": 0.04}}
            for arm in ("text", "federated-no-dp")
            if {arm, "federated"} <= {*arms}
        },
        "privacy": {
            "claim": "user-level DP per site",
            "unit": "one user account at one site",
            "relation": "add/remove one user",
            "accountant": "PLD",
            "epsilon_max": 1.973,
            "delta": 1e-5,
            "several_sites": "a person at several sites adds up",
            "mechanisms": {"federated": {"q": 0.2, "sigma": 1.5}},
            "not_covered": ["exact metrics in this report"],
        },
        "timing": {"prepare_s": 1.0, "train_s": 8.0, "total_s": 9.0},
    }
    return {**made, **changes}


def site_row(name: str) -> dict[str, Any]:
    """What one site spent and sent."""
    return {
        "name": name,
        "epsilon": 1.973,
        "epsilon_replace_one": 4.2,
        "budget": 2.0,
        "delta": 1e-5,
        "rounds": 5,
        "refused": {},
        "bytes_up": 28_000,
        "bytes_down": 27_500,
        "ledger": f"sites/{name}/ledger.sqlite",
        "ledger_head": "ef" * 32,
    }


def a_sweep(
    keys: Mapping[str, Sequence[Any]] | None = None,
    arms: Sequence[str] = ARMS,
    scenario: str = "ml-100k-l2o",
    **changes: Any,
) -> dict[str, Any]:
    """The report of a sweep; arms that promise nothing stand beside ``epsilon``."""
    swept = {"epsilon": [1, 2, 4, 8]} if keys is None else keys
    rows = [
        row(scenario, arm, n, point)
        for n, arm in enumerate(arms)
        for point in points(swept, steady=arm in (*NOT_PRIVATE, "text"))
    ]
    made = {
        "schema": SWEEP,
        "asked": {
            "command": "tacit simulate ml-100k-l2o --sweep epsilon=1,2,4,8 --seeds 5",
            "scenario": scenario,
            "keys": {key: list(values) for key, values in swept.items()},
            "seeds": [0, 1, 2, 3, 4],
        },
        "interval": "95 % t-interval over 5 seeds",
        "rows": rows,
        "differences": [
            {"keys": point, "one": "federated", "other": other}
            | {**figure(0.01), "p": 0.0004}
            for other in arms
            if other != "federated"
            for point in points(swept, steady=False)
        ],
        "failures": [{"run": "runs/epsilon-8-seed-4", "error": "WorkerLost: it died"}],
        "runs": [
            {"folder": f"runs/{n}", "keys": point, "seed": 0, "seconds": 61.5}
            for n, point in enumerate(points(swept, steady=False))
        ],
    }
    return {**made, **changes}


def points(swept: Mapping[str, Sequence[Any]], *, steady: bool) -> list[dict[str, Any]]:
    """Every combination of values; without the budget for what has none."""
    found: list[dict[str, Any]] = [{}]
    for key, values in swept.items():
        if not (steady and key == "epsilon"):
            found = [{**point, key: value} for point in found for value in values]
    return found


def row(scenario: str, arm: str, place: int, keys: Mapping[str, Any]) -> dict[str, Any]:
    """One arm at one point."""
    epsilon = keys.get("epsilon")
    mean = 0.02 + 0.005 * place + 0.003 * float(epsilon or 0)
    own = promise(arm)
    return {
        "scenario": scenario,
        "sites": 3,
        "epsilon": epsilon,
        "arm": arm,
        "seeds": 5,
        **({"label": own["label"]} if "label" in own else {}),
        "keys": dict(keys),
        "ndcg@10": figure(mean, 0.003),
        "hr@10": figure(2 * mean, 0.003),
        "spent": None if "label" in own else float(epsilon or 0) * 0.99,
    }
