"""The page of one run: what was asked, what every arm gave, and at what price."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulations.charts.axes import axis
from simulations.report import plots, published, run_optional, run_price
from simulations.report.content import (
    HR,
    NDCG,
    OPEN,
    Cell,
    Figure,
    Page,
    Section,
    Table,
    interval,
    named,
    number,
    paired,
    plain,
    private,
    promise,
    setting,
    significance,
)
from simulations.report.schema import settings_of

FEW_SITES = 6  # so many stand in a table one by one
FIRST = {NDCG: "NDCG@10", HR: "HR@10", "mrr@10": "MRR@10"}
LENGTHS = {
    f"{name}@{cut}": f"{name.upper()}@{cut}"
    for name in ("ndcg", "hr", "mrr")
    for cut in (5, 20)
}
LISTS = {
    "coverage@10": "coverage",
    "gini@10": "Gini of exposure",
    "novelty@10": "novelty, bits",
    "diversity@10": "diversity",
}
Made = Mapping[str, Any]


def page(made: Made) -> Page:
    """Return the page of a run's report."""
    name = made["asked"]["scenario"]
    own = made["config"]["simulation"]
    sites, rounds = own["sites"], own["rounds"]
    return Page(
        title=f"Simulation: {name}",
        subtitle=f"{sites} sites, {rounds} rounds, seed {own['seed']}; "
        f"Tacit {made['asked']['versions']['tacit']}",
        verdict=run_price.verdict(made),
        sections=[
            _asked(made),
            _arms(made),
            *_differences(made),
            *_curves(made),
            _sites(made),
            *run_optional.sections(made),
            *run_price.sections(made),
        ],
    )


def bars(made: Made, cut: str) -> Sequence[plots.Bar]:
    """Return one metric of every arm as bars."""
    return [
        plots.Bar(arm, arm, private(figures), *_parts(figures[cut]))
        for arm, figures in made["metrics"].items()
    ]


def _parts(figure: Mapping[str, float]) -> tuple[float, float, float]:
    return figure["mean"], figure["low"], figure["high"]


def _asked(made: Made) -> Section:
    rows = [plain(key, setting(value)) for key, value in settings_of(made["config"])]
    return Section(
        key="asked",
        title="What was asked",
        code=made["asked"]["command"],
        tables=[Table("Settings of the run", ["setting", "value"], rows)],
    )


def _arms(made: Made) -> Section:
    metrics = made["metrics"]
    known = published.comparable(made)
    chosen = [
        [named(arm, figures), Cell(", ".join(_chosen(figures["chosen"])))]
        for arm, figures in metrics.items()
        if figures.get("chosen")
    ]
    tables = [
        _metric_table(made, "Held-out events, full ranking", FIRST, last=True),
        *_if_any(_metric_table(made, "Other lengths of the list", LENGTHS)),
        *_if_any(_metric_table(made, "The lists themselves, 10 items each", LISTS)),
    ]
    if chosen:
        tables.append(
            Table("Chosen on validation events", ["arm", "hyper-parameters"], chosen)
        )
    if known:
        tables.append(references())
    return Section(
        key="arms",
        title="Arms",
        says=[
            "Mean over users with a 95 % bootstrap interval. Every arm ranks each "
            "user's held-out item among all items that the user has not met.",
            *([published.NOTE] if known else []),
        ],
        figures=[
            Figure(
                "NDCG@10 on held-out events",
                plots.bars("NDCG@10 by arm", "NDCG@10", bars(made, NDCG)),
                f"Hatched: {OPEN}." if _any_open(made) else "",
            )
        ],
        tables=tables,
    )


def references() -> Table:
    """Return the published figures with their sources."""
    budgets = (None, 8.0, 4.0, 2.0, 1.0)
    return Table(
        "Test NDCG@10 of others on this protocol",
        [
            "method",
            *(f"no DP, {OPEN}" if e is None else f"epsilon {e:g}" for e in budgets),
            "source",
        ],
        [
            [
                Cell(one.name, mark=OPEN if set(one.ndcg) == {None} else ""),
                *(number(one.ndcg.get(e), "{:.3f}") for e in budgets),
                Cell(one.source),
            ]
            for one in published.REFERENCES
        ],
    )


