"""The pages of a run and of a sweep in a real browser, on the screen and on paper."""

import base64
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from simulations.report.compare import compare
from simulations.report.compare_page import page
from simulations.report.page import NAME, write_html, write_page
from tests.end_to_end.browser import BROWSERS, PATIENCE_S, Tab, browser
from tests.simulations.report.examples import a_run, a_sweep

PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), "")
PAPER = 695  # pixels between the margins of A4
TOO_WIDE = """[...document.querySelectorAll('body *')]
  .filter(each => !each.closest('svg') || each.tagName === 'svg')
  .filter(each => each.getBoundingClientRect().right > innerWidth + 1)
  .map(each => each.tagName + ' ' + each.textContent.slice(0, 40))"""
CUT_WORDS = """[...document.querySelectorAll('figure svg')].flatMap(svg => {
  const whole = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const own = text.getBoundingClientRect();
    return own.left < whole.left - 1 || own.right > whole.right + 1 ||
      own.top < whole.top - 1 || own.bottom > whole.bottom + 1;
  }).map(text => text.textContent);
})"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="needs chromium"),
]


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with browser(PROGRAM, tmp_path / "profile") as opened:
        yield opened


def compared(folder: Path) -> Path:
    """The page of two runs side by side."""
    for name, made in (("one", a_run()), ("other", a_run(sites=1))):
        (folder / name).mkdir()
        (folder / name / "report.json").write_text(json.dumps(made), "utf-8")
    write_html(folder / NAME, page(compare([folder / "one", folder / "other"])))
    return folder / NAME


def written(folder: Path, kind: str) -> Path:
    """A page with everything that there can be on it."""
    made: Mapping[str, Mapping[str, Any]] = {
        "run": a_run(),
        "run of many sites": a_run(sites=60),
        "sweep": a_sweep(),
        "sweep of two keys": a_sweep(
            {"epsilon": [1, 2], "partition": ["iid", "taste"]}
        ),
    }
    if kind == "comparison":
        return compared(folder)
    write_page(folder, made[kind])
    return folder / NAME


def opened(tab: Tab, path: Path) -> None:
    """Open a page and wait until all of it is there."""
    tab.open(path.as_uri())
    until = time.monotonic() + PATIENCE_S
    while not tab.run(
        "document.readyState === 'complete' && !!document.querySelector('main')"
    ):
        assert time.monotonic() < until, "the page does not open"
        time.sleep(0.05)


KINDS = ("run", "run of many sites", "sweep", "sweep of two keys", "comparison")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_opens_offline_and_fits_the_screen_and_the_paper(
    tab: Tab, tmp_path: Path, kind: str
) -> None:
    opened(tab, written(tmp_path, kind))
    for scheme in ("light", "dark"):
        tab.dress(1000, scheme)
        assert tab.run(TOO_WIDE) == []
        assert tab.run(CUT_WORDS) == []
        tab.shoot(tmp_path / f"{scheme}.png")
    asked = tab.run("performance.getEntriesByType('resource').map(each => each.name)")
    tab.dress(PAPER, "dark")
    at_night = [{"name": "prefers-color-scheme", "value": "dark"}]
    tab.ask("Emulation.setEmulatedMedia", media="print", features=at_night)
    paper = tab.run("getComputedStyle(document.body).backgroundColor")

    assert tab.run(TOO_WIDE) == []
    assert tab.run(CUT_WORDS) == []
    assert paper == "rgb(255, 255, 255)"
    assert asked == []
    assert tab.complaints == []


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_page_prints_and_no_row_is_split(tab: Tab, tmp_path: Path, kind: str) -> None:
    opened(tab, written(tmp_path, kind))
    told = tab.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    pdf = base64.b64decode(told["data"])
    tab.ask("Emulation.setEmulatedMedia", media="print")
    kept = tab.run(
        "[...new Set([...document.querySelectorAll('tr, figure')]"
        ".map(each => getComputedStyle(each).breakInside))]"
    )
    tall = tab.run(
        "Math.max(...[...document.querySelectorAll('tr, figure')]"
        ".map(each => each.getBoundingClientRect().height))"
    )

    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf)) > 2
    assert kept == ["avoid"]
    assert tall < 1000  # what is kept whole fits a page
