"""The audit report: every figure from the evidence, nothing made up, alarms in red."""

import json
import re
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from typer.testing import CliRunner

from client.policy import SitePolicy
from client.policy_file import policy_text
from server.registry import Registry
from shared.accounting import epsilon
from shared.errors import ConfigError, PrivacyError
from shared.ledger import Ledger
from shared.popularity import items_of
from simulations.audit import canaries
from simulations.audit import ledger as ledger_audit
from simulations.audit.canaries import OneRun
from simulations.audit.cli import app
from simulations.audit.evidence import Book, Evidence, gather
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
from simulations.report.schema import SCHEMA as RUN_SCHEMA
from tests.shared.books import (
    CHEAP,
    DELTA,
    book,
    meddle,
    seal,
    train,
    unprotected,
)
from tests.standin import B, a_plan, tensor, write_start

MADE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SCHEMA = json.loads((HERE / "report.schema.json").read_text("utf-8"))
ALARMED = '<strong class="alarm">'
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


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
    private, twin = an_attack(2.9995, 0.025), an_attack(None, 0.99)
    attacks = empirical(
        folder, one_run(), membership=asdict(private), twin=asdict(twin)
    )
    evidence = gather(run=run, empirical=attacks, mutants=mutants(folder))
    return build(evidence, command="tacit audit report --run run", made=MADE)


@pytest.fixture(scope="module")
def states(
    clean: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """A report for each state that a site can be in."""
    folder = tmp_path_factory.mktemp("states")
    return {
        "all given": clean,
        "honest": report(spent(folder / "honest")),
        "exposed": report(exposed(folder / "exposed")),
        "broken": report(broken(folder / "broken")),
        "new": report(book(folder)),
    }


def test_the_items_are_the_seventeen_in_order(clean: dict[str, Any]) -> None:
    assert [made["number"] for made in clean["items"]] == list(range(1, 18))
    assert all(made["says"] for made in clean["items"])
    headings = [h.text for h in page(clean).iter("h2")]
    for made in clean["items"]:
        assert f"{made['number']}. {made['title']}" in headings


def test_every_figure_on_the_page_is_in_the_json(
    states: dict[str, dict[str, Any]],
) -> None:
    for made in states.values():
        on_page = {n for text in shown(page(made)) for n in NUMBER.findall(text)}

        assert len(on_page) > 40
        assert on_page - told(made) == set()


def test_a_figure_that_is_not_in_the_json_would_be_seen(clean: dict[str, Any]) -> None:
    text = html(clean).replace("<h1>Privacy audit", "<h1>Privacy audit 0.1234567")
    root = ElementTree.fromstring(text.strip().removeprefix("<!DOCTYPE html>"))  # noqa: S314 - our own text

    on_page = {n for said in shown(root) for n in NUMBER.findall(said)}

    assert on_page - told(clean) == {"0.1234567"}


def test_the_page_runs_nothing_and_loads_nothing(clean: dict[str, Any]) -> None:
    root = page(clean)

    links = [e.get("href") for e in root.iter() if e.get("href")]
    assert len(links) >= 17
    assert all(link.startswith("#") for link in links if link)
    assert not {e.tag for e in root.iter()} & {"script", "link", "img", "iframe"}
    text = html(clean).replace('xmlns="http://www.w3.org/2000/svg"', "")
    for word in ("http:", "https:", "url(", "@import", "src=", "javascript", " on"):
        assert word not in re.sub(r">[^<]*<", "><", text), word


def test_each_link_of_the_contents_leads_somewhere(clean: dict[str, Any]) -> None:
    root = page(clean)

    names = {e.get("id") for e in root.iter()}

    assert {e.attrib["href"][1:] for e in root.iter("a")} <= names


def test_the_json_follows_its_schema(states: dict[str, dict[str, Any]]) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA)

    for name, made in states.items():
        assert [e.message for e in validator.iter_errors(made)] == [], name


