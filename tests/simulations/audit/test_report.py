"""The audit report: every figure from the evidence, nothing made up, alarms in red."""

import json
import re
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from markupsafe import Markup
from typer.testing import CliRunner

from client.policy import SitePolicy
from client.policy_file import policy_text
from server.registry import Registry
from shared.accounting import epsilon
from shared.errors import ConfigError, PrivacyError
from shared.ledger import Ledger
from simulations.audit import canaries
from simulations.audit.canaries import OneRun
from simulations.audit.cli import app
from simulations.audit.evidence import Book, Evidence, gather
from simulations.audit.finding import Finding
from simulations.audit.items.attacks import RUN_EMPIRICAL, RUN_MUTANTS
from simulations.audit.items.wording import percent, size
from simulations.audit.membership import Attack
from simulations.audit.mutants import known_mutants
from simulations.audit.report import (
    BROWSERS,
    HERE,
    alarming,
    build,
    html,
    print_pdf,
    write,
)
from simulations.report import SCHEMA as RUN_SCHEMA
from tests.shared.books import (
    CHEAP,
    DELTA,
    book,
    limits,
    meddle,
    seal,
    train,
    unprotected,
)
from tests.standin import B, a_plan, tensor, write_start

MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SCHEMA = json.loads((HERE / "report.schema.json").read_text("utf-8"))
NUMBER = re.compile(r"\d[\d.,]*")


def spent(folder: Path, **changes: Any) -> Ledger:
    """A site that trained once, released its popularity, and refused a round."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = book(folder, **changes)
    seal(ledger, train(ledger, 1, what="popularity"), leaves=False)
    seal(ledger, train(ledger, 1))
    ledger.refused("r", 2, "PolicyRefused")
    return ledger


def exposed(folder: Path, **changes: Any) -> Ledger:
    """A site that released something without noise."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = book(folder, float("inf"), **changes)
    seal(ledger, unprotected(ledger, 1))
    return ledger


def broken(folder: Path) -> Ledger:
    """A site whose ledger somebody has edited."""
    ledger = spent(folder)
    meddle(folder, "UPDATE entry SET line = replace(line, '20.0', '99.0')")
    return ledger


def report(*ledgers: Ledger, **given: Any) -> dict[str, Any]:
    """The report on these ledgers."""
    evidence = Evidence(books=tuple(Book(ledger=one.path) for one in ledgers), **given)
    return build(evidence, command="tacit audit report", made=MADE)


