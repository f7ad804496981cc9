"""Charts of an audit report as inline SVG: no script, no font or file from elsewhere.

A chart is plain JSON that stands in the report; what is drawn is that and nothing more.
Colours are Okabe and Ito's, safe for the colour-blind, and every series also has a dash
and a marker of its own, for print. A chart without anything to draw is refused.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import dist
from typing import Literal, NamedTuple, TypedDict

from markupsafe import Markup

from simulations.audit.axes import Axis, Scale, axis, scale, tick

WIDTH, HEIGHT = 840, 380  # of a whole chart, in pixels at 100 %
LEFT, BOTTOM, EDGE = 66, 50, 10  # margins
TEXT, ROW, LETTER = 13, 18, 7  # height of letters, of a row; width of a letter
APART = 50  # least pixels between two markers of one line
EMPTY = Markup("")


class Style(NamedTuple):
    """How one series is told from the others, in colour and without."""

    colour: str
    dash: str
    marker: str  # a path around 0, 0
    width: float = 1.8


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


class Label(NamedTuple):
    """Where something ends, in pixels, and what is to stand beside it."""

    x: float
    y: float
    colour: str
    text: str


def draw(chart: LineChart | Histogram) -> Markup:
    """Return a chart as one SVG element, readable at 100 %.

    Raises:
        ConfigError: If there is nothing to draw.
    """
    inside = _histogram(chart) if chart["kind"] == "histogram" else _lines(chart)
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" '
        'height="{h}" role="img" font-size="{size}"><title>{title}</title>{inside}'
        "</svg>"
    ).format(w=WIDTH, h=HEIGHT, size=TEXT, title=chart["title"], inside=inside)


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
            drawn.append(_path([(LEFT, height), (right, height)], LIMIT))
            labels.append(Label(right, height, LIMIT.colour, level["label"]))
    for n, one in enumerate(series):
        style = STYLES[n % len(STYLES)]
        on = [(x(a), y(b)) for a, b in one["points"] if x.holds(a) and y.holds(b)]
        if on:
            drawn.append(_path(on, style))
            labels.append(Label(*on[-1], style.colour, one["label"]))
    frame = _frame(x, y, chart["x"]["label"], chart["y"]["label"])
    return EMPTY.join([frame, *drawn, _beside(labels, right), legend])


def _histogram(chart: Histogram) -> Markup:
    """Return axes, the outline of each group, the first of them filled, a legend."""
    edges, groups = chart["edges"], chart["groups"]
    legend, top = _legend([group["name"] for group in groups])
    counts = [float(count) for group in groups for count in group["counts"]]
    x = scale(axis(chart["across"]), edges, LEFT, WIDTH - EDGE)
    y = scale(axis(chart["up"], low=0.0), counts, HEIGHT - BOTTOM, top)
    drawn = [_frame(x, y, chart["across"], chart["up"])]
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


def _frame(x: Scale, y: Scale, across: str, up: str) -> Markup:
    """Return the grid, the ticks and the names of both axes."""
    parts = []
    for value in x.ticks():
        parts.append(_rule(x(value), y.start, x(value), y.end))
        parts.append(_text(x(value), y.start + ROW, tick(value), "middle", "tick"))
    for value in y.ticks():
        parts.append(_rule(x.start, y(value), x.end, y(value)))
        parts.append(_text(x.start - 7, y(value) + 4, tick(value), "end", "tick"))
    parts.append(_rule(x.start, y.end, x.start, y.start, "#222"))
    parts.append(_rule(x.start, y.start, x.end, y.start, "#222"))
    parts.append(_text((x.start + x.end) / 2, HEIGHT - 8, across, "middle"))
    turned = Markup('<g transform="translate(15 {}) rotate(-90)">{}</g>')
    middle = round((y.start + y.end) / 2, 1)
    return EMPTY.join([*parts, turned.format(middle, _text(0, 0, up, "middle"))])


def _legend(names: Sequence[str]) -> tuple[Markup, float]:
    """Return the rows of the legend, and how far down they reach."""
    parts, x, y = [], float(LEFT), float(EDGE)
    for n, name in enumerate(names):
        style, width = STYLES[n % len(STYLES)], 44 + LETTER * len(name)
        if x > LEFT and x + width > WIDTH - EDGE:
            x, y = float(LEFT), y + ROW
        parts.append(_path([(x, y), (x + 30, y)], style._replace(marker="")))
        parts.append(_marker(x + 15, y, style))
        parts.append(_text(x + 36, y + 4, name, "start"))
        x += width + 8
    return EMPTY.join(parts), y + ROW


def _beside(labels: Sequence[Label], right: float) -> Markup:
    """Return labels right of the chart, none over another, tied to their ends."""
    shown = sorted((label for label in labels if label.text), key=lambda one: one.y)
    parts, least = [], 0.0
    for n, label in enumerate(shown, 1):
        most = HEIGHT - BOTTOM - ROW * (len(shown) - n)  # leaves room for the others
        place = max(least, min(label.y, most))
        least = place + ROW
        if label.x < right - 1 or abs(place - label.y) > 1:
            parts.append(_rule(label.x + 5, label.y, right + 6, place, label.colour))
        parts.append(
            _text(right + 10, place + 4, label.text, "start", colour=label.colour)
        )
    return EMPTY.join(parts)


def _path(points: Sequence[tuple[float, float]], style: Style) -> Markup:
    """Return a line through ``points``, with some markers on it, the last one too."""
    line = Markup(
        '<path d="M{}" fill="none" stroke="{}" stroke-width="{}" '
        'stroke-dasharray="{}"/>'
    ).format(
        "L".join(f"{x} {y}" for x, y in points), style.colour, style.width, style.dash
    )
    marked = points[-1:]
    for point in reversed(points):
        if dist(point, marked[-1]) >= APART:
            marked = [*marked, point]
    return line + EMPTY.join(_marker(x, y, style) for x, y in marked)


def _marker(x: float, y: float, style: Style) -> Markup:
    if not style.marker:
        return EMPTY
    return Markup('<path d="{}" transform="translate({} {})" fill="{}"/>').format(
        style.marker, x, y, style.colour
    )


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str = "#ddd") -> Markup:
    return Markup('<path d="M{} {}L{} {}" stroke="{}"/>').format(x1, y1, x2, y2, colour)


def _text(
    x: float, y: float, text: str, anchor: str, name: str = "word", colour: str = "#222"
) -> Markup:
    return Markup(
        '<text x="{}" y="{}" text-anchor="{}" class="{}" fill="{}">{}</text>'
    ).format(round(x, 1), round(y, 1), anchor, name, colour, text)
