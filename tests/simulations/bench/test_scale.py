"""What is said to grow is fitted, compared and drawn as it was measured."""

import json
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from simulations.bench import scale
from simulations.bench.panels import Line, Panel, svg
from simulations.bench.scale import fitted, lines, measure, plot, tables
from simulations.bench.site import Size
from simulations.charts.axes import axis

SVG = "{http://www.w3.org/2000/svg}"


def figures() -> dict[str, object]:
    """Figures as a measurement gives them, of a cost that is known."""
    made = {
        name: [[case.x, 0.5 + 0.01 * case.x, 1.0] for case in cases]
        for name, cases in tables().items()
    }
    return {
        "users_ratio": 1.02,
        "users_ratio_same_rate": 0.25,
        "history_r2": 0.998,
        "history_line_ms": {"each": 0.01, "none": 0.5},
        "ms_per_user": made,
        "round_s_by_sites": [[1, 0.2], [16, 3.0]],
        "drawn": 128,
        "rate": 0.04,
    }


def test_a_line_is_fitted_exactly_where_there_is_one() -> None:
    slope, intercept, r2 = fitted([(x, 3 + 2.5 * x) for x in (4, 8, 16, 32, 60)])

    assert (slope, intercept, r2) == pytest.approx((2.5, 3.0, 1.0))


def test_what_is_no_line_is_told_by_its_fit() -> None:
    rng = np.random.default_rng(0)

    assert fitted([(x, rng.random()) for x in range(40)])[2] < 0.5
    assert 0.8 < fitted([(x, x**3) for x in range(10)])[2] < 0.95


def test_the_cases_of_a_table_differ_in_one_thing_alone() -> None:
    for name, cases in tables().items():
        assert [case.x for case in cases] == sorted({case.x for case in cases}), name
    by_draw = tables()["users_same_draw"]
    assert {case.drawn for case in by_draw} == {scale.DRAWN}
    assert {case.size.items for case in by_draw} == {Size().items}
    for case in tables()["history"]:
        assert case.size.likes == case.recipe.history + case.recipe.targets


def test_every_panel_and_every_point_is_drawn() -> None:
    drawn = ET.fromstring(plot(figures()))  # noqa: S314  # our own text

    words = [text.text or "" for text in drawn.iter(f"{SVG}text")]
    assert len(drawn.findall(f"{SVG}g")) == len(tables())
    assert "128 drawn" in words
    assert "a line, R² = 0.998" in words
    marks = [path for path in drawn.iter(f"{SVG}path") if path.get("transform")]
    points = sum(len(cases) for cases in tables().values()) + 2
    assert len(marks) >= points


def test_a_point_twice_as_high_is_drawn_twice_as_high() -> None:
    points = [(1.0, 10.0), (2.0, 20.0)]
    panel = Panel(
        title="t", across=axis("x"), up="y", drawn=[Line(name="", points=points)]
    )
    drawn = ET.fromstring(svg([panel]))  # noqa: S314  # our own text

    moved = [
        path.get("transform", "")[10:-1].split()
        for path in drawn.iter(f"{SVG}path")
        if path.get("transform")
    ]
    low, high = (float(y) for _, y in moved[-2:])
    ground = 290 - 46
    assert ground - high == pytest.approx(2 * (ground - low), abs=0.2)


def test_the_ratio_and_the_fit_are_said() -> None:
    said = "\n".join(lines(figures()))

    assert "1.02 times the cost per user with 64 times the users" in said
    assert "R2 0.998" in said


@pytest.mark.slow
def test_small_sizes_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "USERS", (200, 400))
    monkeypatch.setattr(scale, "HISTORY", (4, 8, 16))
    monkeypatch.setattr(scale, "ITEMS", (100, 200))
    monkeypatch.setattr(scale, "MODULES", ("output", "dense:1"))
    monkeypatch.setattr(scale, "RANKS", (2, 4))
    monkeypatch.setattr(scale, "SITES", (1, 2))
    monkeypatch.setattr(scale, "ROUNDS", 2)
    made = measure("tiny", repeats=2)

    assert json.loads(json.dumps(made)) == made
    assert made["users_ratio"] > 0
    assert made["history_r2"] <= 1
    assert [n for n, _ in made["round_s_by_sites"]] == [1, 2]
    for name, cases in tables().items():
        points = made["ms_per_user"][name]
        assert [x for x, _, _ in points] == [case.x for case in cases]
        for (_, each, step), case in zip(points, cases, strict=True):
            assert 0 < each == pytest.approx(step / case.drawn, rel=0.05)
    assert plot(made).startswith("<svg")
