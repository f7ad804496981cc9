"""Charts of arms: bars, courses over a key, small panels of sites.

An arm looks the same in every chart. What promises nothing is dashed, hollow or hatched
and carries the words NOT PRIVATE. Colours are in the manner of Okabe and Ito's, safe
for the colour-blind, and every arm also has a marker of its own, for print.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from simulations.charts.axes import Axis, Scale, axis, scale, tick
from simulations.charts.marks import (
    EMPTY,
    INK,
    LETTER,
    ROW,
    Label,
    Pixels,
    Style,
    beside,
    frame,
    line,
    marker,
    path,
    rule,
    svg,
    text,
)
from simulations.report.content import OPEN

WIDTH, LEFT, EDGE, BOTTOM, TOP = 860, 66, 10, 50, 14  # in pixels at 100 %
HEIGHT, BAR = 340, 26  # least height of courses; height of a bar with its gap
STUB = 30  # pixels of a level that is only hinted at
PANEL, PANELS = 132, 3  # height of a small panel, panels beside each other
HIGHEST = 1.6  # of the highest mean: where a chart ends, however wide an interval
SLANTED = 3  # least pixels of a bar that is hatched; a thinner one is an outline
DASH, DOTS = "7 4", "2 4"

BLUE, RED, GREEN = (
    "var(--blue, #0072b2)",
    "var(--red, #c44e00)",
    "var(--green, #007a5a)",
)
PLUM, OCHRE, GREY = (
    "var(--plum, #8f4e80)",
    "var(--ochre, #8a6200)",
    "var(--grey, #62686d)",
)
TEAL = "var(--teal, #2a7f9e)"
CIRCLE = "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z"
SQUARE = "M-4.3 -4.3h8.6v8.6h-8.6z"
UPWARD, DOWNWARD = "M0 -5.5l5.2 9.2h-10.4z", "M0 5.5l5.2 -9.2h-10.4z"
DIAMOND = "M0 -6l6 6l-6 6l-6 -6z"
CROSS = "M-1.8 -5.4h3.6v3.6h3.6v3.6h-3.6v3.6h-3.6v-3.6h-3.6v-3.6h3.6z"
STAR = "M0 -6.2l1.7 4.1l4.4 .3l-3.4 2.9l1.1 4.3l-3.8 -2.4l-3.8 2.4l1.1 -4.3l-3.4 -2.9l4.4 -.3z"  # noqa: E501  # one path
PENTAGON = "M0 -5.6l5.4 3.9l-2.1 6.3h-6.6l-2.1 -6.3z"
HOURGLASS, BOW = "M-4.6 -5h9.2l-9.2 10h9.2z", "M-5 -4.6v9.2l10 -9.2v9.2z"
LOZENGE = "M0 -6.5l3.6 6.5l-3.6 6.5l-3.6 -6.5z"
LOOKS = {  # arm -> colour, marker
    "federated": (BLUE, CIRCLE),
    "federated-no-dp": (BLUE, CIRCLE),
    "local": (RED, SQUARE),
    "local-no-dp": (RED, SQUARE),
    "central-no-dp": (TEAL, STAR),
    "text": (GREEN, UPWARD),
    "text-dp-popularity": (GREEN, DOWNWARD),
    "cf": (PLUM, DIAMOND),
    "popularity": (GREY, CROSS),
    "dp-popularity": (GREY, CROSS),
    "item-knn": (OCHRE, PENTAGON),
    "ease": (OCHRE, HOURGLASS),
    "als": (OCHRE, BOW),
    "bpr": (OCHRE, LOZENGE),
}
OTHER = (TEAL, SQUARE)
PUBLISHED = {"BPR": SQUARE, "low rank": UPWARD, "DP popularity": CROSS}  # by name
HATCH = Markup(
    '<svg class="defs" width="0" height="0" aria-hidden="true"><defs>'
    '<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
    'patternTransform="rotate(45)"><rect width="3" height="6" '
    'fill="var(--paper, #fff)"/></pattern></defs></svg>'
)  # once in a page, over the colour of what promises nothing


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure with its interval.

    Attributes:
        name: What it is of.
        arm: Whose looks it has.
        private: Whether that promises anything.
        mean: The figure.
        low: Where its interval begins.
        high: Where it ends.
    """

    name: str
    arm: str
    private: bool
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """One arm over a key, or a figure of others beside it.

    Attributes:
        name: What stands at its end.
        arm: Whose looks it has; "" for a reference, which has its own.
        private: Whether it promises anything.
        points: (x, mean, low, high); without x it holds for all of them.
    """

    name: str
    arm: str
    private: bool
    points: Sequence[tuple[float | None, float, float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One arm's figure at every site."""

    arm: str
    private: bool
    heights: Sequence[float]


def style(arm: str, *, private: bool) -> Style:
    """Return how an arm looks in every chart."""
    colour, shape = LOOKS.get(arm, OTHER)
    return Style(
        colour, "none" if private else DASH, shape, 2.0 if private else 1.6, not private
    )


def words(name: str, *, private: bool) -> str:
    """Return a name with the words NOT PRIVATE where they belong."""
    return name if private else f"{name}, {OPEN}"


def bars(title: str, across: str, rows: Sequence[Bar], *, dots: bool = False) -> Markup:
    """Return one row for each figure: a bar from nought, or a dot, and its interval."""
    names = [words(row.name, private=row.private) for row in rows]
    left = 16 + LETTER * max(map(len, names))
    floor = TOP + BAR * len(rows)
    reach = [0.0, *(v for row in rows for v in (row.low, row.high, row.mean))]
    x = scale(axis(across), reach, left, WIDTH - EDGE - 9 * LETTER)
    parts = [_grid(x, TOP, floor, across)]
    for n, (row, name) in enumerate(zip(rows, names, strict=True)):
        middle, look = TOP + BAR * (n + 0.5), style(row.arm, private=row.private)
        parts.append(text(left - 8, middle + 4, name, "end"))
        if not dots:
            parts.append(_block(x(0), x(row.mean), middle - 7, middle + 7, look))
        parts.append(rule(x(row.low), middle, x(row.high), middle, INK, "reach"))
        parts += [
            rule(x(end), middle - 4, x(end), middle + 4, INK, "reach")
            for end in (row.low, row.high)
        ]
        if dots:
            parts.append(marker(x(row.mean), middle, look))
        form = "{:+.4f}" if dots else "{:.4f}"
        far = max(x(row.high), x(row.mean), x(0))
        parts.append(text(far + 6, middle + 4, form.format(row.mean), "start", "tick"))
    parts.append(rule(x(0), TOP, x(0), floor, INK, "axis"))
    return svg(title, EMPTY.join(parts), WIDTH, floor + BOTTOM)


def courses(
    title: str,
    x: Axis,
    up: str,
    drawn: Sequence[Course],
    marked: Mapping[float, str] | None = None,
) -> Markup:
    """Return lines with the bands of their intervals, each named at its end.

    Args:
        title: Of the chart.
        x: What it goes over.
        up: What it shows.
        drawn: At least one of them with values of x.
        marked: Values of x to be marked, and how; round ones if there are none.
    """
    names = [words(one.name, private=one.private) for one in drawn]
    right = WIDTH - EDGE - 26 - LETTER * max(map(len, names))
    floor = max(HEIGHT - BOTTOM, TOP + ROW * len(drawn))
    means = [point[1] for one in drawn for point in one.points]
    ends = [v for one in drawn for point in one.points for v in point[2:]]
    at = [p[0] for one in drawn for p in one.points if p[0] is not None]
    across = scale(_padded(x, at), at, LEFT, right)
    low, high = _reach(means, ends)
    height = scale(axis(up, low=low, high=high), means, floor, TOP)
    parts, labels = [frame(across, height, x["label"], up, marked)], []
    for one, name in zip(drawn, names, strict=True):
        look = _look(one)
        line_at = _pixels(one, across, height)
        if one.arm and one.private:
            parts.append(_band(one, across, height, look))
        flat = one.points[0][0] is None
        parts.append(line(line_at, look) if flat else path(line_at, look))
        labels.append(Label(*line_at[-1], look, name))
    return svg(
        title,
        EMPTY.join([*parts, beside(labels, right, floor)]),
        WIDTH,
        floor + BOTTOM,
    )


def panels(title: str, up: str, drawn: Sequence[Panel]) -> Markup:
    """Return a small panel for each arm, a bar for each site, all on one scale."""
    wide, gap = (WIDTH - LEFT) / PANELS, 22
    highest = max(max(one.heights) for one in drawn) or 1.0
    parts = []
    for n, one in enumerate(drawn):
        left, top = LEFT + wide * (n % PANELS), PANEL * (n // PANELS)
        floor, look = top + PANEL - 20, style(one.arm, private=one.private)
        y = scale(axis(up, low=0.0, high=highest), [highest], floor, top + 28)
        for value in y.ticks():
            parts.append(rule(left, y(value), left + wide - gap, y(value)))
            if n % PANELS == 0:
                parts.append(text(left - 7, y(value) + 4, tick(value), "end", "tick"))
        step = (wide - gap) / len(one.heights)
        for place, value in enumerate(one.heights):
            begin = left + step * (place + 0.1)
            parts.append(_block(begin, begin + step * 0.8, y(value), floor, look))
        parts.append(rule(left, floor, left + wide - gap, floor, INK, "axis"))
        parts.append(text(left, top + 16, words(one.arm, private=one.private), "start"))
    rows = -(-len(drawn) // PANELS)
    turned = Markup('<g transform="translate(15 {}) rotate(-90)">{}</g>')
    parts.append(turned.format(PANEL * rows / 2, text(0, 0, up, "middle")))
    return svg(title, EMPTY.join(parts), WIDTH, PANEL * rows)


def _look(one: Course) -> Style:
    """Return how a course looks; one of others is grey, dotted and hollow."""
    if one.arm:
        return style(one.arm, private=one.private)
    shape = PUBLISHED.get(one.name.partition(",")[0], LOZENGE)
    return Style(GREY, DOTS, shape, 1.2, hollow=True)


def _grid(x: Scale, top: float, floor: float, across: str) -> Markup:
    """Return the grid of an axis that goes from left to right, and its name."""
    parts = []
    for value in x.ticks():
        parts.append(rule(x(value), top, x(value), floor))
        parts.append(text(x(value), floor + ROW, tick(value), "middle", "tick"))
    parts.append(text((x.start + x.end) / 2, floor + 42, across, "middle"))
    return EMPTY.join(parts)


def _block(left: float, right: float, top: float, floor: float, look: Style) -> Markup:
    """Return a bar; hatched if it promises nothing."""
    sizes = [round(v, 1) for v in (left, top, max(right - left, 0.5), floor - top)]
    whole = Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}"/>')
    drawn = whole.format(*sizes, look.colour)
    if not look.hollow:
        return drawn
    if right - left < SLANTED:
        return Markup('<g opacity=".45">{}</g>').format(drawn)
    return drawn + whole.format(*sizes, "url(#hatch)")


def _pixels(one: Course, x: Scale, y: Scale) -> Pixels:
    """Return a course in pixels; what holds for all x goes from end to end."""
    if one.points[0][0] is None:
        height = y(one.points[0][1])
        return [(x.start if one.arm else x.end - STUB, height), (x.end, height)]
    return [(x(at), y(mean)) for at, mean, _, _ in one.points if at is not None]


def _band(one: Course, x: Scale, y: Scale, look: Style) -> Markup:
    """Return the interval of a course as a pale area."""
    if one.points[0][0] is None:
        _, _, low, high = one.points[0]
        edge = [(at, _held(y, v)) for at, v in ((x.start, low), (x.end, low))]
        edge += [(at, _held(y, v)) for at, v in ((x.end, high), (x.start, high))]
    else:
        on = [
            (x(at), _held(y, low), _held(y, high))
            for at, _, low, high in one.points
            if at is not None
        ]
        edge = [(at, low) for at, low, _ in on]
        edge += [(at, high) for at, _, high in reversed(on)]
    return Markup('<path d="M{}z" fill="{}" fill-opacity="0.13"/>').format(
        "L".join(f"{a} {b}" for a, b in edge), look.colour
    )


def _held(y: Scale, value: float) -> float:
    """Return the pixel of a value, or of the edge that it lies beyond."""
    return y(min(max(value, y.low), y.high))


def _padded(x: Axis, at: Sequence[float]) -> Axis:
    """Return the axis with a little room before the first and after the last value."""
    low, high = min(at), max(at)
    if x["kind"] == "log":
        room = (high / low) ** 0.03
        return axis(x["label"], "log", low=low / room, high=high * room)
    room = (high - low) * 0.03
    return axis(x["label"], x["kind"], low=low - room, high=high + room)


def _reach(means: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """Return where heights begin and end: at nought, unless all means are far from it.

    An interval as wide as the figure itself does not press the lines together: what is
    beyond the chart is cut.
    """
    most = max(means) * HIGHEST
    high = max(*means, min(max(ends), most)) or 0.1
    low = max(0.0, min(*means, *ends))
    room = (high - low) * 0.06 or high * 0.1
    return (low - room if low - room > 0.5 * high else 0.0), high + room
