"""A sweep runs every point once, keeps what is finished and survives what fails."""

import json
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from shared.errors import ConfigError, DataError
from simulations import crew, sweep
from simulations.scenario import Scenario
from simulations.scenario_file import read_scenario
from simulations.sweep import Asked, Ended
from simulations.sweep_command import planned


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that have imported what they need here, and no encoder."""
    monkeypatch.setattr(crew, "PRELOADED", "simulations.sweep_command")
    monkeypatch.setattr(sweep, "be_ready", nothing_to_load)


def nothing_to_load(_base: str, _threads: int) -> None:
    """What a process begins with, when its run needs no encoder."""


def finishes(scenario: Scenario, folder: Path) -> None:
    """Leave what a run leaves, as far as a sweep reads it; note the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "pids").open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    value = scenario.simulation.epsilon / 100 + scenario.simulation.seed / 1000
    figure = {"mean": value, "low": value, "high": value}
    metrics = {
        arm: {"ndcg@10": figure, "hr@10": figure, "epsilon": 1.0}
        for arm in scenario.simulation.arms
    }
    made = {
        "schema": "tacit/report/2",
        "config": scenario.tables(),
        "metrics": metrics,
        "differences": {},
        "timing": {"total_s": 0.1},
    }
    (folder / "report.json").write_text(json.dumps(made), "utf-8")


def fails_at_two(scenario: Scenario, folder: Path) -> None:
    """Be refused, die, or finish, by epsilon."""
    if scenario.simulation.epsilon == 2:
        raise DataError("so it is told")
    if scenario.simulation.epsilon == 3:
        os._exit(7)
    finishes(scenario, folder)


def lasts(_scenario: Scenario, folder: Path) -> None:
    """Say who runs, and go on for a minute."""
    folder.mkdir(parents=True)
    (folder / "pid").write_text(str(os.getpid()), "utf-8")
    time.sleep(60)


def ask(sets: Sequence[str]) -> Scenario:
    options = {"arms": ["federated", "local"]}
    return read_scenario(None, options, sets)


def asked(*sweeps: str, seeds: int = 1) -> Asked:
    return planned("some", ask, sweeps, seeds)


def swept(
    what: Asked, out: Path, *, resume: bool = False, workers: int = 2
) -> tuple[dict[str, Any], list[Ended]]:
    told: list[Ended] = []
    made = sweep.sweep(what, out, resume=resume, workers=workers, tell=told.append)
    return made, told


def pids(out: Path) -> dict[str, list[str]]:
    """Run -> the processes that it ran in."""
    return {
        file.parent.name: file.read_text("utf-8").split()
        for file in (out / "runs").glob("*/pids")
    }


@pytest.fixture
def finishing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "run_point", finishes)


@pytest.mark.slow
@pytest.mark.usefixtures("finishing")
def test_every_point_runs_once_in_a_process_of_its_own(tmp_path: Path) -> None:
    made, told = swept(asked("epsilon=1,2", seeds=2), tmp_path / "out")

    ran = pids(tmp_path / "out")
    each = [pid for run in ran.values() for pid in run]
    assert len(ran) == len(each) == len(set(each)) == 4
    assert str(os.getpid()) not in each
    assert {ended.point.name for ended in told} == set(ran)
    assert [row["seeds"] for row in made["rows"]] == [2] * 4
    assert made["failures"] == []


@pytest.mark.usefixtures("finishing")
def test_the_report_is_in_the_folder_with_what_was_asked(tmp_path: Path) -> None:
    made, _ = swept(asked("epsilon=1,2"), tmp_path)

    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == made
    assert (tmp_path / "report.html").is_file()
    known = json.loads((tmp_path / "sweep.json").read_text("utf-8"))
    assert known["keys"] == made["asked"]["keys"] == {"epsilon": [1, 2]}
    assert sorted(known["runs"]) == sorted(pids(tmp_path))


