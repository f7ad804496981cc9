"""The item about utility: what the recommendations of a simulation are worth.

A ledger knows nothing of it: without a simulation there is no figure at all.
"""

from collections.abc import Mapping
from typing import Any

from simulations.audit.items.content import NOT_PRIVATE, Case, Content, Table, table
from simulations.audit.items.wording import epsilon_text, listed

SHOWN = {"ndcg@10": "NDCG@10", "hr@10": "HR@10", "coverage@10": "coverage@10"}
BASELINES = {
    "popularity": "popularity",
    "local": "each site alone",
    "federated-no-dp": "without privacy",
}


def utility(case: Case) -> Content:
    """14: what the recommendations are worth, beside those of other arms."""
    made = case.evidence.simulated
    if made is None:
        says = "Utility is not part of this ledger: give --run for a simulation's."
        return Content(says=[says], figures={"utility": "not part of this ledger"})
    missing = [what for arm, what in BASELINES.items() if arm not in made["metrics"]]
    without = f" Baselines not in this run: {listed(missing)}." if missing else ""
    return Content(
        says=[
            "Held-out events of the simulation, ranked among the whole catalogue: mean "
            "and 95 % bootstrap interval over users. The figures are exact: the "
            f"simulation owns its data, a site sends none.{without}",
            "Error was not measured by subgroup of users; below it is told by site.",
        ],
        figures={"metrics": made["metrics"], "differences": made["differences"]},
        tables=[
            _arms_table(made["metrics"]),
            *_difference_table(made["differences"]),
            _sites_table(made["metrics"]),
        ],
    )


def _arms_table(metrics: Mapping[str, Any]) -> Table:
    rows = [
        [arm, *(_interval(told[name]) for name in SHOWN), _promise(told)]
        for arm, told in metrics.items()
    ]
    return table("Arms", ["arm", *SHOWN.values(), "privacy"], rows)


def _difference_table(differences: Mapping[str, Mapping[str, float]]) -> list[Table]:
    rows = [[name, _interval(told)] for name, told in differences.items()]
    return [table("Paired differences", ["arms", "NDCG@10"], rows)] if rows else []


def _sites_table(metrics: Mapping[str, Any]) -> Table:
    rows = [
        [arm, site, f"{own['ndcg@10']:.4f}", f"{own['hr@10']:.4f}", f"{own['users']:,}"]
        for arm, told in metrics.items()
        for site, own in told["sites"].items()
    ]
    return table("By site", ["arm", "site", "NDCG@10", "HR@10", "users"], rows)


def _interval(told: Mapping[str, float]) -> str:
    return f"{told['mean']:.4f} [{told['low']:.4f}, {told['high']:.4f}]"


def _promise(told: Mapping[str, Any]) -> str:
    epsilon = told["epsilon"]
    return NOT_PRIVATE if epsilon is None else f"epsilon {epsilon_text(epsilon)}"
