"""Small charts side by side as one SVG file: points, lines through them, their axes.

Like the charts of an audit report it needs no script and no font or file from
elsewhere. Each height begins at zero, so that a ratio is seen as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from simulations.audit.plots import STYLES
from simulations.charts.axes import Axis, Scale, axis, scale, tick
from simulations.charts.marks import Style

WIDTH, HEIGHT, COLUMNS = 420, 290, 2  # of one panel, in pixels at 100 %
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 34, 46  # margins within it
TEXT, TITLE, ROW = 12, 14, 16  # height of letters, of a title's, of a row
HEADROOM = 1.15  # of the height of the highest point
EMPTY = Markup("")
Points = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Points (x, y); drawn as a line, as marks, or as both."""

    name: str
    points: Points
    joined: bool = True
    marked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart: its title, what its axes show, and its lines."""

    title: str
    across: Axis
    up: str
    drawn: Sequence[Line]


def svg(panels: Sequence[Panel]) -> str:
    """Return the panels, row by row, as the text of an SVG file.

    Raises:
        ConfigError: If a panel has nothing to show.
    """
    rows = -(-len(panels) // COLUMNS)
    placed = [
        Markup('<g transform="translate({} {})">{}</g>').format(
            WIDTH * (n % COLUMNS), HEIGHT * (n // COLUMNS), _panel(panel)
        )
        for n, panel in enumerate(panels)
    ]
    return str(
        Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" '
            'height="{h}" font-family="sans-serif" font-size="{size}">'
            '<rect width="{w}" height="{h}" fill="#fff"/>{inside}</svg>\n'
        ).format(
            w=WIDTH * COLUMNS, h=HEIGHT * rows, size=TEXT, inside=EMPTY.join(placed)
        )
    )


def _panel(panel: Panel) -> Markup:
    points = [point for line in panel.drawn for point in line.points]
    top = TOP + ROW * sum(bool(line.name) for line in panel.drawn)
    highest = HEADROOM * max(y for _, y in points)
    x = scale(panel.across, [x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = axis(panel.up, low=0.0, high=highest)
    y = scale(up, [y for _, y in points], HEIGHT - BOTTOM, top)
    lines = [
        _line([(x(a), y(b)) for a, b in line.points], line, style)
        for line, style in zip(panel.drawn, STYLES, strict=False)
    ]
    title = _text(LEFT, 20, panel.title, size=TITLE)
    return EMPTY.join([title, _legend(panel.drawn), _frame(x, y, panel), *lines])


def _frame(x: Scale, y: Scale, panel: Panel) -> Markup:
    """Return the grid, the ticks and the names of both axes."""
    parts = [
        part
        for value in x.ticks()
        for part in (
            _rule(x(value), y.start, x(value), y.end),
            _text(x(value), y.start + ROW, tick(value), "middle"),
        )
    ]
    parts += [
        part
        for value in y.ticks()
        for part in (
            _rule(x.start, y(value), x.end, y(value)),
            _text(x.start - 6, y(value) + 4, tick(value), "end"),
        )
    ]
    parts.append(_rule(x.start, y.start, x.end, y.start, "#222"))
    parts.append(
        _text((x.start + x.end) / 2, HEIGHT - 10, panel.across["label"], "middle")
    )
    turned = Markup('<g transform="translate(14 {}) rotate(-90)">{}</g>')
    name = _text(0, 0, panel.up, "middle")
    return EMPTY.join([*parts, turned.format((y.start + y.end) / 2, name)])


def _legend(drawn: Sequence[Line]) -> Markup:
    """Return one row for each line that has a name."""
    parts = []
    for n, (line, style) in enumerate(zip(drawn, STYLES, strict=False)):
        height = TOP + 4 + n * ROW
        if line.name:
            parts += [_path([(LEFT, height), (LEFT + 24, height)], style)] * line.joined
            parts += [_mark(LEFT + 12, height, style)] * line.marked
            parts.append(_text(LEFT + 32, height + 4, line.name))
    return EMPTY.join(parts)


def _line(points: Points, line: Line, style: Style) -> Markup:
    """Return a line through pixels, a mark at each of them, or both."""
    marks = [_mark(x, y, style) for x, y in points]
    return EMPTY.join([_path(points, style)] * line.joined + marks * line.marked)


def _path(points: Points, style: Style) -> Markup:
    return Markup(
        '<path d="M{}" fill="none" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>'
    ).format("L".join(f"{x} {y}" for x, y in points), style.colour, style.dash)


def _mark(x: float, y: float, style: Style) -> Markup:
    return Markup('<path d="{}" transform="translate({} {})" fill="{}"/>').format(
        style.marker, x, y, style.colour
    )


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str = "#ddd") -> Markup:
    return Markup('<path d="M{} {}L{} {}" stroke="{}"/>').format(x1, y1, x2, y2, colour)


def _text(
    x: float, y: float, text: str, anchor: str = "start", size: int = TEXT
) -> Markup:
    return Markup(
        '<text x="{}" y="{}" text-anchor="{}" font-size="{}" fill="#222">{}</text>'
    ).format(round(x, 1), round(y, 1), anchor, size, text)
