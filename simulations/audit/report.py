"""The audit report: one verdict, a paragraph for each site, the 17 items of PRIVACY 8.

``report.json`` holds everything; ``report.html`` shows that and nothing else, in one
file without scripts that opens offline and prints. A file that is not an audit report
is never written over.
"""

import json
import math
import os
import platform
import re
import shutil
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from shared.errors import ConfigError, TacitError
from simulations.audit.accounts import Account, account
from simulations.audit.evidence import Evidence
from simulations.audit.items import (
    attacks,
    promise,
    spending,
    summary,
    utility,
    workings,
)
from simulations.audit.items.content import Case, Content
from simulations.audit.plots import draw

SCHEMA = "tacit/audit-report/1"
HERE = Path(__file__).parent
SENTENCES, TEMPLATE = HERE / "items" / "sentences.toml", "report.html.j2"
LIBRARIES = ("tacit", "dp-accounting", "opacus", "torch", "numpy", "scipy", "flwr")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PRINTING_S = 120  # longest wait for a browser
ALARM = re.compile(
    "NOT PRIVATE|DOES NOT HOLD|DO NOT AGREE|FAILS?|WRONG|POPULARITY|cannot be stated"
)
CONTENTS: Mapping[str, Callable[[Case], Content]] = {  # of the items in sentences.toml
    "setting": promise.setting,
    "unit": promise.unit,
    "relation": promise.relation,
    "numbers": promise.numbers,
    "release": spending.release,
    "mechanism": workings.mechanism,
    "accountant": workings.accountant,
    "data": workings.data,
    "budget": spending.budget,
    "people": promise.people,
    "randomness": workings.randomness,
    "provenance": workings.provenance,
    "empirical": attacks.empirical,
    "utility": utility.utility,
    "meaning": promise.meaning,
    "limits": lambda _: Content(),
    "recompute": spending.recompute,
}


def build(evidence: Evidence, *, command: str, made: datetime) -> dict[str, Any]:
    """Return the report as JSON values; what is infinite in them is None.

    Args:
        evidence: What was given; its ledgers are audited here.
        command: The command that the report was asked with.
        made: The date that it bears.

    Raises:
        ConfigError: If a policy file cannot be read, or two ledgers are of one site.
    """
    accounts = [account(book, evidence.registry) for book in evidence.books]
    _require_distinct(accounts)
    accounts.sort(key=lambda one: (one.private and one.holds, -one.epsilon, one.site))
    case = Case(evidence=evidence, accounts=accounts)
    findings = _findings(case)
    report = {
        "schema": SCHEMA,
        "generated": made.isoformat(timespec="seconds"),
        "command": command,
        "tools": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
        "verdict": summary.verdict(case, findings),
        "sites": [summary.site(one) for one in accounts],
        "items": _items(case),
        "findings": findings,
    }
    plain: dict[str, Any] = _plain(report)
    return plain


def write(report: Mapping[str, Any], out: Path) -> Path:
    """Write ``out``, which ends in .html, and the JSON beside it; return the latter.

    Raises:
        ConfigError: If ``out`` does not end in .html, or another kind of JSON is there.
    """
    if out.suffix != ".html":
        raise ConfigError(f"--out {out} must end in .html; its JSON goes beside it")
    beside = out.with_suffix(".json")
    if beside.exists() and not _is_ours(beside):
        raise ConfigError(
            f"{beside} is there and is no audit report: it would be lost; give another "
            "name with --out"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    for path, content in ((beside, text), (out, html(report))):
        fresh = path.with_name(f"{path.name}.new")
        fresh.write_text(content, "utf-8")
        fresh.replace(path)
    return beside


def html(report: Mapping[str, Any]) -> str:
    """Return the report as one page of well-formed HTML."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(draw=draw, alarming=alarming)
    return environment.get_template(TEMPLATE).render(report=report)


def alarming(text: str) -> Markup:
    """Return a text with what should alarm a reader in red."""
    safe = str(escape(text))
    return Markup(ALARM.sub(r'<strong class="alarm">\g<0></strong>', safe))  # noqa: S704 - escaped


def print_pdf(page: Path) -> Path:
    """Print the page to a PDF beside it with a browser, and return that.

    Raises:
        ConfigError: If there is no browser.
        TacitError: If the browser prints nothing.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise ConfigError(
            f"--pdf needs one of {', '.join(BROWSERS)}: apt-get install chromium, or "
            f"print {page} from any browser"
        )
    pdf = page.with_suffix(".pdf")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses root without
    words = [browser, "--headless", *root, "--no-pdf-header-footer"]
    done = subprocess.run(  # noqa: S603 - our own page
        [*words, f"--print-to-pdf={pdf.absolute()}", page.absolute().as_uri()],
        capture_output=True,
        text=True,
        timeout=PRINTING_S,
        check=False,
    )
    if done.returncode or not pdf.exists():
        raise TacitError(
            f"{browser} did not print {page}: {done.stderr.strip()[-200:]}"
        )
    return pdf


def _require_distinct(accounts: Sequence[Account]) -> None:
    """Demand one ledger for each site: what it spent would count twice."""
    for site, count in Counter(one.site for one in accounts).items():
        if count > 1:
            files = [str(one.book.ledger) for one in accounts if one.site == site]
            raise ConfigError(
                f"report: {count} ledgers are of site {site!r}; give one of "
                f"{', '.join(files)}"
            )


def _findings(case: Case) -> list[dict[str, Any]]:
    """Return everything that was checked, and about what."""
    evidence = case.evidence
    found = [(one.site, finding) for one in case.accounts for finding in one.findings]
    if evidence.empirical is not None:
        found += [("training code", f) for f in evidence.empirical.findings]
    if evidence.mutants:
        found.append(("the audits", attacks.bugs_finding(evidence.mutants)))
    return [{"about": about, **finding.to_dict()} for about, finding in found]


def _items(case: Case) -> list[dict[str, Any]]:
    """Return the items in order, their sentences filled with what was found."""
    made = []
    for key, told in tomllib.loads(SENTENCES.read_text("utf-8")).items():
        content = CONTENTS[key](case)
        says = [sentence.format(**content.words) for sentence in told["says"]]
        made.append(
            {
                "number": told["number"],
                "key": key,
                "title": told["title"],
                "says": [*says, *content.says],
                "figures": content.figures,
                "tables": content.tables,
                "charts": content.charts,
            }
        )
    return made


def _is_ours(path: Path) -> bool:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("schema") == SCHEMA


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: no tuples, and nothing that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
