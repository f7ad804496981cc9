"""What only some runs have: slices, sampled metrics, ratings, newcomers, an attack."""

from collections.abc import Iterator, Mapping
from typing import Any

from simulations.report.content import (
    HR,
    NDCG,
    NOTHING,
    OPEN,
    Cell,
    Section,
    Table,
    interval,
    named,
    number,
    paired,
    plain,
    significance,
)

SLICES = {
    "new-users": "New users: at most 5 events before the held-out one",
    "new-items": "New items: the held-out one has no training event at any site",
    "unseen-sites": "Unseen sites: their users took no part in training",
}
RATINGS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
}
Made = Mapping[str, Any]


def sections(made: Made) -> Iterator[Section]:
    """Yield the sections that this run has something for."""
    yield from _slices(made)
    yield from _sampled(made)
    yield from _ratings(made)
    yield from _newcomers(made)
    yield from _attack(made)


def _slices(made: Made) -> Iterator[Section]:
    tables = []
    for key, title in SLICES.items():
        rows = [
            [
                named(arm, figures),
                interval(part[NDCG]),
                interval(part[HR]),
                *plain(part["users"]),
            ]
            for arm, figures in made["metrics"].items()
            if (part := figures.get("slices", {}).get(key))
        ]
        if rows:
            tables.append(Table(title, ["arm", "NDCG@10", "HR@10", "users"], rows))
        gains = [
            [
                paired(pair, made["metrics"]),
                interval(gain, signed=True),
                significance(gain["p"]),
            ]
            for pair, parts in made["slice_differences"].items()
            if (gain := parts.get(key))
        ]
        if gains:
            head = ["pair", "NDCG@10", "p"]
            tables.append(Table(f"{title}: paired differences", head, gains))
    if tables:
        yield Section(key="slices", title="Slices", tables=tables)


def _sampled(made: Made) -> Iterator[Section]:
    rows, sizes = [], set()
    for arm, figures in made["metrics"].items():
        if part := figures.get("sampled"):
            sizes.add(str(part["negatives"]))
            rows.append([named(arm, figures), interval(part[NDCG]), interval(part[HR])])
    if not rows:
        return
    size = ", ".join(sorted(sizes))
    yield Section(
        key="sampled",
        title="Sampled metrics",
        says=[
            f"SAMPLED: the held-out item among {size} random items that the user never "
            "met. Such figures are higher than those of the full ranking, and may "
            "order the arms differently (Krichene and Rendle, KDD 2020)."
        ],
        tables=[
            Table(
                f"Sampled, {size} negatives",
                ["arm", "NDCG@10, sampled", "HR@10, sampled"],
                rows,
            )
        ],
    )


def _ratings(made: Made) -> Iterator[Section]:
    rows = [
        [
            named(arm, figures),
            *(number(found.get(key), "{:.3f}") for key in RATINGS),
            *plain(found["events"]),
        ]
        for arm, figures in made["metrics"].items()
        if (found := figures.get("ratings"))
    ]
    if rows:
        yield Section(
            key="ratings",
            title="Predicted ratings",
            says=[
                "Events between validation and test that were rated; accuracy, "
                "precision, recall and F1 are those of telling a like from the rest.",
                *dict.fromkeys(
                    f"Predicted is {found['predicts']}."
                    for figures in made["metrics"].values()
                    if (found := figures.get("ratings", {})).get("predicts")
                ),
            ],
            tables=[
                Table("Ratings", ["arm", *RATINGS.values(), "events"], rows),
            ],
        )


def _newcomers(made: Made) -> Iterator[Section]:
    found = made.get("cold", [])
    if not found:
        return
    rows = [
        [
            Cell(each["name"]),
            interval(each["ndcg"]),
            interval(each["popularity"]),
            interval(each["gain"], signed=True),
            Cell(str(each["users"])),
        ]
        for each in found
    ]
    columns = ["newcomer", "served", f"popularity, {OPEN}", "difference", "users"]
    yield Section(
        key="newcomers",
        title="Newcomers",
        points=[f"{each['name']}: {each['how']}." for each in found],
        tables=[Table("NDCG@10; 95 % bootstrap over users", columns, rows)],
    )


def _attack(made: Made) -> Iterator[Section]:
    attack = made["config"].get("attack")
    if not attack:
        return
    rows = [
        [
            named(arm, figures),
            interval(figures[NDCG]),
            Cell(", ".join(f"{r:.2f}" for r in exposure.values()) or NOTHING),
        ]
        for arm, figures in made["metrics"].items()
        for exposure in [figures.get("exposure", {})]
    ]
    sites = made["config"]["simulation"]["sites"]
    rule = made["config"].get("federation", {}).get("rule", "fedavg")
    yield Section(
        key="attack",
        title="Attack",
        says=[
            f"{attack['sites']} of {sites} sites are hostile ({attack['kind']}, "
            f"strength {attack['strength']:g}); the server aggregates by {rule}. "
            "Exposure is the share of the top-10 places that the promoted item takes, "
            "over its share by chance: 1 is no promotion."
        ],
        tables=[Table("Under attack", ["arm", "NDCG@10", "exposure"], rows)],
    )