def test_the_schema_refuses_odds_for_a_site_without_a_finite_epsilon(
    tmp_path: Path,
) -> None:
    made = report(exposed(tmp_path))
    made["sites"][0]["figures"]["posterior"] = 0.9

    assert not Draft202012Validator(SCHEMA).is_valid(made)


def test_all_that_holds_makes_the_verdict_hold(clean: dict[str, Any]) -> None:
    assert clean["verdict"] == {
        "holds": True,
        "private": True,
        "word": "HOLDS",
        "says": [
            f"All {len(clean['findings'])} checks hold.",
            "Not checked for this report: ledgers against the server's record.",
        ],
        "not_checked": ["ledgers against the server's record"],
    }
    assert "alarm" not in {e.get("class") for e in page(clean).iter("h3")}


def test_an_honest_site_is_told_what_it_promised_spent_and_released(
    tmp_path: Path,
) -> None:
    both = epsilon([CHEAP, CHEAP], DELTA)
    replaced = epsilon([CHEAP, CHEAP], DELTA, "replace_one")

    made = report(spent(tmp_path))

    site = made["sites"][0]
    words = " ".join(site["says"])
    assert site["figures"]["spent"]["pld"] == pytest.approx(both, abs=1e-6)
    assert "at most epsilon 3.0000 at delta 1e-5" in words
    assert f"spent {both:.4f} (PLD, an upper bound) in 2 charges" in words
    assert f"it is {replaced:.4f}" in words
    assert "1 update, 3 bytes in all" in words
    assert "not compared, no registry was given" in words


def test_a_site_without_noise_is_called_not_private_in_red(
    states: dict[str, dict[str, Any]],
) -> None:
    made = states["exposed"]
    root = page(made)

    assert not made["verdict"]["holds"]
    assert not made["verdict"]["private"]
    assert made["sites"][0]["label"] == "NOT PRIVATE"
    assert made["sites"][0]["figures"]["posterior"] is None
    assert "NOT PRIVATE" in (root.findtext("head/title") or "")
    red = [e.text for e in root.iter("strong") if e.get("class") == "alarm"]
    everywhere = "".join(shown(root)).count("NOT PRIVATE")
    assert red.count("NOT PRIVATE") == everywhere - 1  # the title has no colour
    assert everywhere > 10
    assert not root.findall(".//{http://www.w3.org/2000/svg}svg")


def test_a_private_site_is_not_called_otherwise(
    states: dict[str, dict[str, Any]],
) -> None:
    assert "NOT PRIVATE" not in html(states["honest"])
    assert 'class="alarm"' not in html(states["honest"])


def test_noise_from_a_seed_is_called_not_private_whatever_the_ledger_says(
    tmp_path: Path,
) -> None:
    evidence = gather(run=a_run(tmp_path, insecure_test_noise=True))

    made = build(evidence, command="tacit", made=MADE)

    assert made["sites"][0]["label"] == "NOT PRIVATE"
    assert made["sites"][0]["figures"]["spent"] == {}
    assert not made["verdict"]["holds"]


def test_noise_under_an_infinite_budget_is_from_a_seed_even_if_one_was_set_later(
    tmp_path: Path,
) -> None:
    train(book(tmp_path, float("inf")), 1)

    made = report(book(tmp_path, 3.0))

    assert made["sites"][0]["label"] == "NOT PRIVATE"
    assert "budget was infinite" in " ".join(made["sites"][0]["says"])


def test_what_is_infinite_is_null_in_the_json(tmp_path: Path) -> None:
    ledger = book(tmp_path, float("inf"))
    train(ledger, 1)

    made = report(ledger)

    assert json.loads(json.dumps(made, allow_nan=False)) == made
    recorded = next(f for f in made["findings"] if f["audit"] == "ledger.recorded")
    assert recorded["figures"]["budget"] is None


