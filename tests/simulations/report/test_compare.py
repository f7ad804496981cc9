"""Runs side by side: what differs, what came of it, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.errors import ConfigError
from simulations.report.compare import compare
from simulations.report.compare_cli import app
from simulations.report.compare_page import page
from simulations.report.page import html
from simulations.report.schema import read, read_run
from tests.simulations.report.examples import a_run, a_sweep


def kept(folder: Path, made: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(made), "utf-8")
    return folder


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """A run of four arms, and one with another setting, without DP and one arm less."""
    arms = ("popularity", "text", "local", "federated")
    other = a_run(arms[:3])
    other["config"]["recipe"]["alpha"] = 0.9
    other["metrics"]["local"] |= {"label": "NOT PRIVATE", "epsilon": None}
    other["metrics"]["local"]["ndcg@10"] = {"mean": 0.5, "low": 0.4, "high": 0.6}
    return [kept(tmp_path / "a", a_run(arms)), kept(tmp_path / "b", other)]


def test_only_settings_that_differ_are_told(two: list[Path]) -> None:
    found = compare(two)["settings"]

    assert found.keys() == {"arms", "recipe.alpha"}
    assert found["recipe.alpha"] == [0.5, 0.9]


def test_arms_stand_side_by_side_and_a_missing_one_has_no_figures(
    two: list[Path],
) -> None:
    made = compare(two)

    assert [run["name"] for run in made["runs"]] == ["a", "b"]
    assert made["arms"]["federated"][1] is None
    local = made["arms"]["local"]
    assert [run["ndcg@10"]["mean"] for run in local] == [pytest.approx(0.04), 0.5]


def test_a_mark_stands_at_the_run_that_promises_nothing(two: list[Path]) -> None:
    table = page(compare(two)).sections[1].tables[0]
    rows = {(row[0].text, row[1].text): row for row in table.rows}

    assert [rows["local", name][0].mark for name in "ab"] == ["", "NOT PRIVATE"]
    assert [rows["text", name][0].mark for name in "ab"] == ["", ""]
    assert rows["popularity", "a"][0].mark
    assert rows["local", "b"][5].text == "+0.4600"
    assert ("federated", "b") not in rows


def test_a_folder_without_a_report_is_refused_and_all_faults_are_told_at_once(
    tmp_path: Path, two: list[Path]
) -> None:
    swept = kept(tmp_path / "sweep", a_sweep())
    old = kept(tmp_path / "old", {"schema": "tacit/report/1"})

    with pytest.raises(ConfigError) as refused:
        compare([two[0], tmp_path / "nowhere", swept, old, two[0], two[0]])

    for said in ("nowhere", "holds a sweep", "no report of this version", "twice"):
        assert said in str(refused.value)
    assert read(swept)["schema"] == "tacit/sweep/1"
    with pytest.raises(ConfigError, match="runs"):
        read_run(swept)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{", "utf-8")

    with pytest.raises(ConfigError, match="not JSON"):
        read(tmp_path)


def test_one_run_alone_is_refused(two: list[Path]) -> None:
    with pytest.raises(ConfigError, match="two or more"):
        compare(two[:1])


def test_the_command_prints_tables_and_writes_a_page(
    two: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    done = CliRunner().invoke(app, [*map(str, two), "--out", str(out)])

    assert done.exit_code == 0
    assert "recipe.alpha" in done.stdout
    assert "NOT PRIVATE" in done.stdout
    assert out.read_text("utf-8") == html(page(compare(two)))


def test_the_command_prints_json(two: list[Path]) -> None:
    done = CliRunner().invoke(app, [*map(str, two), "--json"])

    assert json.loads(done.stdout) == compare(two)
