"""Charts: all of it inside the canvas, nothing over another, nothing from elsewhere."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ConfigError
from simulations.audit.plots import (
    HEIGHT,
    STYLES,
    WIDTH,
    Histogram,
    Level,
    LineChart,
    Series,
    draw,
)
from simulations.charts.axes import Kind, Scale, axis, scale, tick
from simulations.charts.marks import LETTER, ROW

SVG = "{http://www.w3.org/2000/svg}"
REAL = st.floats(1e-6, 1e6)
POINTS = st.lists(st.tuples(REAL, REAL), min_size=1, max_size=6)


def lines(
    *points: Sequence[Sequence[float]], kind: Kind = "linear", **changes: Any
) -> LineChart:
    """A chart with a series for each list of points."""
    usual: dict[str, Any] = {
        "kind": "lines",
        "title": "spent",
        "x": axis("charge", kind),
        "y": axis("epsilon", kind),
        "series": [
            Series(name=f"series {n}", label=f"end {n}", points=one)
            for n, one in enumerate(points)
        ],
        "levels": [],
    }
    return LineChart(**{**usual, **changes})  # type: ignore[typeddict-item]  # a mix


def histogram(*counts: Sequence[int]) -> Histogram:
    edges = [float(n) for n in range(len(counts[0]) + 1)]
    groups = [{"name": f"group {n}", "counts": one} for n, one in enumerate(counts)]
    return Histogram(
        kind="histogram",
        title="scores",
        across="score",
        up="canaries",
        edges=edges,
        groups=groups,  # type: ignore[typeddict-item]  # what JSON gives
    )


def parsed(chart: LineChart | Histogram) -> ElementTree.Element:
    return ElementTree.fromstring(str(draw(chart)))  # noqa: S314 - our own text


def texts(chart: LineChart | Histogram) -> list[ElementTree.Element]:
    return parsed(chart).findall(f".//{SVG}text")


def paths(chart: LineChart | Histogram, colour: str) -> list[str]:
    """The lines that are drawn in a colour, without legend and markers."""
    found = parsed(chart).findall(f".//{SVG}path")
    return [
        path.attrib["d"]
        for path in found
        if path.get("stroke") == colour and path.get("stroke-dasharray")
    ]


def places(path: str) -> list[tuple[float, float]]:
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@settings(max_examples=40)
@given(
    series=st.lists(POINTS, min_size=1, max_size=4),
    kind=st.sampled_from(["linear", "log"]),
)
def test_every_point_is_drawn_inside_the_canvas(
    series: list[list[tuple[float, float]]], kind: Kind
) -> None:
    chart = lines(*series, kind=kind)

    for n, points in enumerate(series):
        drawn = places(paths(chart, STYLES[n].colour)[0])
        assert len(drawn) == len(points)
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in drawn)


def test_higher_values_are_drawn_higher_and_later_ones_further_right() -> None:
    drawn = places(paths(lines([(1, 1.0), (2, 3.0), (3, 4.0)]), STYLES[0].colour)[0])

    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(drawn))


@given(heights=st.lists(st.floats(0, 10), min_size=1, max_size=8))
def test_labels_at_the_ends_never_stand_over_each_other(heights: list[float]) -> None:
    levels = [Level(label=f"limit {n}", y=y) for n, y in enumerate(heights)]
    chart = lines([(0, 0.0), (1, 10.0)], levels=levels)

    labels = [t for t in texts(chart) if (t.text or "").startswith(("limit", "end"))]

    rows = sorted(float(label.attrib["y"]) for label in labels)
    assert len(rows) == len(heights) + 1
    assert all(b - a >= ROW - 0.2 for a, b in pairwise(rows))
    assert rows[-1] <= HEIGHT
    assert all(
        float(t.attrib["x"]) + LETTER * len(t.text or "") <= WIDTH for t in labels
    )


def test_points_beyond_an_axis_are_left_out() -> None:
    chart = lines(
        [(0, 0.0), (1, 0.0), (2, 0.01), (3, 0.1), (4, 1.0)],
        y=axis("delta", "log", low=0.01, high=1.0),
    )

    assert len(places(paths(chart, STYLES[0].colour)[0])) == 3


@pytest.mark.parametrize("kind", ["linear", "log"])
@pytest.mark.parametrize("points", [[], [(float("nan"), float("inf"))]])
def test_a_chart_with_nothing_to_show_is_refused(
    points: list[tuple[float, float]], kind: Kind
) -> None:
    with pytest.raises(ConfigError, match="no value to show on the axis 'charge'"):
        draw(lines(points, kind=kind))


def test_series_differ_in_colour_in_dash_and_in_marker() -> None:
    assert len(STYLES) >= 4
    for told_apart in zip(*(style[:3] for style in STYLES), strict=True):
        assert len(set(told_apart)) == len(STYLES)


def test_each_series_and_limit_is_named_in_words() -> None:
    chart = lines([(1, 1.0)], [(1, 2.0)], levels=[Level(label="budget 8", y=8.0)])

    said = [text.text for text in texts(chart)]

    assert {"series 0", "series 1", "end 0", "end 1", "budget 8"} <= set(said)
    assert {"charge", "epsilon"} <= set(said)


def test_a_name_is_text_and_never_markup() -> None:
    name = "<script>alert('x')</script> & \"co\""
    chart = lines(title=name, series=[Series(name=name, label=name, points=[(1, 1.0)])])

    assert [t.text for t in texts(chart)].count(name) == 2
    assert not parsed(chart).findall(f".//{SVG}script")


def test_a_chart_asks_for_nothing_from_elsewhere() -> None:
    for chart in (lines([(1, 1.0), (2, 2.0)]), histogram([1, 2], [2, 1])):
        text = str(draw(chart)).replace("http://www.w3.org/2000/svg", "")
        for word in ("http", "href", "url(", "<script", "<style", "<image", "@import"):
            assert word not in text


def test_text_is_readable_at_full_size() -> None:
    svg = parsed(lines([(1, 1.0)]))

    assert svg.attrib["viewBox"] == f"0 0 {WIDTH} {HEIGHT}"
    assert svg.attrib["width"] == str(WIDTH)
    assert int(svg.attrib["font-size"]) >= 12


def test_a_histogram_outlines_each_group_at_the_height_of_its_counts() -> None:
    chart = histogram([0, 4, 2], [1, 0, 4])

    outlines = [paths(chart, style.colour)[0] for style in STYLES[:2]]
    heights = [[float(y) for y in re.findall(r"V([\d.]+)", path)] for path in outlines]

    floor = heights[0][0]  # no canary in the first bin of the first group
    top = min(heights[0])
    assert heights[0] == [floor, top, (floor + top) / 2, floor]
    assert heights[1][1:] == [floor, top, floor]
    assert heights[1][0] == pytest.approx(floor + (top - floor) / 4, abs=0.1)


@given(low=st.floats(-1e3, 1e3), width=st.floats(1e-3, 1e4))
def test_linear_ticks_are_a_few_round_values_on_the_axis(
    low: float, width: float
) -> None:
    marked = Scale(low=low, high=low + width, start=0, end=100, kind="linear").ticks()

    assert 1 <= len(marked) <= 8
    assert all(low <= value <= low + width for value in marked)
    steps = {round(b - a, 9) for a, b in pairwise(marked)}
    assert len(steps) <= 1


def test_ticks_known_by_hand() -> None:
    def marked(kind: Kind, low: float, high: float) -> list[float]:
        return Scale(low=low, high=high, start=0, end=1, kind=kind).ticks()

    assert marked("linear", 0, 8.9) == [0, 2, 4, 6, 8]
    assert marked("whole", 0, 3) == [0, 1, 2, 3]
    assert marked("log", 1e-3, 1) == [1e-3, 1e-2, 0.1, 1]
    assert marked("log", 0.1, 1) == [0.1, 0.2, 0.5, 1]


def test_the_middle_of_a_logarithmic_axis_is_the_geometric_mean() -> None:
    on = scale(axis("FPR", "log"), [1e-4, 1.0], 0, 100)

    assert (on(1e-4), on(1e-2), on(1.0)) == (0, 50, 100)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.001, "0.001"), (1e-5, "1e-5"), (2.5, "2.5"), (40000.0, "40,000")],
)
def test_ticks_are_written_shortly(value: float, text: str) -> None:
    assert tick(value) == text
