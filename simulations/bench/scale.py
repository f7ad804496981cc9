"""How a step's cost grows, one thing at a time: users, history, items, layers and more.

What does not vary is as large as ML-100K, unless a table says otherwise. Activations
are borrowed (see ``site.py``), so that no text is waited for. Sizes of one table take
turns, and medians are told.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from client.heap import keep_freed_memory
from client.site import SiteSettings
from client.train import train_round
from shared.protocol import Mechanism, Recipe
from simulations.bench.panels import Line, Panel, svg
from simulations.bench.round import laps
from simulations.bench.site import (
    Size,
    TrainingSite,
    fresh_encoder,
    steady_streams,
    training_site,
)
from simulations.charts.axes import Axis, axis

SEED, REPEATS, ROUNDS = 2026, 3, 4
USERS = (500, 2000, 8000, 32_000)
DRAWN, RATE = 128, 0.04  # of every step: so many users, or this share of all
HISTORY = (4, 8, 16, 32, 60)  # of 64 likes that are kept, 4 are aimed at
ITEMS = (500, 1000, 2000, 5000, 10_000, 20_000)
MODULES = ("output", "dense:1", "dense:2", "dense:3")
SMALL = Size(items=250, users=200)  # for whole layers, which cost so much more
RANKS = (8, 16, 32, 64, 128)
SITES, USERS_EACH, ITEMS_EACH = (1, 2, 4, 8, 16), 60, 144
PRECISION = SiteSettings(name="bench").precision  # as a site trains by default
EACH = "ms per drawn user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A step of one size.

    Attributes:
        x: Where it stands in its table.
        size: Of the site.
        q: Share of the users that are drawn.
        recipe: How the step learns.
        spec: Keys of ``AdapterSpec`` that differ from the defaults.
    """

    x: float
    size: Size = field(default_factory=Size)
    q: float = 0.2
    recipe: Recipe = field(default_factory=Recipe)
    spec: tuple[tuple[str, Any], ...] = ()

    @property
    def drawn(self) -> int:
        """Users of the step."""
        return round(self.q * self.size.users)


def tables() -> dict[str, list[Case]]:
    """Return what is measured: name -> cases that differ in one thing."""
    users = [Size(users=count) for count in USERS]
    targets = Recipe().targets
    return {
        "users_same_draw": [
            Case(x=size.users, size=size, q=DRAWN / size.users) for size in users
        ],
        "users_same_rate": [Case(x=size.users, size=size, q=RATE) for size in users],
        "history": [
            Case(x=n, size=Size(likes=n + targets), recipe=Recipe(history=n))
            for n in HISTORY
        ],
        "items": [Case(x=n, size=Size(items=n)) for n in ITEMS],
        "layers": [
            Case(x=n, size=SMALL, spec=(("modules", name),))
            for n, name in enumerate(MODULES)
        ],
        "rank": [Case(x=n, spec=(("rank", n),)) for n in RANKS],
    }


def measure(base: str = "minilm", repeats: int = REPEATS) -> dict[str, Any]:
    """Return the figures: of each table the points (x, milliseconds per drawn user).

    ``users_ratio`` is the cost per user with the most users over that with the fewest,
    when as many are drawn; ``history_r2`` says how well a line fits the history.

    Args:
        base: Encoder.
        repeats: Steps of each size.
    """
    keep_freed_memory()  # as a site does before a round
    made: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="tacit-bench-") as folder:
        cache = Path(folder, "cache")
        for name, cases in tables().items():
            steps = _steps(cases, base, cache, repeats)
            made[name] = [
                [case.x, round(1000 * step / case.drawn, 4), round(1000 * step, 2)]
                for case, step in zip(cases, steps, strict=True)
            ]
        sites = [[n, round(_round_s(Path(folder, str(n)), base, n), 3)] for n in SITES]
    slope, intercept, r2 = fitted([point[:2] for point in made["history"]])
    return {
        "users_ratio": _ratio(made["users_same_draw"]),
        "users_ratio_same_rate": _ratio(made["users_same_rate"]),
        "history_r2": round(r2, 4),
        "history_line_ms": {"each": round(slope, 5), "none": round(intercept, 4)},
        "ms_per_user": made,
        "round_s_by_sites": sites,
        "layers": list(MODULES),
        "drawn": DRAWN,
        "rate": RATE,
        "base": base,
        "repeats": repeats,
    }


