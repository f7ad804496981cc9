"""An auditor with copies of a ledger and a registry, on a machine without user data."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from shared.accounting import epsilon
from shared.release import MANIFEST, manifest_digest
from simulations.audit.ledger import audit_ledger
from tests.end_to_end.conftest import Done
from tests.end_to_end.runs import charged_events, tacit


@pytest.fixture
def copies(whole: Done, tmp_path: Path) -> Path:
    """Copies of what an auditor is given: one ledger, its policy, the registry."""
    site = whole.out / "sites" / "site-1"
    shutil.copy(site / "ledger.sqlite", tmp_path / "ledger")
    shutil.copy(site / "policy.toml", tmp_path / "policy.toml")
    shutil.copytree(whole.out / "registry", tmp_path / "registry")
    return tmp_path


def failed(folder: Path, *, registry: bool = True) -> list[str]:
    """Audits that do not hold for the copies in ``folder``."""
    server = folder / "registry" if registry else None
    found = audit_ledger(folder / "ledger", server, folder / "policy.toml")
    return [finding.audit for finding in found.findings if not finding.holds]


def rewrite(folder: Path, number: int, hashes: list[str]) -> None:
    """Change what the server says that site-1 sent, as a careful forger would."""
    path = folder / "registry" / f"round-{number:04}" / MANIFEST
    manifest = json.loads(path.read_text("utf-8"))
    manifest["sites"]["site-1"] = hashes
    manifest["digest"] = manifest_digest(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def test_an_honest_site_passes_by_command_with_three_accountants(
    whole: Done, copies: Path
) -> None:
    words = ["--server", str(copies / "registry"), "--policy", f"{copies}/policy.toml"]
    printed = tacit("audit", "ledger", str(copies / "ledger"), *words, "--json")

    told = json.loads(printed.stdout)
    figures = {f["audit"]: f["figures"] for f in told["findings"]}
    spent = epsilon(charged_events(whole.out, "site-1"), 1e-5)
    assert printed.code == 0
    assert all(finding["holds"] for finding in told["findings"])
    assert figures["ledger.epsilon"]["pld"] == pytest.approx(spent, abs=1e-9)
    assert figures["ledger.epsilon"]["rdp"] > spent
    assert figures["ledger.epsilon"]["replace_one"] > spent
    assert told["facts"]["releases_out"] == 2


def test_an_export_passes_as_the_file_does(whole: Done, tmp_path: Path) -> None:
    site, lines = whole.out / "sites" / "site-2", tmp_path / "lines"
    assert tacit("site", "ledger", str(site), "--out", str(lines)).code == 0

    printed = tacit("audit", "ledger", str(lines), "--server", f"{whole.out}/registry")

    assert printed.code == 0
    assert "FAILS" not in printed.stdout


def test_one_edited_byte_fails_by_the_number_of_its_entry(copies: Path) -> None:
    with closing(sqlite3.connect(copies / "ledger")) as db, db:
        db.execute("DROP TRIGGER entry_fixed")
        db.execute(
            "UPDATE entry SET line = replace(line, '\"round\":1', '\"round\":7')"
        )

    printed = tacit("audit", "ledger", str(copies / "ledger"))

    assert printed.code == 3
    assert "ledger entry 1" in printed.stdout


def test_what_the_server_never_saw_is_missing(copies: Path) -> None:
    rewrite(copies, 2, [])

    assert failed(copies) == ["ledger.nothing is missing"]


def test_what_the_ledger_does_not_know_has_left_without_it(copies: Path) -> None:
    path = copies / "registry" / "round-0001" / MANIFEST
    sent = json.loads(path.read_text("utf-8"))["sites"]["site-1"]
    rewrite(copies, 1, [*sent, "ab" * 32])

    assert failed(copies) == ["ledger.nothing else left"]


def test_a_ledger_behind_the_servers_witness_fails(copies: Path) -> None:
    with closing(sqlite3.connect(copies / "ledger")) as db, db:
        db.execute("DROP TRIGGER entry_kept")
        db.execute("DELETE FROM entry WHERE n = (SELECT max(n) FROM entry)")

    assert "ledger.witness" in failed(copies)
    assert failed(copies, registry=False) == []  # a cut end shows from outside alone


def test_another_policy_than_the_one_in_force_fails(copies: Path) -> None:
    path = copies / "policy.toml"
    text = path.read_text("utf-8").replace("max-steps = 1000", "max-steps = 1001")
    path.write_text(text, "utf-8")

    assert failed(copies) == ["ledger.policy"]


def test_a_registry_that_is_empty_or_damaged_fails(copies: Path) -> None:
    manifest = copies / "registry" / "round-0002" / MANIFEST
    manifest.write_text(manifest.read_text("utf-8").replace("site-1", "site-9"))
    assert failed(copies) == ["ledger.registry"]

    shutil.rmtree(copies / "registry")
    (copies / "registry").mkdir()
    assert failed(copies) == ["ledger.registry"]


def test_epsilon_is_told_for_each_run_and_in_all(whole: Done) -> None:
    found = audit_ledger(whole.out / "sites" / "site-1" / "ledger.sqlite")

    names = [finding.audit for finding in found.findings]
    assert names[:3] == ["ledger.chain", "ledger.epsilon of run", "ledger.epsilon"]


def test_budget_and_egress_say_what_the_ledger_holds(whole: Done) -> None:
    site = str(whole.out / "sites" / "site-1")
    budget = json.loads(tacit("site", "budget", site, "--rounds", "3", "--json").stdout)
    rows = json.loads(tacit("site", "egress", site, "--json").stdout)

    spent = epsilon(charged_events(whole.out, "site-1"), 1e-5)
    assert budget["spent"] == pytest.approx(spent, abs=1e-9)
    assert budget["left"] == pytest.approx(budget["budget"] - spent, abs=1e-9)
    assert [(row["run"], row["round"]) for row in rows] == [("run", 1), ("run", 2)]
    assert all(row["bytes"] > 0 and len(row["sha256"]) == 64 for row in rows)
    assert "2 releases" in tacit("site", "egress", site).stdout
