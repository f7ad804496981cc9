"""What charts are drawn with: words, rules, lines, markers, the frame of two axes.

Everything is inline SVG without a script, a font or a file from elsewhere. Each part
has a class (``word``, ``tick``, ``grid``, ``axis``), so that a page may dress it for
the dark; without any style it is drawn for light paper.
"""

from collections.abc import Mapping, Sequence
from math import dist
from typing import NamedTuple

from markupsafe import Markup

from simulations.charts.axes import Scale, tick

TEXT, ROW, LETTER = 13, 18, 7  # height of letters, of a row; width of a letter
FOOT = 42  # from an axis down to its name
APART = 50  # least pixels between two markers of one line
INK, GRID = "#222", "#ddd"
PAPER = "var(--paper, #fff)"
EMPTY = Markup("")
Pixels = Sequence[tuple[float, float]]


class Style(NamedTuple):
    """How one series is told from the others, in colour and without."""

    colour: str
    dash: str
    marker: str  # a path around 0, 0
    width: float = 1.8
    hollow: bool = False


class Label(NamedTuple):
    """Where something ends, in pixels, and what is to stand beside it."""

    x: float
    y: float
    style: Style
    text: str


def svg(title: str, inside: Markup, width: float, height: float) -> Markup:
    """Return a whole chart as one element, readable at 100 %."""
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" '
        'height="{h}" role="img" font-size="{size}"><title>{title}</title>{inside}'
        "</svg>"
    ).format(w=width, h=height, size=TEXT, title=title, inside=inside)


def frame(
    x: Scale, y: Scale, across: str, up: str, marked: Mapping[float, str] | None = None
) -> Markup:
    """Return the grid, the ticks and the names of both axes.

    Args:
        x: From left to right.
        y: From bottom to top.
        across: Name of ``x``.
        up: Name of ``y``.
        marked: Values of ``x`` to be marked, and how; round ones if there are none.
    """
    parts = []
    for value, said in (marked or {v: tick(v) for v in x.ticks()}).items():
        parts.append(rule(x(value), y.start, x(value), y.end))
        parts.append(text(x(value), y.start + ROW, said, "middle", "tick"))
    for value in y.ticks():
        parts.append(rule(x.start, y(value), x.end, y(value)))
        parts.append(text(x.start - 7, y(value) + 4, tick(value), "end", "tick"))
    parts.append(rule(x.start, y.end, x.start, y.start, INK, "axis"))
    parts.append(rule(x.start, y.start, x.end, y.start, INK, "axis"))
    parts.append(text((x.start + x.end) / 2, y.start + FOOT, across, "middle"))
    turned = Markup('<g transform="translate(15 {}) rotate(-90)">{}</g>')
    middle = round((y.start + y.end) / 2, 1)
    return EMPTY.join([*parts, turned.format(middle, text(0, 0, up, "middle"))])


def beside(labels: Sequence[Label], right: float, floor: float) -> Markup:
    """Return labels right of the chart, none over another, tied to their ends.

    Args:
        labels: In any order; those without a text are left out.
        right: Where the chart ends.
        floor: How far down labels may stand.
    """
    shown = sorted((label for label in labels if label.text), key=lambda one: one.y)
    parts, least = [], float(TEXT) / 2
    for n, label in enumerate(shown, 1):
        most = floor - ROW * (len(shown) - n)  # leaves room for the others
        place, style = max(least, min(label.y, most)), label.style
        least = place + ROW
        if label.x < right - 1 or abs(place - label.y) > 1:
            parts.append(
                rule(label.x + 5, label.y, right + 6, place, style.colour, "tie")
            )
        if style.marker:
            parts.append(marker(right + 14, place, style))
        start = right + (24 if style.marker else 10)
        parts.append(text(start, place + 4, label.text, "start", "end", style.colour))
    return EMPTY.join(parts)


def path(points: Pixels, style: Style) -> Markup:
    """Return a line through ``points``, with some markers on it, the last one too."""
    marked = list(points[-1:])
    for point in reversed(points):
        if dist(point, marked[-1]) >= APART:
            marked.append(point)
    return line(points, style) + EMPTY.join(marker(x, y, style) for x, y in marked)


def line(points: Pixels, style: Style) -> Markup:
    """Return a line through ``points`` without a marker."""
    return Markup(
        '<path d="M{}" fill="none" stroke="{}" stroke-width="{}" '
        'stroke-dasharray="{}"/>'
    ).format(
        "L".join(f"{x} {y}" for x, y in points), style.colour, style.width, style.dash
    )


def marker(x: float, y: float, style: Style) -> Markup:
    """Return the marker of a style, filled or as an outline; nothing if it has none."""
    if not style.marker:
        return EMPTY
    if style.hollow:
        return Markup(
            '<path d="{}" transform="translate({} {})" fill="{}" stroke="{}" '
            'stroke-width="1.6"/>'
        ).format(style.marker, x, y, PAPER, style.colour)
    return Markup('<path d="{}" transform="translate({} {})" fill="{}"/>').format(
        style.marker, x, y, style.colour
    )


def rule(  # two points, and how they are joined
    x1: float, y1: float, x2: float, y2: float, colour: str = GRID, name: str = "grid"
) -> Markup:
    """Return a thin straight line."""
    return Markup('<path d="M{} {}L{} {}" stroke="{}" class="{}"/>').format(
        x1, y1, x2, y2, colour, name
    )


def text(  # a place, what stands there, and how it looks
    x: float, y: float, words: str, anchor: str, name: str = "word", colour: str = INK
) -> Markup:
    """Return words; ``anchor`` says which end of them stands at ``x``."""
    return Markup(
        '<text x="{}" y="{}" text-anchor="{}" class="{}" fill="{}">{}</text>'
    ).format(round(x, 1), round(y, 1), anchor, name, colour, words)
