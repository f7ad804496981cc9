"""The page of a sweep: each arm over every swept key, and what failed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulations.charts.axes import Axis, axis
from simulations.report import plots, published
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
    plain,
    private,
    setting,
    significance,
    where,
)
from simulations.report.run_page import references

EPSILON = "epsilon"
CHARTS = 12  # most charts of one key; what is left is in the table
MARKED = 8  # most values that are marked on an axis one by one
WIDE = 8  # greatest over least value from which a key's axis is in powers of ten
Made = Mapping[str, Any]
Point = tuple[tuple[str, str], ...]


def page(made: Made) -> Page:
    """Return the page of a sweep's report."""
    asked = made["asked"]
    arms = dict.fromkeys(row["arm"] for row in made["rows"])
    runs = len(made["runs"])
    failed = f", {len(made['failures'])} failed" if made["failures"] else ""
    return Page(
        title=f"Sweep: {asked['scenario']}",
        subtitle=f"{runs} runs{failed}, {len(arms)} arms, over "
        f"{' and '.join(asked['keys']) or 'seeds alone'}",
        verdict=_verdict(made),
        sections=[
            _asked(made),
            *_utility(made),
            *_others(made),
            _table(made),
            *_differences(made),
            *_failures(made),
            _runs(made),
        ],
    )


def _verdict(made: Made) -> str:
    spent = [row["spent"] for row in made["rows"] if private(row)]
    known = [value for value in spent if value is not None]
    if not known:
        return f"{OPEN}: no arm of this sweep promises anything."
    return (
        f"Arms without a mark are user-level DP per site; the dearest spent epsilon "
        f"{max(known):.3f}, recomputed from the ledgers of its run. Marked arms "
        "promise nothing."
    )


def _asked(made: Made) -> Section:
    asked = made["asked"]
    rows = [plain(key, setting(values)) for key, values in asked["keys"].items()]
    rows.append(plain("seeds", setting(asked["seeds"])))
    says = [f"Intervals: {made['interval']}."] if "interval" in made else []
    return Section(
        key="asked",
        title="What was asked",
        says=says,
        code=asked["command"],
        tables=[Table("Swept keys", ["key", "values"], rows)],
    )


def _utility(made: Made) -> Iterator[Section]:
    """Yield the privacy-utility curves, one for each point of the other keys."""
    if EPSILON not in made["asked"]["keys"]:
        return
    known = published.comparable(made)
    figures, left = _figures(made, EPSILON, references_too=known)
    yield Section(
        key="utility",
        title="Privacy and utility",
        says=[
            "NDCG@10 on held-out events against the budget of each site, on a "
            "logarithmic axis, with intervals as bands. Dashed lines are "
            f"{OPEN}; they do not depend on the budget. A band that meets the edge of "
            "the chart goes on beyond it: the table has all intervals whole.",
            *([published.NOTE] if known else []),
            *_left(left),
        ],
        figures=figures,
        tables=[references()] if known else [],
    )


def _others(made: Made) -> Iterator[Section]:
    """Yield a section for each other swept key."""
    for key, values in made["asked"]["keys"].items():
        if key != EPSILON and len(values) > 1:
            figures, left = _figures(made, key)
            yield Section(
                key=f"over-{key.replace('.', '-')}",
                title=f"NDCG@10 over {key}",
                says=_left(left),
                figures=figures,
            )


def _left(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count} more combinations of the other keys are in the table of rows."]


def _figures(
    made: Made, key: str, *, references_too: bool = False
) -> tuple[list[Figure], int]:
    """Return a chart over ``key`` for each point of the other keys, and what is left.

    An arm that a swept key does not touch has rows without it; these hold everywhere.
    """
    moving = [row for row in made["rows"] if key in row["keys"]]
    points = list(dict.fromkeys(_point(row, key) for row in moving))
    places = _places(made["asked"]["keys"][key])
    across = _across(key, places)
    marked = {n: word for word, n in places.items()} if len(places) <= MARKED else {}
    figures = []
    for point in points[:CHARTS]:
        rows = [row for row in made["rows"] if set(_point(row, key)) <= set(point)]
        drawn = _courses(rows, key, places) + (_references() if references_too else [])
        title = ", ".join([f"NDCG@10 over {key}", *(f"{k} = {v}" for k, v in point)])
        chart = plots.courses(title, across, "NDCG@10", drawn, marked)
        figures.append(Figure(title, chart))
    return figures, len(points) - len(figures)


