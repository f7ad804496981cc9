"""What a page of a report consists of, and how figures stand in its cells.

A name of something that promises nothing carries the words NOT PRIVATE wherever it
stands; a cell without a value says so, and never shows a number in its place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

OPEN = "NOT PRIVATE"
NOTHING = "\N{EN DASH}"
NDCG, HR = "ndcg@10", "hr@10"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What it says.
        beside: Said smaller beside it, such as an interval.
        mark: What a reader must not miss, such as NOT PRIVATE.
    """

    text: str
    beside: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of a row is its name."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def open(self) -> bool:
        """Whether a row is of something that promises nothing."""
        return any(row[0].mark for row in self.rows)


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart under its title, and what is to be known about it."""

    title: str
    drawing: Markup
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One part of a page.

    Attributes:
        key: Of its anchor.
        title: Its heading.
        says: Sentences before anything else.
        code: Shown as it is, such as a command.
        points: Sentences of a list.
        figures: Charts.
        tables: Tables.
    """

    key: str
    title: str
    says: Sequence[str] = ()
    code: str = ""
    points: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole page.

    Attributes:
        title: Its heading.
        subtitle: What it is about, in a few words.
        verdict: The one sentence on privacy; it alarms where it says NOT PRIVATE.
        sections: In order; those without content are left out by their makers.
    """

    title: str
    subtitle: str
    verdict: str
    sections: Sequence[Section]


def plain(*texts: object) -> list[Cell]:
    """Return cells that say these."""
    return [Cell(str(text)) for text in texts]


def private(figures: Mapping[str, Any]) -> bool:
    """Return whether an arm promises anything."""
    return not figures.get("label")


def named(arm: str, figures: Mapping[str, Any]) -> Cell:
    """Return an arm's name, with its mark if it promises nothing."""
    return Cell(arm, mark=figures.get("label", ""))


def paired(pair: str, metrics: Mapping[str, Any]) -> Cell:
    """Return "one - other" with a mark if either arm promises nothing."""
    one, _, other = pair.partition(" - ")
    both = private(metrics[one]) and private(metrics[other])
    return Cell(f"{one} \N{MINUS SIGN} {other}", mark="" if both else OPEN)


def interval(
    figure: Mapping[str, float | None] | None, *, signed: bool = False
) -> Cell:
    """Return a mean with its interval beside it."""
    if figure is None or figure["mean"] is None:
        return Cell(NOTHING)
    form = "{:+.4f}" if signed else "{:.4f}"
    low, high = figure["low"], figure["high"]
    if low is None or high is None:
        return Cell(form.format(figure["mean"]))
    spread = f"[{form.format(low)}, {form.format(high)}]"
    return Cell(form.format(figure["mean"]), spread)


def number(value: float | None, form: str = "{:.4f}") -> Cell:
    """Return a number, or that there is none."""
    return Cell(NOTHING if value is None else form.format(value))


def promise(figures: Mapping[str, Any]) -> Cell:
    """Return what an arm promises: its epsilon, or NOT PRIVATE."""
    label, spent = figures.get("label"), figures.get("epsilon")
    if label or spent is None:
        return Cell("", mark=label or OPEN)
    return Cell(f"epsilon {spent:.3f}" if spent else "epsilon 0")


def significance(p: float | None) -> Cell:
    """Return p, or that it is smaller than what is worth telling."""
    if p is None:
        return Cell(NOTHING)
    return Cell("< 0.001" if p < 0.001 else f"{p:.3f}")


def setting(value: object) -> str:
    """Return a value of the configuration as a person reads it."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(setting, value))
    return f"{value:g}" if isinstance(value, float) else str(value) or NOTHING


def where(keys: Mapping[str, object]) -> str:
    """Return a point of a sweep: ``epsilon = 2, sites = 5``."""
    return ", ".join(f"{key} = {setting(value)}" for key, value in keys.items())
