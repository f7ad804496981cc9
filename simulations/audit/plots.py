"""Charts of an audit report as inline SVG: no script, no font or file from elsewhere.

A chart is plain JSON that stands in the report; what is drawn is that and nothing more.
Colours are Okabe and Ito's, safe for the colour-blind, and every series also has a dash
and a marker of its own, for print. A chart without anything to draw is refused.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypedDict

from markupsafe import Markup

from simulations.charts.axes import Axis, axis, scale
from simulations.charts.marks import (
    EMPTY,
    LETTER,
    ROW,
    Label,
    Style,
    beside,
    frame,
    marker,
    path,
    svg,
    text,
)

WIDTH, HEIGHT = 840, 380  # of a whole chart, in pixels at 100 %
LEFT, BOTTOM, EDGE = 66, 50, 10  # margins

STYLES = (  # the first is the broadest: it shows under another of the same course
    Style("#0072b2", "none", "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0 -11 0z", 3.2),
    Style("#d55e00", "7 4", "M-3.5 -3.5h7v7h-7z"),
    Style("#007a5a", "2 3", "M0 -4.5l4.5 8h-9z"),
    Style("#8f4e80", "10 3 2 3", "M0 -5l5 5l-5 5l-5 -5z"),
    Style("#333333", "1 4", ""),
)
LIMIT = Style("#b00020", "12 4", "")


class Series(TypedDict):
    """Points (x, y) joined in order, a name for the legend, a label at the end."""

    name: str
    label: str
    points: Sequence[Sequence[float]]


class Level(TypedDict):
    """A limit: a line at one height, with its label."""

    label: str
    y: float


class LineChart(TypedDict):
    """Lines over two axes."""

    kind: Literal["lines"]
    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    levels: Sequence[Level]


class Group(TypedDict):
    """One group of a histogram: how many lie between each edge and the next."""

    name: str
    counts: Sequence[int]


class Histogram(TypedDict):
    """Groups counted between the same edges, drawn over each other."""

    kind: Literal["histogram"]
    title: str
    across: str
    up: str
    edges: Sequence[float]
    groups: Sequence[Group]


def draw(chart: LineChart | Histogram) -> Markup:
    """Return a chart as one SVG element, readable at 100 %.

    Raises:
        ConfigError: If there is nothing to draw.
    """
    inside = _histogram(chart) if chart["kind"] == "histogram" else _lines(chart)
    return svg(chart["title"], inside, WIDTH, HEIGHT)


def _lines(chart: LineChart) -> Markup:
    """Return axes, limits, series, the labels at their ends and the legend."""
    series, levels = chart["series"], chart["levels"]
    legend, top = _legend([one["name"] for one in series])
    words = [one["label"] for one in series] + [level["label"] for level in levels]
    right = WIDTH - EDGE - 12 - LETTER * max(map(len, words), default=0)
    points = [point for one in series for point in one["points"]]
    heights = [y for _, y in points] + [level["y"] for level in levels]
    x = scale(chart["x"], [x for x, _ in points], LEFT, right)
    y = scale(chart["y"], heights, HEIGHT - BOTTOM, top)
    drawn, labels = [], []
    for level in levels:
        if y.holds(level["y"]):
            height = y(level["y"])
            drawn.append(path([(LEFT, height), (right, height)], LIMIT))
            labels.append(Label(right, height, LIMIT, level["label"]))
    for n, one in enumerate(series):
        style = STYLES[n % len(STYLES)]
        on = [(x(a), y(b)) for a, b in one["points"] if x.holds(a) and y.holds(b)]
        if on:
            drawn.append(path(on, style))
            labels.append(Label(*on[-1], style._replace(marker=""), one["label"]))
    axes = frame(x, y, chart["x"]["label"], chart["y"]["label"])
    return EMPTY.join([axes, *drawn, beside(labels, right, HEIGHT - BOTTOM), legend])


def _histogram(chart: Histogram) -> Markup:
    """Return axes, the outline of each group, the first of them filled, a legend."""
    edges, groups = chart["edges"], chart["groups"]
    legend, top = _legend([group["name"] for group in groups])
    counts = [float(count) for group in groups for count in group["counts"]]
    x = scale(axis(chart["across"]), edges, LEFT, WIDTH - EDGE)
    y = scale(axis(chart["up"], low=0.0), counts, HEIGHT - BOTTOM, top)
    drawn = [frame(x, y, chart["across"], chart["up"])]
    for n, (group, style) in enumerate(zip(groups, STYLES, strict=False)):
        outline = f"M{x(edges[0])} {y(0)}" + "".join(
            f"V{y(count)}H{x(right)}"
            for count, (_, right) in zip(group["counts"], pairwise(edges), strict=True)
        )
        drawn.append(
            Markup(
                '<path d="{}V{}" fill="{}" fill-opacity="0.25" stroke="{}" '
                'stroke-width="1.8" stroke-dasharray="{}"/>'
            ).format(
                outline,
                y(0),
                "none" if n else style.colour,
                style.colour,
                style.dash,
            )
        )
    return EMPTY.join([*drawn, legend])


def _legend(names: Sequence[str]) -> tuple[Markup, float]:
    """Return the rows of the legend, and how far down they reach."""
    parts, x, y = [], float(LEFT), float(EDGE)
    for n, name in enumerate(names):
        style, width = STYLES[n % len(STYLES)], 44 + LETTER * len(name)
        if x > LEFT and x + width > WIDTH - EDGE:
            x, y = float(LEFT), y + ROW
        parts.append(path([(x, y), (x + 30, y)], style._replace(marker="")))
        parts.append(marker(x + 15, y, style))
        parts.append(text(x + 36, y + 4, name, "start"))
        x += width + 8
    return EMPTY.join(parts), y + ROW