def test_what_is_left_of_a_budget_is_the_difference(tmp_path: Path) -> None:
    left = 3.0 - epsilon([CHEAP, CHEAP], DELTA)

    budget = item(report(spent(tmp_path)), 9)

    assert budget["figures"]["sites"]["north"]["left"] == pytest.approx(left, abs=1e-6)
    assert budget["tables"][0]["rows"][0][3] == f"{left:.4f}"
    assert budget["tables"][0]["rows"][0][4:] == ["2", "1", "0"]


def test_a_broken_ledger_fails_and_gets_no_figure(tmp_path: Path) -> None:
    made = report(broken(tmp_path / "north"))

    assert not made["verdict"]["holds"]
    assert made["sites"][0]["figures"]["spent"] == {}
    assert made["sites"][0]["label"] == "epsilon cannot be stated"
    assert "ledger entry" in " ".join(made["sites"][0]["says"])
    row = item(made, 4)["tables"][0]["rows"][0]
    unknown = "cannot be stated"
    assert row == ["north", unknown, unknown, "policy file not given", unknown, unknown]


def test_accountants_that_disagree_leave_epsilon_unstated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disagree(*_: object) -> None:
        raise PrivacyError("accountants disagree: RDP 1.0 is below PLD 2.0")

    monkeypatch.setattr(ledger_audit, "cross_check", disagree)

    made = report(spent(tmp_path))

    assert made["sites"][0]["label"] == "epsilon cannot be stated"
    assert made["sites"][0]["figures"]["posterior"] is None
    assert "RDP 1.0 is below PLD 2.0" in " ".join(item(made, 7)["says"])
    assert not made["verdict"]["holds"]
    assert item(made, 4)["charts"] == item(made, 9)["charts"] == []


def test_every_purpose_of_what_left_is_counted(tmp_path: Path) -> None:
    ledger = spent(tmp_path)
    for what in ("metrics", "popularity", "cooccurrence", "serving"):
        seal(ledger, train(ledger, 2, what=what))

    made = report(ledger)

    assert item(made, 5)["figures"]["sites"]["north"] == {
        "updates": 1,
        "metrics": 1,
        "popularity": 1,
        "cooccurrence": 1,
        "serving": 1,
        "bytes": 15,
    }
    words = (
        "1 update, 1 metric, its POPULARITY, its CO-OCCURRENCE and its SERVING "
        "TALLIES, 15 bytes"
    )
    assert words in " ".join(made["sites"][0]["says"])


def test_a_popularity_within_an_update_is_told_to_have_left(tmp_path: Path) -> None:
    ledger = spent(tmp_path)
    tensors = ["lora_B", items_of(["a", "b"]).tensor]
    ledger.sealed(train(ledger, 2), content=b"abc", tensors=tensors, leaves=True)

    made = report(ledger)

    figures = item(made, 5)["figures"]["sites"]["north"]
    assert (figures["updates"], figures["popularity"]) == (2, 1)
    assert "its POPULARITY" in " ".join(made["sites"][0]["says"])


def test_what_serving_learns_is_charged_and_stays(tmp_path: Path) -> None:
    ledger = spent(tmp_path)
    seal(ledger, train(ledger, 1, CHEAP, what="serving"), leaves=False)

    made = report(ledger)

    assert item(made, 5)["figures"]["sites"]["north"]["serving"] == 0
    assert item(made, 8)["figures"]["adapting what is served to feedback"] == (
        "in ledger"
    )
    assert ["serving", "north", "1", "20", "1", "1 x 1", "none: every user, once"] in [
        row[:7] for row in item(made, 6)["tables"][0]["rows"]
    ]
    assert "SERVING" not in " ".join(made["sites"][0]["says"])
    assert made["sites"][0]["figures"]["charges"] == 3
    assert item(report(spent(tmp_path / "none")), 8)["figures"][
        "adapting what is served to feedback"
    ] == ("none")


def test_the_worst_site_comes_first(tmp_path: Path) -> None:
    little = book(tmp_path, site="east")
    train(little, 1)
    much = spent(tmp_path / "much", site="west")
    none = exposed(tmp_path / "none", site="south")

    made = report(little, none, much)

    assert [site["site"] for site in made["sites"]] == ["south", "west", "east"]
    assert item(made, 9)["figures"]["worst"] == "south"


