"""One table file, read strictly: cells stay text, every row keeps its number.

What is wrong is collected, class by class, as counts and row numbers. A fault never
repeats a cell, because a cell may be a user's.
"""

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars import selectors as cs
from polars.exceptions import PolarsError

from shared.errors import DataError

SHOWN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text table is written.

    Args:
        separator: Between two cells; may be longer than one character.
        quote: What surrounds a cell that holds a separator; None: nothing does.
        encoding: Of the bytes.
        header: Column names of a file that has no line of names.
    """

    separator: str
    quote: str | None = None
    encoding: str = "utf-8"
    header: tuple[str, ...] = ()


CSV = Layout(",", quote='"')
TSV = Layout("\t")
_LAYOUTS = {".csv": CSV, ".tsv": TSV}


class Faults:
    """Classes of problems with their counts and first rows, raised as one error."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._found: list[str] = []

    def add(self, file: str, what: str, rows: Iterable[int] | None = None) -> None:
        """Note that ``what`` is wrong in ``file``: as a whole, or in these rows."""
        if rows is None:
            self._found.append(f"{file}: {what}")
            return
        numbers = sorted(rows)
        if numbers:
            first = ", ".join(str(number) for number in numbers[:SHOWN_ROWS])
            more = ", ..." if len(numbers) > SHOWN_ROWS else ""
            self._found.append(f"{file}: {what}: {len(numbers)} (row {first}{more})")

    def check(
        self, file: str, rows: pl.DataFrame, checks: Mapping[str, pl.Expr]
    ) -> None:
        """Note every row where a check is true; skip checks on columns not there."""
        for what, wrong in checks.items():
            if set(wrong.meta.root_names()) <= set(rows.columns):
                self.add(file, what, rows.filter(wrong)["row"])

    def raise_if_any(self) -> None:
        """Raise one ``DataError`` that names every class of problem."""
        if self._found:
            head = f"{self._source}: {len(self._found)} problem(s), nothing was loaded"
            raise DataError("\n  ".join([head, *self._found]))


def read(
    path: Path,
    columns: Mapping[str, str],
    faults: Faults,
    layout: Layout | None = None,
    lists: Collection[str] = (),
) -> pl.DataFrame:
    """Read some columns of a CSV, TSV or Parquet file under names of ours.

    Args:
        path: The file; without a ``layout`` its extension says how it is written.
        columns: Our name to the name in the file.
        faults: Told of a file that is missing, unreadable, empty or lacks a column.
        layout: How a text file is written.
        lists: Our names of columns that may hold lists, in Parquet.

    Returns:
        ``row``, the number that a person sees (a line of names is row 1), and each
        usable column, as text or as lists of text. Blank rows are left out.
    """
    layout = layout or _LAYOUTS.get(path.suffix)
    table = _table(path, columns.values(), faults, layout)
    if table is None:
        return pl.DataFrame()
    found = _usable(table, columns, lists)
    # Names that were found are not listed: a file without them begins with a user.
    for name in sorted(set(columns.values()) - set(found.values())):
        held = "does not hold plain values" if name in table.columns else "is missing"
        faults.add(path.name, f"column {name!r} {held}")
    first_row = 2 if layout and not layout.header else 1
    rows = table.with_row_index("#row", offset=first_row).select(
        pl.col("#row").alias("row"),
        *(pl.col(name).alias(ours) for ours, name in found.items()),
    )
    if not found:
        return rows
    rows = rows.filter(~pl.all_horizontal(pl.exclude("row").is_null()))
    if rows.is_empty():
        faults.add(path.name, "holds no rows")
    return rows


def _usable(
    table: pl.DataFrame, columns: Mapping[str, str], lists: Collection[str]
) -> dict[str, str]:
    """Return those of ``columns`` that are there and hold text, or lists if allowed."""
    return {
        ours: name
        for ours, name in columns.items()
        if name in table.columns
        and (
            table.schema[name] == pl.String
            or (ours in lists and table.schema[name] == pl.List(pl.String))
        )
    }


def _table(
    path: Path, names: Iterable[str], faults: Faults, layout: Layout | None
) -> pl.DataFrame | None:
    """Return a file's columns, at least those of ``names``, or None after a fault."""
    if not path.is_file():
        faults.add(path.name, "no such file")
    elif layout:
        return _text(path, layout, faults)
    elif path.suffix == ".parquet":
        return _parquet(path, names, faults)
    else:
        faults.add(path.name, "unknown extension; known: .csv, .tsv, .parquet")
    return None


def _text(path: Path, layout: Layout, faults: Faults) -> pl.DataFrame | None:
    """Return every column of a text table, or None after a fault."""
    data = path.read_bytes()
    try:
        text = data.decode(layout.encoding)
    except UnicodeDecodeError:
        faults.add(path.name, "not UTF-8", _undecodable(data, layout.encoding))
        return None
    separator = layout.separator
    if len(separator) > 1:
        text, separator = text.replace(separator, "\x1f"), "\x1f"
    if layout.header:
        text = f"{separator.join(layout.header)}\n{text}"
    if not text.strip():
        faults.add(path.name, "holds no rows")
        return None
    try:
        return pl.read_csv(
            io.BytesIO(text.encode()),
            separator=separator,
            quote_char=layout.quote,
            infer_schema=False,
        )
    except PolarsError:
        first = 1 if layout.header else 0
        wide = [line - first for line in _too_wide(text, separator, layout.quote)]
        faults.add(path.name, "more cells than names of columns", wide)
        if not wide:
            faults.add(path.name, "not a table; is a quote left open?")
        return None


def _parquet(path: Path, names: Iterable[str], faults: Faults) -> pl.DataFrame | None:
    """Return columns as text, instants as epoch seconds, lists as lists of text."""
    try:
        table = pl.read_parquet(path)
        return (
            table.select(name for name in dict.fromkeys(names) if name in table.columns)
            .with_columns((cs.datetime() | cs.date()).dt.epoch("s"))
            .with_columns(
                cs.list().cast(pl.List(pl.String)), (~cs.nested()).cast(pl.String)
            )
        )
    except (PolarsError, OSError):
        faults.add(path.name, "not a Parquet file, or a column is not of plain values")
        return None


def _undecodable(data: bytes, encoding: str) -> list[int]:
    """Return the numbers of the lines that are not in ``encoding``."""
    wrong = []
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            wrong.append(number)
    return wrong


def _too_wide(text: str, separator: str, quote: str | None) -> list[int]:
    """Return the numbers of the lines that hold more cells than the first."""
    lines = csv.reader(
        io.StringIO(text),
        delimiter=separator,
        quotechar=quote,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )
    try:
        width = len(next(lines))
        return [lines.line_num for cells in lines if len(cells) > width]
    except csv.Error:
        return []