def test_a_run_that_fails_or_dies_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "run_point", fails_at_two)

    made, told = swept(asked("epsilon=1,2,3,4"), tmp_path)

    failures = {failure["run"]: failure["error"] for failure in made["failures"]}
    assert failures["some-epsilon=2-seed=0"] == "DataError: so it is told"
    assert "exit code 7" in failures["some-epsilon=3-seed=0"]
    assert len(failures) == 2
    assert {row["keys"]["epsilon"] for row in made["rows"]} == {1, 4}
    assert [bool(e.error) for e in told].count(True) == 2


@pytest.mark.slow
def test_what_failed_runs_again_on_resume_and_what_finished_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = asked("epsilon=1,2,3,4")
    monkeypatch.setattr(sweep, "run_point", fails_at_two)
    swept(what, tmp_path)
    before = pids(tmp_path)
    monkeypatch.setattr(sweep, "run_point", finishes)

    made, told = swept(what, tmp_path, resume=True)

    after = pids(tmp_path)
    assert len(before) == 2
    assert len(after) == 4
    assert before.items() <= after.items()
    assert [e.seconds > 0 for e in told] == [False] * 2 + [True] * 2
    assert made["failures"] == []
    assert len(made["runs"]) == 4


@pytest.mark.usefixtures("finishing")
def test_a_folder_of_another_sweep_or_of_anything_else_is_refused(
    tmp_path: Path,
) -> None:
    swept(asked("epsilon=1"), tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").touch()

    for folder, resume, why in (
        ("out", False, "give --resume"),
        ("full", True, "holds no sweep"),
    ):
        with pytest.raises(ConfigError, match=why):
            swept(asked("epsilon=1"), tmp_path / folder, resume=resume)
    with pytest.raises(ConfigError, match="differs from what is asked"):
        swept(asked("epsilon=2"), tmp_path / "out", resume=True)


def test_whoever_stops_asking_ends_the_runs_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C does: an exception where the runs are waited for."""
    monkeypatch.setattr(sweep, "run_point", lasts)
    what = asked("epsilon=1,2,3")

    def interrupted(*_of: object) -> None:
        while len(list(tmp_path.glob("runs/*/pid"))) < 2:
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        swept(what, tmp_path)

    running = [int(f.read_text()) for f in tmp_path.glob("runs/*/pid")]
    assert len(running) == 2
    assert not any(psutil.pid_exists(pid) for pid in running)


@pytest.mark.parametrize(
    ("free_mib", "users", "expected"),
    [(100_000, 900, 4), (2_700, 900, 2), (12_000, 100_000, 2), (100, 900, 1)],
)
def test_as_many_runs_go_at_a_time_as_cores_and_memory_hold(
    monkeypatch: pytest.MonkeyPatch, free_mib: int, users: int, expected: int
) -> None:
    free = SimpleNamespace(available=free_mib << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(sweep, "cores", lambda: 4)
    runs = planned("some", partial(asked_with, users), ["epsilon=1,2,3,4,5"], 1).runs

    assert sweep.at_a_time(runs) == expected


def asked_with(users: int, sets: Sequence[str]) -> Scenario:
    return read_scenario(None, {"users": users}, sets)


@pytest.mark.slow
def test_no_more_runs_at_a_time_than_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "run_point", partial(clocked, tmp_path / "clock"))
    (tmp_path / "clock").mkdir()

    swept(asked("epsilon=1,2,3,4"), tmp_path / "out")

    spans = [
        tuple(map(float, file.read_text("utf-8").split()))
        for file in (tmp_path / "clock").iterdir()
    ]
    assert len(spans) == 4
    assert max(sum(a <= at < b for a, b in spans) for at, _ in spans) == 2


def clocked(clock: Path, scenario: Scenario, folder: Path) -> None:
    """Finish after a while, and note from when to when."""
    begun = time.time()
    time.sleep(0.3)
    finishes(scenario, folder)
    (clock / folder.name).write_text(f"{begun} {time.time()}", "utf-8")
