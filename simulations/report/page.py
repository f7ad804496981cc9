"""A report as one offline page: no script, and nothing that is loaded from elsewhere.

It shows what stands in ``report.json`` and nothing else; every text is escaped.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shared.durable import replace_file
from simulations.report import run_page, sweep_page
from simulations.report.content import Page
from simulations.report.plots import HATCH
from simulations.report.schema import SCHEMA, SWEEP

HERE, TEMPLATE, STYLE = Path(__file__).parent, "report.html.j2", "report.css"
NAME = "report.html"
PAGES: Mapping[str, Callable[[Mapping[str, Any]], Page]] = {
    SCHEMA: run_page.page,
    SWEEP: sweep_page.page,
}


def write_page(folder: Path, made: Mapping[str, Any]) -> None:
    """Write ``report.html`` of a run or of a sweep, by its schema, all or nothing."""
    write_html(folder / NAME, PAGES[made["schema"]](made))


def write_html(path: Path, page: Page) -> None:
    """Write a page all or nothing."""
    replace_file(path, html(page).encode())


def html(page: Page) -> str:
    """Return a page as well-formed HTML."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = (HERE / STYLE).read_text("utf-8")
    template = environment.get_template(TEMPLATE)
    return template.render(page=page, style=style, hatch=HATCH)
