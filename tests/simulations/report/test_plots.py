"""Charts of arms: as long, as high and as far as the figures say."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from simulations.charts.axes import axis
from simulations.report.plots import (
    HATCH,
    HEIGHT,
    LOOKS,
    WIDTH,
    Bar,
    Course,
    Panel,
    bars,
    courses,
    panels,
    style,
)
from simulations.scenario import ARMS, NOT_PRIVATE

SVG = "{http://www.w3.org/2000/svg}"
SHARE = st.floats(0.001, 1.0)


def parsed(drawn: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(drawn))  # noqa: S314 - our own text


def rects(drawn: Markup, fill: str) -> list[dict[str, float]]:
    found = [
        r.attrib for r in parsed(drawn).iter(f"{SVG}rect") if r.get("fill") == fill
    ]
    sizes = ("x", "y", "width", "height")
    return [{key: float(rect[key]) for key in sizes} for rect in found]


def bar(arm: str, mean: float, low: float, high: float, *, private: bool) -> Bar:
    return Bar("a", arm, private, mean, low, high)


def course(arm: str, points: Sequence[Any], *, private: bool = True) -> Course:
    return Course(name=arm, arm=arm, private=private, points=points)


def lines(drawn: Markup) -> list[list[tuple[float, float]]]:
    """The lines that are drawn, without grid and bands."""
    found = [
        re.findall(r"([\d.]+) ([\d.]+)", path.attrib["d"])
        for path in parsed(drawn).iter(f"{SVG}path")
        if path.get("stroke-dasharray")
    ]
    return [[(float(x), float(y)) for x, y in points] for points in found]


def test_every_arm_has_looks_of_its_own() -> None:
    looks = [style(arm, private=arm not in NOT_PRIVATE) for arm in ARMS]

    assert LOOKS.keys() == {*ARMS}
    assert len({(one.colour, one.marker, one.hollow) for one in looks}) == len(ARMS)


@given(means=st.lists(SHARE, min_size=1, max_size=6))
def test_bars_are_as_long_as_their_means(means: list[float]) -> None:
    drawn = bars("t", "x", [bar("local", m, m, m, private=True) for m in means])

    widths = [r["width"] for r in rects(drawn, style("local", private=True).colour)]

    longest = max(range(len(means)), key=means.__getitem__)
    for mean, width in zip(means, widths, strict=True):
        expected = widths[longest] * mean / means[longest]
        assert width == pytest.approx(expected, abs=0.6)


def test_what_promises_nothing_is_hatched_dashed_and_named_so() -> None:
    barred = bars("t", "x", [bar("local", 0.1, 0.0, 0.2, private=False)])
    drawn = courses(
        "t",
        axis("round", "whole"),
        "y",
        [course("local", [(1, 0.1, 0.1, 0.1)], private=False)],
    )
    sites = panels("t", "y", [Panel("local", private=False, heights=[0.1, 0.2])])

    assert len(rects(barred, "url(#hatch)")) == 1
    assert len(rects(sites, "url(#hatch)")) == 2
    assert 'id="hatch"' in HATCH
    assert 'stroke-dasharray="7 4"' in drawn
    for chart, name in ((barred, "a"), (drawn, "local"), (sites, "local")):
        assert f"{name}, NOT PRIVATE" in chart


def test_what_promises_something_is_neither_hatched_nor_dashed() -> None:
    barred = bars("t", "x", [bar("local", 0.1, 0.0, 0.2, private=True)])
    drawn = courses(
        "t", axis("round", "whole"), "y", [course("local", [(1, 0.1, 0.1, 0.1)])]
    )

    assert not rects(barred, "url(#hatch)")
    assert 'stroke-dasharray="none"' in drawn
    assert "NOT PRIVATE" not in barred + drawn


@given(heights=st.lists(SHARE, min_size=2, max_size=6))
def test_a_course_goes_through_every_point_in_order(heights: list[float]) -> None:
    points = [(float(n), h, h, h) for n, h in enumerate(heights, 1)]
    drawn = lines(courses("t", axis("k"), "y", [course("local", points)]))[0]

    assert len(drawn) == len(heights)
    assert [x for x, _ in drawn] == sorted({x for x, _ in drawn})
    for (_, a), (_, b), low, high in zip(
        drawn, drawn[1:], heights, heights[1:], strict=False
    ):
        assert (a >= b) if low <= high else (a <= b)


def test_a_level_goes_from_end_to_end_and_a_reference_is_a_stub() -> None:
    points = [(1.0, 0.1, 0.1, 0.1), (8.0, 0.2, 0.2, 0.2)]
    level = course("popularity", [(None, 0.15, 0.15, 0.15)], private=False)
    reference = Course(
        name="EASE, reference", arm="", private=False, points=[(None, 0.1, 0.1, 0.1)]
    )
    whole, flat, stub = lines(
        courses("t", axis("e", "log"), "y", [course("local", points), level, reference])
    )

    assert flat[0][1] == flat[1][1]
    assert flat[0][0] < whole[0][0]
    assert flat[1][0] > whole[-1][0]
    assert 0 < stub[1][0] - stub[0][0] < 50


@given(wide=st.floats(0.0, 100.0))
def test_an_interval_never_presses_the_lines_together(wide: float) -> None:
    points = [(1.0, 0.1, 0.1 - wide, 0.1 + wide), (2.0, 0.2, 0.2 - wide, 0.2 + wide)]
    drawn = courses("t", axis("k"), "y", [course("local", points)])
    (_, first), (_, last) = lines(drawn)[0]
    band = next(
        path.attrib["d"]
        for path in parsed(drawn).iter(f"{SVG}path")
        if path.get("fill-opacity")
    )
    heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", band)]

    assert first - last > 50
    assert 0 <= min(heights) <= max(heights) <= HEIGHT


@given(count=st.integers(1, 25))
def test_no_label_leaves_the_canvas_or_stands_over_another(count: int) -> None:
    drawn = courses(
        "t",
        axis("k"),
        "y",
        [course("federated-no-dp", [(1.0, 0.1, 0.1, 0.1)], private=False)] * count,
    )
    svg = parsed(drawn)
    rows = sorted(
        float(t.attrib["y"]) for t in svg.iter(f"{SVG}text") if t.get("class") == "end"
    )

    assert len(rows) == count
    assert rows[0] >= 10
    assert rows[-1] <= float(svg.attrib["height"])
    assert all(b - a >= 17 for a, b in pairwise(rows))
    assert float(svg.attrib["width"]) == WIDTH


def test_a_chart_of_many_sites_is_as_wide_as_one_of_few() -> None:
    many = panels("t", "y", [Panel("local", private=True, heights=[0.1] * 1000)])

    found = rects(many, style("local", private=True).colour)

    assert len(found) == 1000
    assert max(r["x"] + r["width"] for r in found) <= WIDTH


def test_figures_that_are_all_nought_are_drawn_too() -> None:
    assert bars("t", "x", [bar("text", 0.0, 0.0, 0.0, private=True)])
    assert panels("t", "y", [Panel("text", private=True, heights=[0.0, 0.0])])
    assert courses("t", axis("k"), "y", [course("text", [(1.0, 0.0, 0.0, 0.0)])])