def lines(figures: dict[str, Any]) -> list[str]:
    """Return the figures in words, one table a line."""
    line = figures["history_line_ms"]
    said = [
        f"users      {figures['users_ratio']:.2f} times the cost per user with "
        f"{USERS[-1] / USERS[0]:.0f} times the users ({figures['drawn']} drawn); "
        f"{figures['users_ratio_same_rate']:.2f} times at a rate of {figures['rate']}",
        f"history    a line fits with R2 {figures['history_r2']:.3f}: "
        f"{line['none']:.2f} ms and {line['each']:.4f} ms for each like",
    ]
    for name, points in figures["ms_per_user"].items():
        each = ", ".join(f"{x:,}: {ms:.2f}" for x, ms, _ in points)
        said.append(f"{name.replace('_', ' '):<16} ms per user  {each}")
    each = ", ".join(
        f"{n}: {seconds:.2f}" for n, seconds in figures["round_s_by_sites"]
    )
    return [*said, f"{'sites':<16} s per round  {each}"]


def plot(figures: dict[str, Any]) -> str:
    """Return the figures as the text of an SVG file."""
    made = {
        name: [point[:2] for point in points]
        for name, points in figures["ms_per_user"].items()
    }
    line = figures["history_line_ms"]
    fit = [[x, line["none"] + line["each"] * x] for x in (0, HISTORY[-1])]
    names = "layers with dense modules adapted; 0: the last output alone"
    panels = [
        Panel(
            title="Users of the site",
            across=axis("users", "log"),
            up=EACH,
            drawn=[
                Line(name=f"{figures['drawn']} drawn", points=made["users_same_draw"]),
                Line(
                    name=f"a share of {figures['rate']} drawn",
                    points=made["users_same_rate"],
                ),
            ],
        ),
        Panel(
            title="Length of the history",
            across=axis("likes in a user's history", low=0.0),
            up=EACH,
            drawn=[
                Line(name="measured", points=made["history"], joined=False),
                Line(
                    name=f"a line, R² = {figures['history_r2']:.3f}",
                    points=fit,
                    marked=False,
                ),
            ],
        ),
        _single("Items of the catalogue", axis("items", low=0.0), made["items"]),
        _single("Adapted layers", axis(names, "whole"), made["layers"]),
        _single("Rank of the adapter", axis("rank", low=0.0), made["rank"]),
        _single(
            "Sites in one process, one after the other",
            axis("sites", low=0.0),
            figures["round_s_by_sites"],
            "s per round",
        ),
    ]
    return svg(panels)


def fitted(points: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Return slope, intercept and R² of the line of least squares through points."""
    x, y = np.array(points, np.float64).T
    slope, intercept = np.polyfit(x, y, 1)
    left = np.square(y - slope * x - intercept).sum() / np.square(y - y.mean()).sum()
    return float(slope), float(intercept), float(1 - left)


def _steps(cases: Sequence[Case], base: str, cache: Path, repeats: int) -> list[float]:
    """Return the median seconds of a step of each case, its first one left out."""
    encoders = {
        spec: fresh_encoder(base, dict(spec), training=PRECISION, borrowing=True)
        for spec in {case.spec for case in cases}
    }
    sites = [
        training_site(
            encoders[case.spec],
            case.size,
            case.recipe,
            np.random.default_rng([SEED, case.size.items]),
            cache,
        )
        for case in cases
    ]
    took = [
        [_step_s(case, site, n) for case, site in zip(cases, sites, strict=True)]
        for n in range(1 + repeats)
    ]
    return [median(times) for times in zip(*took[1:], strict=True)]


def _step_s(case: Case, site: TrainingSite, number: int) -> float:
    """Return the seconds of one private step."""
    begun = time.perf_counter()
    train_round(
        site.model,
        site.examples,
        Mechanism(q=case.q, steps=1),
        users=case.size.users,
        streams=steady_streams(number),
        key=[SEED, number],
    )
    return time.perf_counter() - begun


def _round_s(folder: Path, base: str, sites: int) -> float:
    """Return the median seconds of a round of so many sites, after the first."""
    folder.mkdir()
    size = Size(items=ITEMS_EACH, users=USERS_EACH * sites)
    _, *later = laps(folder, base, size, sites=sites, rounds=ROUNDS)
    return median(lap.seconds for lap in later)


def _ratio(points: Sequence[Sequence[float]]) -> float:
    """Return the height of the last point over that of the first."""
    return round(points[-1][1] / points[0][1], 3)


def _single(
    title: str, across: Axis, points: Sequence[Sequence[float]], up: str = EACH
) -> Panel:
    """Return a panel with one line."""
    return Panel(
        title=title, across=across, up=up, drawn=[Line(name="", points=points)]
    )