def test_sites_with_one_history_share_a_line_and_those_without_room_are_named(
    tmp_path: Path,
) -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    ledgers = [book(tmp_path, site="a")]
    for n, name in enumerate(names[1:]):
        (tmp_path / name).mkdir()
        ledgers.append(book(tmp_path / name, site=name))
        train(ledgers[-1], 1, replace(CHEAP, sigma=20.0 + max(1, n)))
    train(ledgers[0], 1, replace(CHEAP, sigma=19.0))

    made = report(*ledgers)

    series = item(made, 4)["charts"][0]["series"]
    assert [one["name"][:7] for one in series] == [
        "a: epsi",
        "b and c",
        "d: epsi",
        "e: epsi",
    ]
    assert len(item(made, 9)["charts"]) == 4
    for number in (4, 9):
        assert item(made, number)["says"][-1] == "Not drawn, for they spent less: f."


def test_two_ledgers_of_one_site_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 ledgers are of site 'north'"):
        report(spent(tmp_path / "a"), spent(tmp_path / "b"))


def test_people_at_several_sites_are_told_the_sum(tmp_path: Path) -> None:
    east, west = spent(tmp_path / "e", site="east"), spent(tmp_path / "w", site="west")

    figures = item(report(east, west), 10)["figures"]

    assert figures["epsilon_at_all_sites"] == pytest.approx(
        2 * epsilon([CHEAP, CHEAP], DELTA), abs=1e-6
    )
    assert figures["delta_at_all_sites"] == 2 * DELTA


def test_what_was_not_run_is_said_with_the_command_that_runs_it(tmp_path: Path) -> None:
    made = report(spent(tmp_path))

    words = " ".join(item(made, 13)["says"])
    assert words.count("not run for this report") == 3
    assert RUN_EMPIRICAL in words
    assert RUN_MUTANTS in words
    assert "A lower bound is not a guarantee" in words
    assert item(made, 13)["tables"] == []
    assert item(made, 13)["charts"] == []
    assert item(made, 13)["figures"] == {
        "one_run": "not run",
        "membership": "not run",
        "mutants": "not run",
    }
    assert "not part of this ledger" in item(made, 14)["says"][0]
    assert item(made, 14)["tables"] == []
    assert "attacks on the training code" in made["verdict"]["not_checked"]


def test_an_attack_that_refutes_the_claim_makes_the_verdict_fail(
    tmp_path: Path,
) -> None:
    run = one_run(correct=2, s23=3.2, fdp=4.0)
    ledger = spent(tmp_path)
    evidence = gather(ledgers=[ledger.path], empirical=empirical(tmp_path, run))

    made = build(evidence, command="tacit", made=MADE)

    assert made["verdict"]["word"] == "DOES NOT HOLD"
    assert "canaries.one_run (training code)" in made["verdict"]["says"][0]


def test_an_empirical_audit_is_shown_with_its_bounds_and_ceilings(
    clean: dict[str, Any],
) -> None:
    found = item(clean, 13)
    canary_table, member_table, bugs = found["tables"]

    cells = dict(canary_table["rows"])
    assert cells["epsilon at least, S23"] == "0.4000"
    assert cells["ceiling, f-DP"] == "5.5500"
    assert cells["guesses r, right v"] == "2, 1"
    assert member_table["rows"][0][1:] == ["2.9995", "NOT PRIVATE"]
    assert len(bugs["rows"]) == len(known_mutants()) + 1
    assert [chart["kind"] for chart in found["charts"]] == ["histogram", "lines"]
    names = [series["name"] for series in found["charts"][1]["series"]]
    assert names[0] == "most that epsilon 2.9995 allows"
    assert {"private model", "twin without privacy", "chance"} < set(names)


def test_the_histogram_counts_every_canary_once(clean: dict[str, Any]) -> None:
    chart = item(clean, 13)["charts"][0]

    assert [sum(group["counts"]) for group in chart["groups"]] == [3, 3]