def item(made: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = made["items"][number - 1]
    return found


def page(made: dict[str, Any]) -> ElementTree.Element:
    """The page, which must be well-formed XML behind its first line."""
    text = html(made).strip().removeprefix("<!DOCTYPE html>")
    return ElementTree.fromstring(text)  # noqa: S314 - our own text


def shown(element: ElementTree.Element) -> list[str]:
    """All text that a reader sees, without the ticks of axes."""
    if element.tag == "style" or element.get("class") == "tick":
        return [element.tail or ""]
    inner = [text for child in element for text in shown(child)]
    return [element.text or "", *inner, element.tail or ""]


def told(value: Any) -> set[str]:
    """All numbers that stand in a JSON value, as they are written there."""
    if isinstance(value, dict):
        return {n for inner in (*value, *value.values()) for n in told(inner)}
    if isinstance(value, list):
        return {n for inner in value for n in told(inner)}
    return set(NUMBER.findall(value if isinstance(value, str) else json.dumps(value)))


def one_run(**changes: Any) -> OneRun:
    """A one-run audit as it might come out."""
    usual: dict[str, Any] = {
        "claimed": 2.9893,
        "delta": 1e-5,
        "beta": 0.05,
        "sigma": 2.99,
        "q": 0.2,
        "steps": 100,
        "canaries": 6,
        "included": 3,
        "guesses": 2,
        "correct": 1,
        "s23": 0.4,
        "fdp": 0.9,
        "s23_ceiling": 3.47,
        "fdp_ceiling": 5.55,
        "p_value": 0.9,
        "scores_in": (1.0, 2.5, 3.0),
        "scores_out": (-1.0, 0.5, 1.25),
    }
    return OneRun(**{**usual, **changes})


def an_attack(claimed: float | None, tpr: float) -> Attack:
    """Membership inference that finds so many at 1 % false positives."""
    return Attack(
        claimed=claimed,
        delta=1e-5,
        sigma=2.0 if claimed else 0.0,
        prior_sigma=4.0 if claimed else 0.0,
        q=1.0,
        steps=20,
        users=60,
        runs=64,
        members=1900,
        non_members=1940,
        auc=0.61,
        roc=[(0.001, tpr / 8), (0.01, tpr), (1.0, 1.0)],
        one_percent={
            "fpr": 0.01,
            "fpr_high": 0.015,
            "tpr": tpr,
            "low": tpr * 0.9,
            "high": tpr * 1.05,
        },
        tenth_percent=None,
        epsilon_bound=0.2,
        mu_bound=0.1,
        user_aucs=[0.5, 0.6, 0.7],
        user_auc_median=0.6,
        user_auc_highest=0.7,
        user_auc_spread=0.05,
    )


def empirical(folder: Path, run: OneRun, **changes: Any) -> Path:
    """The file of ``tacit audit empirical --out``."""
    made = {
        "command": "tacit audit empirical",
        "one_run": asdict(run),
        "findings": [canaries.finding(run).to_dict()],
        **changes,
    }
    path = folder / "empirical.json"
    path.write_text(json.dumps(made), "utf-8")
    return path


def mutants(folder: Path, missed: str = "", *, without: str = "") -> Path:
    """The file of ``tacit audit mutants --out``: all caught but ``missed``."""
    made: list[dict[str, Any]] = [{"name": "", "caught_by": [], "checked": 9}]
    made += [
        {
            "name": mutant.name,
            "caught_by": [] if mutant.name == missed else ["replay.unit"],
            "checked": 9,
        }
        for mutant in known_mutants()
        if mutant.name != without
    ]
    path = folder / "mutants.json"
    path.write_text(json.dumps(made), "utf-8")
    return path


def a_run(folder: Path, **changes: Any) -> Path:
    """The folder of a simulation with one site."""
    policy = SitePolicy(**{"epsilon": 3.0, "users": 50, "max_q": 1.0, **changes})
    place = folder / "sites" / "north"
    spent(place, limits=policy.limits())
    (place / "policy.toml").write_text(policy_text(policy), "utf-8")
    mean = {"mean": 0.0417, "low": 0.0125, "high": 0.0713}
    figures = {"ndcg@10": mean, "hr@10": mean, "coverage@10": mean, "epsilon": None}
    own = {"north": {"ndcg@10": 0.0417, "hr@10": 0.0833, "users": 50}}
    made = {
        "schema": RUN_SCHEMA,
        "metrics": {"popularity": {**figures, "sites": own}},
        "differences": {},
    }
    (folder / "report.json").write_text(json.dumps(made), "utf-8")
    return folder


def a_registry(folder: Path, ledger: Ledger) -> Path:
    """A server's registry that received what the ledger sealed, and its end."""
    start = write_start(folder / "start")
    registry = Registry.open(folder / "registry", start)
    sent = [e.body["sha256"] for e in ledger.entries() if e.body.get("leaves")]
    plan = replace(a_plan(1, ("north",)), run="r")
    registry.publish(plan, {B: tensor(1.0)}, "FedAvg", {}, {"north": sent})
    registry.keep_witnesses([ledger.witness()])
    return registry.root


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report on one honest site, with everything that can be given."""
    folder = tmp_path_factory.mktemp("clean")
    run = a_run(folder / "run")
    ledger = book(run / "sites" / "north", limits=None, **{})  # type: ignore[arg-type]
    return report(ledger)