def _point(row: Made, key: str) -> Point:
    """Return where a row stands in all keys but one."""
    return tuple((k, setting(v)) for k, v in row["keys"].items() if k != key)


def _places(values: Sequence[object]) -> dict[str, float]:
    """Return where each value stands: as it is, or one after another if in words."""
    numbers = [v for v in values if isinstance(v, int | float) and type(v) is not bool]
    if len(numbers) == len(values):
        return {setting(v): float(v) for v in sorted(numbers)}
    return {setting(value): float(n) for n, value in enumerate(values, 1)}


def _across(key: str, places: Mapping[str, float]) -> Axis:
    """Return the axis of a key; a budget's is in powers of ten."""
    if any(setting(place) != name for name, place in places.items()):
        return axis(key, "whole")
    low, high = min(places.values()), max(places.values())
    log = 0 < low < high and (key == EPSILON or high / low >= WIDE)
    return axis(key, "log" if log else "linear")


def _courses(
    rows: Sequence[Made], key: str, places: Mapping[str, float]
) -> list[plots.Course]:
    """Return a course for each arm; one that does not depend on the key is a level."""
    courses = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        points = [
            (
                places[setting(row["keys"][key])] if key in row["keys"] else None,
                *(row[NDCG][part] for part in ("mean", "low", "high")),
            )
            for row in own
        ]
        points.sort(key=lambda point: point[0] or 0.0)
        courses.append(
            plots.Course(name=arm, arm=arm, private=private(own[0]), points=points)
        )
    return courses


def _references() -> list[plots.Course]:
    """Return the published figures as courses of their own."""
    courses = []
    for name, method in published.DRAWN:
        found = published.reference(method).ndcg
        points = [(e, v, v, v) for e, v in sorted(found.items(), key=_budget) if e]
        courses.append(plots.Course(name=name, arm="", private=True, points=points))
    for name, method in published.LEVELS:
        value = published.reference(method).ndcg[None]
        level = [(None, value, value, value)]
        courses.append(plots.Course(name=name, arm="", private=False, points=level))
    return courses


def _budget(of: tuple[float | None, float]) -> float:
    return of[0] or 0.0


def _table(made: Made) -> Section:
    rows = [
        [
            named(row["arm"], row),
            Cell(where(row["keys"]) or "any"),
            interval(row[NDCG]),
            interval(row[HR]),
            number(row["spent"], "{:.3f}") if private(row) else Cell("", mark=OPEN),
            Cell(str(row["sites"])),
            Cell(str(row["seeds"])),
        ]
        for row in made["rows"]
    ]
    columns = ["arm", "at", "NDCG@10", "HR@10", "epsilon spent", "sites", "seeds"]
    return Section(
        key="rows",
        title="Every arm at every point",
        tables=[Table("Held-out events, full ranking", columns, rows)],
    )


def _differences(made: Made) -> Iterator[Section]:
    marks = {row["arm"]: OPEN for row in made["rows"] if not private(row)}
    rows = [
        [
            Cell(
                f"{gain['one']} \N{MINUS SIGN} {gain['other']}",
                mark=marks.get(gain["one"]) or marks.get(gain["other"], ""),
            ),
            Cell(where(gain["keys"]) or "any"),
            interval(gain, signed=True),
            significance(gain.get("p")),
        ]
        for gain in made["differences"]
    ]
    if rows:
        yield Section(
            key="differences",
            title="Paired differences",
            says=[
                "NDCG@10 of the first arm minus the second's, same seed, same users."
            ],
            tables=[Table("Paired differences", ["pair", "at", "NDCG@10", "p"], rows)],
        )


def _failures(made: Made) -> Iterator[Section]:
    if made["failures"]:
        rows = [plain(one["run"], one["error"]) for one in made["failures"]]
        yield Section(
            key="failures",
            title="Failures",
            says=["These runs did not finish; no figure on this page is of them."],
            tables=[Table("Runs that failed", ["run", "error"], rows)],
        )


def _runs(made: Made) -> Section:
    rows = [
        [
            *plain(run["folder"], where(run["keys"]) or "any", run["seed"]),
            number(run["seconds"], "{:.1f}"),
        ]
        for run in made["runs"]
    ]
    return Section(
        key="runs",
        title="Runs",
        says=[
            "Each folder is an ordinary run with its own report.html, settings "
            "(config.toml), ledgers and adapter; all were started by the command above."
        ],
        tables=[Table("Runs that finished", ["folder", "at", "seed", "s"], rows)],
    )
