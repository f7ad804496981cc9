"""All arms of small runs: the same events, one way of ranking, each one labelled."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from shared.accounting import epsilon
from simulations.scenario import ARMS, NOT_PRIVATE
from tests.end_to_end.runs import (
    charged_events,
    ledger_lines,
    rankings,
    report_of,
    run,
    scenario,
)


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Every arm there is, with privacy, over one site that never trains."""
    out = tmp_path_factory.mktemp("runs") / "arms"
    asked = scenario(
        data, "insecure-test-noise=false", "unseen-sites=1", "negatives=20",
        sites=3, arms=[*ARMS],
    )  # fmt: skip
    return out, run(asked, out)


@pytest.mark.slow
def test_every_arm_ranks_the_same_users(made: tuple[Path, Any]) -> None:
    metrics = made[1]["metrics"]

    assert [*metrics] == [*ARMS]
    users = [
        {name: site["users"] for name, site in metrics[arm]["sites"].items()}
        for arm in ARMS
    ]
    assert users == [users[0]] * len(ARMS)
    assert [*users[0]] == ["site-1", "site-2"]
    for figures in metrics.values():
        assert 0 <= figures["ndcg@10"]["mean"] <= figures["hr@10"]["mean"] <= 1
        assert figures["sampled"]["negatives"] == 20
        assert figures["validation"]["ndcg@10"]["mean"] >= 0


@pytest.mark.slow
def test_every_arm_ranks_items_that_came_when_training_was_over(
    data: Path, tmp_path: Path
) -> None:
    asked = scenario(data, "cold-items=0.3", sites=2, arms=[*ARMS])

    metrics = run(asked, tmp_path / "late")["metrics"]

    late = {arm: figures["slices"]["new-items"] for arm, figures in metrics.items()}
    assert len({figures["users"] for figures in late.values()}) == 1
    assert late["popularity"]["hr@10"]["mean"] == 0  # nobody has met them
    assert late["federated-no-dp"]["hr@10"]["mean"] > 0  # their texts are read


@pytest.mark.slow
def test_arms_that_promise_nothing_say_so_and_the_others_cost_what_ledgers_say(
    made: tuple[Path, Any],
) -> None:
    out, report = made
    labels = {arm for arm, m in report["metrics"].items() if "label" in m}
    spent = {arm: m["epsilon"] for arm, m in report["metrics"].items()}
    places = {"federated": "", "local": "arms/local/site-1", "cf": "arms/local/site-1"}

    assert labels == {*NOT_PRIVATE}
    assert {arm for arm, value in spent.items() if value is None} == {*NOT_PRIVATE}
    assert spent["text"] == 0
    for arm, place in places.items():
        events = charged_events(out / place, "site-1")
        assert spent[arm] == pytest.approx(epsilon(events, 1e-5), abs=1e-6)
    released = [e for e in charged_events(out, "site-1") if e.q == 1 and e.steps == 1]
    for arm in ("dp-popularity", "text-dp-popularity"):
        assert spent[arm] == pytest.approx(epsilon(released[:1], 1e-5), abs=1e-6)
        assert 0 < spent[arm] < spent["federated"]
    for arm in ("central-no-dp/sites/central", "local-no-dp/site-1/sites/site-1"):
        folder, site = (out / "arms" / arm).parents[1], (out / "arms" / arm).name
        charged = [e for e in ledger_lines(folder, site) if e["state"] == "planned"]
        assert charged
        assert all(entry["sigma"] is None for entry in charged)


@pytest.mark.slow
def test_a_site_that_never_trained_is_served_what_the_others_trained(
    made: tuple[Path, Any],
) -> None:
    out, report = made
    unseen = {
        arm for arm, m in report["metrics"].items() if "unseen-sites" in m["slices"]
    }

    assert {"text", "federated", "federated-no-dp", "central-no-dp"} < unseen
    assert not unseen & {"local", "local-no-dp", "cf", "dp-popularity"}
    assert not [*out.rglob("site-3*")]


@pytest.mark.slow
def test_a_trained_arm_has_a_curve_that_ends_where_validation_stands(
    made: tuple[Path, Any],
) -> None:
    for arm, figures in made[1]["metrics"].items():
        if arm.startswith(("federated", "local", "central")):
            assert [point["round"] for point in figures["curve"]] == [1, 2]
            last = figures["curve"][-1]["ndcg@10"]
            assert last == pytest.approx(figures["validation"]["ndcg@10"]["mean"])
        else:
            assert figures["curve"] == []


def test_a_run_of_plain_arms_trains_nothing_and_needs_no_site(
    data: Path, tmp_path: Path
) -> None:
    made = run(scenario(data, arms=["popularity", "ease", "text"]), tmp_path)

    assert made["arm"] is None
    assert not (tmp_path / "sites").exists()
    assert made["metrics"]["ease"]["chosen"]["lambda"] > 0
    assert made["metrics"]["text"]["epsilon"] == 0


@pytest.mark.slow
def test_leaving_one_out_measures_nothing_on_what_was_trained_on(
    data: Path, tmp_path: Path
) -> None:
    asked = scenario(
        data, "split=leave-one-out", "negatives=10", rounds=1,
        arms=["popularity", "item-knn", "federated-no-dp"],
    )  # fmt: skip

    made = run(asked, tmp_path)

    for figures in made["metrics"].values():
        assert "validation" not in figures
        assert figures["curve"] == []
        assert figures["sampled"]["hr@10"]["mean"] >= figures["hr@10"]["mean"]


def test_sites_of_different_items_are_centred_and_counted_one_by_one(
    data: Path, tmp_path: Path
) -> None:
    arms = ["popularity", "item-knn", "central-no-dp", "text"]
    asked = scenario(data, partition="domain", sites=3, rounds=1, arms=arms)

    with rankings() as found:
        made = run(asked, tmp_path)

    assert {ranking.items for ranking in found} == {48}
    assert len(made["metrics"]["item-knn"]["chosen"]) == 3
    for figures in made["metrics"].values():
        assert [*figures["sites"]] == ["site-1", "site-2", "site-3"]


def test_without_curves_only_the_last_version_is_measured(
    data: Path, tmp_path: Path
) -> None:
    made = run(scenario(data, "curves=false"), tmp_path)

    figures = made["metrics"]["federated"]
    assert figures["curve"] == []
    assert figures["validation"]["ndcg@10"]["mean"] >= 0
    assert json.dumps(report_of(tmp_path)["metrics"]) == json.dumps(made["metrics"])
    assert math.isfinite(figures["gap"])