def test_a_missed_bug_makes_the_verdict_fail(tmp_path: Path) -> None:
    ledger, missed = spent(tmp_path), known_mutants()[0].name
    for file in (mutants(tmp_path, missed), mutants(tmp_path, without=missed)):
        evidence = gather(ledgers=[ledger.path], mutants=file)

        made = build(evidence, command="tacit", made=MADE)

        assert not made["verdict"]["holds"]
        assert missed in " ".join(item(made, 13)["says"])


def test_ledger_and_server_agree_or_the_verdict_fails(tmp_path: Path) -> None:
    ledger = spent(tmp_path)
    root = a_registry(tmp_path, ledger)

    agreed = report(ledger, registry=root)
    seal(ledger, train(ledger, 3))  # which the server never received
    apart = report(ledger, registry=root)

    assert "Ledger and server: agree." in agreed["sites"][0]["says"]
    assert agreed["verdict"]["holds"]
    assert "DO NOT AGREE" in " ".join(apart["sites"][0]["says"])
    assert not apart["verdict"]["holds"]


def test_a_run_gives_ledgers_policies_and_utility(clean: dict[str, Any]) -> None:
    assert item(clean, 14)["tables"][0]["rows"] == [
        ["popularity", *["0.0417 [0.0125, 0.0713]"] * 3, "NOT PRIVATE"]
    ]
    assert item(clean, 4)["figures"]["sites"]["north"]["declared_users"] == 50
    assert item(clean, 6)["tables"][0]["rows"][1][-1] == "q x 50 users"
    assert {f["audit"] for f in clean["findings"]} >= {"ledger.policy", "report.noise"}


def test_each_charge_has_its_own_row_of_the_mechanism(tmp_path: Path) -> None:
    ledger = spent(tmp_path)
    train(ledger, 2)

    rows = item(report(ledger), 6)["tables"][0]["rows"]

    assert [row[:6] for row in rows] == [
        ["popularity", "north", "1", "20", "1", "1 x 1"],
        ["training", "north", "1", "20", "1", "2 x 1"],
    ]


def test_the_curve_of_delta_passes_through_the_epsilon_that_is_told(
    tmp_path: Path,
) -> None:
    made = report(spent(tmp_path))
    spent_in_all = made["sites"][0]["figures"]["spent"]["pld"]

    points = item(made, 4)["charts"][0]["series"][0]["points"]

    assert all(a[1] >= b[1] for a, b in pairwise(points))
    before = [delta for eps, delta in points if eps <= spent_in_all * 0.98]
    after = [delta for eps, delta in points if eps >= spent_in_all * 1.02]
    assert before[-1] > DELTA > after[0]


def test_epsilon_over_charges_is_recorded_and_recomputed(tmp_path: Path) -> None:
    made = report(spent(tmp_path))

    chart = item(made, 9)["charts"][0]

    by = {series["name"]: series["points"] for series in chart["series"]}
    recorded, again = by["PLD, as the site recorded it"], by["PLD, recomputed"]
    assert [n for n, _ in recorded] == [1, 2]
    assert again == [[n, pytest.approx(value, abs=1e-6)] for n, value in recorded]
    assert by.keys() > {"RDP (Opacus)", "PRV (Opacus)"}
    assert chart["levels"] == [{"label": "budget 3", "y": 3.0}]


def test_each_site_gets_the_command_that_recomputes_it(tmp_path: Path) -> None:
    ledger = spent(tmp_path / "a folder")

    command = item(report(ledger), 17)["figures"]["commands"]["north"]

    assert command == f"tacit audit ledger '{ledger.path}'"


def test_names_from_a_ledger_are_text_and_never_markup(tmp_path: Path) -> None:
    made = report(spent(tmp_path, site="<script>alert(1)</script> & co"))

    root = page(made)

    assert not list(root.iter("script"))
    assert "<script>alert(1)</script> & co" in "".join(shown(root))


