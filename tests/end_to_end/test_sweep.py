"""A sweep by the command line: stopped by Ctrl-C, resumed, and what it leaves."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.end_to_end.runs import arguments, report_of, scenario, tacit

pytestmark = pytest.mark.slow
PROGRAM = "from simulations.cli import main; main()"
SWEEP = ("--sweep", "epsilon=1,4", "--seeds", "2", "--workers", "2")
BARE = {f"generated-no-budget-seed={seed}" for seed in (0, 1)}
PRIVATE = {f"generated-epsilon={e}-seed={s}" for e in (1, 4) for s in (0, 1)}


def words(data: Path, out: Path) -> list[str]:
    asked = scenario(data, arms=["popularity", "text", "federated"])
    return arguments(asked, out, *SWEEP)


def test_a_sweep_that_was_stopped_goes_on_and_keeps_what_was_finished(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words(data, out)],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as run:
        assert run.stderr
        next(line for line in run.stderr if line.startswith("[1/6]"))
        family = psutil.Process(run.pid).children(recursive=True)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        said = run.stderr.read()
        run.wait(60)
    _, alive = psutil.wait_procs(family, timeout=10)
    finished = {
        path: path.stat().st_mtime_ns for path in out.glob("runs/*/report.json")
    }

    resumed = tacit(*words(data, out), "--resume")

    assert not alive
    assert run.returncode != 0
    assert "--resume" in said
    assert "Traceback" not in said
    assert 1 <= len(finished) < 6
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert resumed.code == 0
    assert {path.name for path in (out / "runs").iterdir()} == BARE | PRIVATE
    rows = report_of(out)["rows"]
    assert {(row["arm"], row["seeds"]) for row in rows} == {
        ("popularity", 2), ("text", 2), ("federated", 2)
    }  # fmt: skip
    assert len(rows) == 4
    assert (out / "report.html").is_file()


def test_a_point_that_cannot_be_is_told_and_ends_in_exit_code_1(
    data: Path, tmp_path: Path
) -> None:
    """Nobody can have that many sites: the run fails, the other one does not."""
    asked = scenario(data, arms=["popularity"])
    out = tmp_path / "out"

    done = tacit(*arguments(asked, out, "--sweep", "sites=2,5000", "--json"))

    made = json.loads(done.stdout)
    assert done.code == 1
    assert "FAILED" in done.stderr
    (failure,) = made["failures"]
    assert failure["error"].startswith("DataError: sites=5000")
    assert [row["sites"] for row in made["rows"]] == [2]
    assert made == report_of(out)


def test_a_wrong_value_at_any_point_is_refused_before_anything_runs(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"

    done = tacit("simulate", "--sweep", "recipe.alpha=.5,7", "--out", str(out))

    assert done.code == 2
    assert "alpha=7" in done.stderr
    assert not out.exists()
