"""What others published, and what our prototypes gave, on MovieLens 100K.

Leave-two-out, full ranking, whole user, add/remove, delta 1e-5. The figures are drawn
beside a run of that protocol alone: beside any other they would compare nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCENARIO, SPLIT = "ml-100k-l2o", "leave-two-out"
PROTOCOL = frozenset(  # keys that make it another protocol where they are swept
    {"data", "split", "positives", "cold-items", "unseen-sites", "negatives"}
)
CS_670 = "Shuyanokoji7/CS-670: PRV accountant, secure aggregation assumed, 5 seeds"
BASELINE = "baseline without privacy on the same split"
PROTOTYPE = "prototype, one pooled site, central noise, 1 or 2 seeds"
NOTE = (
    "References: MovieLens 100K, leave-two-out, 942 users, full ranking, delta 1e-5, "
    "add/remove one user. They assume one pooled data set or secure aggregation; here "
    "each site adds its own noise, so several sites stand against a weaker demand on "
    "trust."
)


@dataclass(frozen=True, slots=True)
class Reference:
    """One method's test NDCG@10.

    Attributes:
        name: Of the method.
        source: Who measured it, and how.
        ndcg: Epsilon -> NDCG@10; None is without privacy.
    """

    name: str
    source: str
    ndcg: Mapping[float | None, float]


REFERENCES = (
    Reference(
        "federated BPR, d = 64",
        CS_670,
        {None: 0.058, 8.0: 0.052, 4.0: 0.042, 2.0: 0.025, 1.0: 0.011},
    ),
    Reference("federated BPR, d = 64, trained long", CS_670, {None: 0.089}),
    Reference(
        "best low-rank federated model of each column",
        CS_670,
        {None: 0.056, 8.0: 0.051, 4.0: 0.046, 2.0: 0.041, 1.0: 0.025},
    ),
    Reference(
        "DP popularity",
        CS_670,
        {None: 0.050, 8.0: 0.050, 4.0: 0.049, 2.0: 0.050, 1.0: 0.048},
    ),
    Reference("popularity", BASELINE, {None: 0.044}),
    Reference("item-kNN, K = 200", BASELINE, {None: 0.092}),
    Reference("implicit ALS, f = 32", BASELINE, {None: 0.095}),
    Reference("EASE, lambda = 100", BASELINE, {None: 0.097}),
    Reference(
        "frozen text + DP popularity",
        PROTOTYPE,
        {None: 0.054, 4.0: 0.059, 2.0: 0.058, 1.0: 0.056},
    ),
    Reference(
        "low rank of one noisy co-occurrence matrix",
        PROTOTYPE,
        {None: 0.091, 8.0: 0.065, 4.0: 0.057, 2.0: 0.042, 1.0: 0.010},
    ),
    Reference(
        "the same + frozen text",
        PROTOTYPE,
        {None: 0.090, 8.0: 0.067, 4.0: 0.061, 2.0: 0.046, 1.0: 0.029},
    ),
)
DRAWN = (  # names short enough for the end of a line
    ("BPR, published", "federated BPR, d = 64"),
    ("low rank, published", "best low-rank federated model of each column"),
    ("DP popularity, published", "DP popularity"),
)
LEVELS = (("EASE, reference", "EASE, lambda = 100"), ("popularity, ref.", "popularity"))


def comparable(made: Mapping[str, Any]) -> bool:
    """Return whether the references are of the same protocol as a report."""
    asked = made["asked"]
    if asked["scenario"] != SCENARIO:
        return False
    if "keys" in asked:
        return PROTOCOL.isdisjoint(
            key.removeprefix("simulation.") for key in asked["keys"]
        )
    own = made["config"]["simulation"]
    return bool(
        own.get("split", SPLIT) == SPLIT
        and own.get("positives", "likes") == "likes"
        and not own.get("cold-items")
        and not own.get("unseen-sites")
    )


def reference(name: str) -> Reference:
    """Return a method's figures."""
    return next(one for one in REFERENCES if one.name == name)