@given(text=st.text())
def test_an_alarming_text_still_says_the_same(text: str) -> None:
    plain = str(alarming(text)).replace(ALARMED, "").replace("</strong>", "")

    assert unescape(plain) == text


@given(share=st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_a_chance_below_one_is_never_written_as_certain_nor_as_none(
    share: float,
) -> None:
    assert percent(share) not in {"0 %", "100 %"}


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0024, "0.24 %"), (0.95, "95 %"), (0.99966, "99.966 %"), (0.0, "0 %")],
)
def test_percentages_known_by_hand(share: float, text: str) -> None:
    assert percent(share) == text


def test_sizes_known_by_hand() -> None:
    assert [size(n) for n in (1, 512, 16905, 3_200_000)] == [
        "1 byte",
        "512 bytes",
        "16.9 kB",
        "3.2 MB",
    ]


def test_the_files_are_written_side_by_side(
    clean: dict[str, Any], tmp_path: Path
) -> None:
    beside = write(clean, tmp_path / "audit.html")

    assert json.loads(beside.read_text("utf-8")) == clean
    assert (tmp_path / "audit.html").read_text("utf-8") == html(clean)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audit.html", "audit.json"]
    assert write(clean, tmp_path / "audit.html") == beside


def test_the_report_of_a_simulation_is_never_written_over(
    clean: dict[str, Any], tmp_path: Path
) -> None:
    run = a_run(tmp_path)
    before = (run / "report.json").read_bytes()

    with pytest.raises(ConfigError, match="is no audit report: it would be lost"):
        write(clean, run / "report.html")
    with pytest.raises(ConfigError, match=r"must end in \.html"):
        write(clean, run / "report.json")

    assert (run / "report.json").read_bytes() == before
    assert not (run / "report.html").exists()


def test_a_pdf_without_a_browser_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="apt-get install chromium"):
        print_pdf(tmp_path / "audit.html")


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="needs chromium")
def test_a_browser_prints_the_page(clean: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "audit.html"
    write(clean, out)

    assert print_pdf(out).read_bytes().startswith(b"%PDF-")


def test_what_is_given_must_be_one_kind_of_ledgers(tmp_path: Path) -> None:
    ledger = spent(tmp_path / "site").path
    run = a_run(tmp_path / "run")

    with pytest.raises(ConfigError, match="either --run"):
        gather()
    with pytest.raises(ConfigError, match="either --run"):
        gather(run=run, ledgers=[ledger])
    with pytest.raises(ConfigError, match="no ledger at"):
        gather(ledgers=[tmp_path / "none.sqlite"])
    with pytest.raises(ConfigError, match="no ledger under"):
        gather(run=tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '[{"name": "x"}]', '{"one_run": {}}'])
def test_a_file_of_another_kind_is_refused(text: str, tmp_path: Path) -> None:
    ledger, file = spent(tmp_path).path, tmp_path / "file.json"
    file.write_text(text, "utf-8")

    with pytest.raises(ConfigError, match=r"file\.json"):
        gather(ledgers=[ledger], empirical=file)
    with pytest.raises(ConfigError, match=r"file\.json"):
        gather(ledgers=[ledger], mutants=file)


def test_the_command_writes_the_report_and_exits_by_the_verdict(tmp_path: Path) -> None:
    good, bad = spent(tmp_path / "good"), exposed(tmp_path / "bad")

    def command(ledger: Ledger, out: Path) -> Any:
        words = ["report", "--ledger", str(ledger.path), "--out", str(out)]
        return CliRunner().invoke(app, words)

    held = command(good, tmp_path / "good.html")
    failed = command(bad, tmp_path / "bad.html")

    assert held.exit_code == 0
    assert held.stdout.startswith("HOLDS\n")
    assert isinstance(failed.exception, PrivacyError)
    assert failed.stdout.startswith("DOES NOT HOLD\n")
    assert (tmp_path / "good.json").exists()
    assert "NOT PRIVATE" in (tmp_path / "bad.html").read_text("utf-8")