def _any_open(made: Made) -> bool:
    return not all(map(private, made["metrics"].values()))


def _chosen(found: Mapping[str, object]) -> Iterator[str]:
    for key, value in found.items():
        yield f"{key} = {setting(value)}"


def _metric_table(
    made: Made, caption: str, names: Mapping[str, str], *, last: bool = False
) -> Table:
    """Return a table of those metrics that the report has."""
    metrics = made["metrics"]
    shown = {
        name: title
        for name, title in names.items()
        if any(name in figures for figures in metrics.values())
    }
    rows = [
        [
            named(arm, figures),
            *(interval(figures.get(name)) for name in shown),
            *([promise(figures)] if last else []),
        ]
        for arm, figures in metrics.items()
    ]
    return Table(caption, ["arm", *shown.values(), *(["privacy"] * last)], rows)


def _if_any(table: Table) -> list[Table]:
    return [table] if len(table.columns) > 1 else []


def _differences(made: Made) -> Iterator[Section]:
    metrics, rows, drawn = made["metrics"], [], []
    for name, gain in made["differences"].items():
        _, _, other = name.partition(" - ")
        pair = paired(name, metrics)
        drawn.append(plots.Bar(pair.text, other, not pair.mark, *_parts(gain)))
        told = interval(gain, signed=True)
        rows.append([pair, told, significance(gain.get("p"))])
    if not rows:
        return
    yield Section(
        key="differences",
        title="Paired differences",
        says=[
            "The same users on both sides: NDCG@10 of the first arm minus the "
            "second's, 95 % bootstrap interval and two-sided significance."
            + (
                f" A pair is marked {OPEN} where one of the two promises nothing."
                if _any_open(made)
                else ""
            )
        ],
        figures=[
            Figure(
                "Difference of NDCG@10, user by user",
                plots.bars("Paired differences", "NDCG@10", drawn, dots=True),
            )
        ],
        tables=[Table("Paired differences", ["pair", "NDCG@10", "p"], rows)],
    )


def _curves(made: Made) -> Iterator[Section]:
    drawn = [
        plots.Course(
            name=arm,
            arm=arm,
            private=private(figures),
            points=[
                (float(at["round"]), at[NDCG], at[NDCG], at[NDCG])
                for at in figures["curve"]
            ],
        )
        for arm, figures in made["metrics"].items()
        if figures.get("curve")
    ]
    if not drawn:
        return
    chart = plots.courses("Learning curves", axis("round", "whole"), "NDCG@10", drawn)
    yield Section(
        key="curves",
        title="Learning curves",
        says=["Each round's version, measured on validation events; mean over users."],
        figures=[Figure("Validation NDCG@10 by round", chart)],
    )


def _sites(made: Made) -> Section:
    metrics = made["metrics"]
    names = list(next(iter(metrics.values()))["sites"])
    drawn = [
        plots.Panel(
            arm, private(figures), [site[NDCG] for site in figures["sites"].values()]
        )
        for arm, figures in metrics.items()
    ]
    few = names if len(names) <= FEW_SITES else []
    rows = []
    for arm, figures in metrics.items():
        own = figures["sites"]
        worst = min(own, key=lambda name: own[name][NDCG])
        best = max(site[NDCG] for site in own.values())
        low = own[worst][NDCG]
        rows.append(
            [
                named(arm, figures),
                Cell(worst),
                number(low),
                number(best),
                number(best - low),
                *(number(own[name][NDCG]) for name in few),
            ]
        )
    users = [site["users"] for site in next(iter(metrics.values()))["sites"].values()]
    return Section(
        key="sites",
        title="Sites",
        says=[f"{len(names)} sites with {min(users)} to {max(users)} held-out users."],
        figures=[
            Figure(
                "NDCG@10 at each site",
                plots.panels("NDCG@10 at each site", "NDCG@10", drawn),
                f"One bar for each site, from {names[0]} on the left to {names[-1]} "
                f"on the right{f'; hatched: {OPEN}' if _any_open(made) else ''}.",
            )
        ],
        tables=[
            Table(
                "NDCG@10: worst and best site",
                ["arm", "worst site", "there", "best", "gap", *few],
                rows,
            )
        ],
    )
