"""What a sweep says of its runs, against figures worked out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from simulations.sweep_plan import Point
from simulations.sweep_report import build

ASKED = {"command": "tacit simulate", "scenario": "some", "keys": {"epsilon": [1, 2]}}
FIRST = [0.05, 0.07, 0.09]
SECOND = [0.04, 0.055, 0.05]


def figure(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.01}


def write_run(folder: Path, point: Point, **ndcg: float) -> Point:
    """A finished run, as far as a sweep reads it."""
    epsilon = point.keys.get("epsilon")
    made: dict[str, Any] = {
        "schema": "tacit/report/2",
        "config": {"simulation": {"sites": 3, "epsilon": epsilon, "no-dp": False}},
        "metrics": {
            arm: {"ndcg@10": figure(mean), "hr@10": figure(2 * mean)}
            | (
                {"epsilon": 0.9}
                if epsilon
                else {"epsilon": None, "label": "NOT PRIVATE"}
            )
            for arm, mean in ndcg.items()
        },
        "differences": {
            f"{one} - {other}": figure(ndcg[one] - ndcg[other]) | {"p": 0.5}
            for one in ndcg
            for other in ndcg
            if one != other
        },
        "timing": {"total_s": 1.5},
    }
    (folder / point.name).mkdir(parents=True)
    (folder / point.name / "report.json").write_text(json.dumps(made), "utf-8")
    return point


def a_point(seed: int, epsilon: int | None = 1) -> Point:
    keys = {"epsilon": epsilon} if epsilon else {}
    return Point(f"run-{epsilon}-{seed}", keys, seed, ("federated", "local"))


def report(folder: Path, points: list[Point], seeds: int) -> dict[str, Any]:
    return build({**ASKED, "seeds": list(range(seeds))}, points, folder, [])


@pytest.fixture
def three(tmp_path: Path) -> dict[str, Any]:
    """Three seeds of two arms with a budget, and of one without."""
    runs = [
        write_run(tmp_path, a_point(seed), federated=one, local=other)
        for seed, (one, other) in enumerate(zip(FIRST, SECOND, strict=True))
    ]
    runs += [
        write_run(tmp_path, a_point(seed, None), popularity=0.03) for seed in range(3)
    ]
    return report(tmp_path, runs, 3)


def test_a_row_is_the_mean_of_the_seeds_with_students_interval(
    three: dict[str, Any],
) -> None:
    row = three["rows"][0]
    width = 4.302653 * np.std(FIRST, ddof=1) / np.sqrt(3)  # t(2), 97.5 %

    assert row["arm"] == "federated"
    assert row["seeds"] == 3
    assert row["ndcg@10"]["mean"] == pytest.approx(0.07)
    assert row["ndcg@10"]["high"] == pytest.approx(0.07 + width)
    assert row["ndcg@10"]["low"] == pytest.approx(0.07 - width)
    assert row["hr@10"]["mean"] == pytest.approx(0.14)
    assert "3 seeds" in three["interval"]


def test_a_row_tells_the_budget_that_was_asked_and_what_was_spent_of_it(
    three: dict[str, Any],
) -> None:
    rows = {row["arm"]: row for row in three["rows"]}

    assert (rows["federated"]["epsilon"], rows["federated"]["spent"]) == (1, 0.9)
    assert (rows["popularity"]["epsilon"], rows["popularity"]["spent"]) == (None, None)
    assert rows["popularity"]["label"] == "NOT PRIVATE"
    assert rows["popularity"]["keys"] == {}
    assert "label" not in rows["federated"]


def test_differences_are_those_of_a_paired_t_test(three: dict[str, Any]) -> None:
    found = {(gain["one"], gain["other"]): gain for gain in three["differences"]}
    gain, expected = found["federated", "local"], ttest_rel(FIRST, SECOND)

    assert set(found) == {("federated", "local"), ("federated", "popularity")}
    assert gain["mean"] == pytest.approx(np.mean(FIRST) - np.mean(SECOND))
    assert gain["p"] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert (gain["low"], gain["high"]) == pytest.approx((low, high))


def test_one_seed_shows_the_runs_own_interval_and_differences(tmp_path: Path) -> None:
    run = write_run(tmp_path, a_point(0), federated=0.07, local=0.05)

    made = report(tmp_path, [run], 1)

    assert made["rows"][0]["ndcg@10"] == figure(0.07)
    (gain,) = made["differences"]
    assert (gain["one"], gain["other"]) == ("federated", "local")
    assert {part: gain[part] for part in ("mean", "low", "high")} == figure(0.07 - 0.05)
    assert "one seed" in made["interval"]


def test_what_did_not_finish_is_not_in_the_rows_but_among_the_failures(
    tmp_path: Path,
) -> None:
    done, lost = write_run(tmp_path, a_point(0), local=0.05), a_point(1)
    failure = {"run": lost.name, "error": "WorkerLost: no memory"}

    made = build({**ASKED, "seeds": [0, 1]}, [done, lost], tmp_path, [failure])

    assert [row["seeds"] for row in made["rows"]] == [1]
    assert [run["seed"] for run in made["runs"]] == [0]
    assert made["failures"] == [failure]


def test_gains_that_are_all_the_same_are_certain_or_nothing(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path, a_point(n), federated=0.5, local=0.5, text=0.25)
        for n in (0, 1)
    ]

    found = {g["other"]: g["p"] for g in report(tmp_path, runs, 2)["differences"]}

    assert found == {"local": 1.0, "text": 0.0}
