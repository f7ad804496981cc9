"""A whole run from the command line to the files it leaves."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from client.app import reply
from client.data import load
from server.events import read_events
from shared.accounting import epsilon
from shared.wire import open_refusal, pack_plan
from simulations.scenario_file import read_scenario
from tests.end_to_end.conftest import Done
from tests.end_to_end.runs import (
    A_USER,
    TINY,
    WEIGHTS,
    arguments,
    charged_events,
    rankings,
    report_of,
    run,
    scenario,
    snapshot,
    tacit,
    weights,
)
from tests.factories import mechanism, tiny_plan, write_site, zeros

SITES = ("site-1", "site-2")


def test_a_run_reports_what_it_did_what_it_found_and_what_it_cost(whole: Done) -> None:
    made = report_of(whole.out)

    assert whole.printed.code == 0
    assert made["schema"] == "tacit/report/2"
    assert made["config"] == whole.asked.tables()
    assert made["engine"] == "inprocess"
    assert [site["name"] for site in made["sites"]] == [*SITES]
    for site in made["sites"]:
        assert site["rounds"] == 2
        assert site["bytes_up"] > 0
        assert site["bytes_down"] > 0
        assert site["epsilon"] > 0
        assert site["delta"] == 1e-5
    assert [told["round"] for told in made["rounds"]] == [1, 2]
    for told in made["rounds"]:
        assert told["sites_ok"] == [*SITES]
        assert told["update_norm"] > 0
        assert told["seconds"] > 0
    for name in ("ndcg@10", "hr@10"):
        figure = made["metrics"]["federated"][name]
        assert 0 <= figure["mean"] <= 1
        assert figure["low"] <= figure["mean"] <= figure["high"]
    privacy = made["privacy"]
    assert privacy["unit"].startswith("one user account at one site")
    assert privacy["relation"].startswith("add/remove one user")
    assert privacy["delta"] == 1e-5
    assert made["timing"]["total_s"] > 0


def test_a_run_leaves_report_events_settings_adapter_and_a_ledger_for_each_site(
    whole: Done,
) -> None:
    out = whole.out
    events = read_events(out / "events.jsonl")

    assert [e["number"] for e in events if e["event"] == "round"] == [1, 2]
    assert (out / "config.toml").is_file()
    assert (out / "adapter" / "adapter_config.json").is_file()
    assert weights(out) == (out / "registry" / "round-0002" / WEIGHTS).read_bytes()
    ledgers = sorted(out.rglob("ledger.sqlite"))
    assert [path.parent.name for path in ledgers] == [*SITES]
    assert [site["ledger"] for site in report_of(out)["sites"]] == [*map(str, ledgers)]


def test_every_epsilon_of_a_report_is_that_of_the_ledger_and_within_budget(
    whole: Done,
) -> None:
    """Recomputed from the file alone; the report rounds to six places."""
    made = report_of(whole.out)

    for site in made["sites"]:
        events = charged_events(whole.out, site["name"])
        assert sum(event.steps for event in events) == 1 + 2 * 3
        spent = epsilon(events, site["delta"])
        swapped = epsilon(events, site["delta"], "replace_one")
        assert site["epsilon"] == pytest.approx(spent, abs=1e-6)
        assert site["epsilon_replace_one"] == pytest.approx(swapped, abs=1e-6)
        assert spent <= site["budget"] == whole.asked.simulation.epsilon
    worst = max(site["epsilon"] for site in made["sites"])
    assert made["privacy"]["epsilon_max"] == worst


def test_json_on_the_command_line_is_the_report_in_the_folder(whole: Done) -> None:
    assert json.loads(whole.printed.stdout) == report_of(whole.out)


def test_test_noise_is_never_called_private(whole: Done) -> None:
    made = report_of(whole.out)

    assert made["privacy"]["claim"] == "NOT PRIVATE"
    assert made["metrics"]["federated"]["label"] == "NOT PRIVATE"


def test_the_same_seed_with_test_noise_gives_equal_bytes_and_ranks(
    whole: Done, tmp_path: Path
) -> None:
    made = []
    for name in ("one", "two"):
        with rankings() as ranks:
            run(whole.asked, tmp_path / name)
        made.append(np.concatenate([ranking.rank for ranking in ranks]))

    assert weights(tmp_path / "one") == weights(tmp_path / "two") == weights(whole.out)
    assert np.array_equal(made[0], made[1])
    assert report_of(tmp_path / "one")["metrics"] == report_of(whole.out)["metrics"]


@pytest.mark.slow
def test_without_test_noise_two_runs_differ(data: Path, tmp_path: Path) -> None:
    asked = scenario(data, "insecure-test-noise=false")

    made = run(asked, tmp_path / "one")
    run(asked, tmp_path / "two")

    assert weights(tmp_path / "one") != weights(tmp_path / "two")
    assert made["privacy"]["claim"] == "user-level DP per site"


def test_sites_of_different_catalogues_train_one_adapter(
    data: Path, tmp_path: Path
) -> None:
    asked = scenario(
        data,
        partition="domain",
        sites=3,
        arms=["popularity", "text-dp-popularity", "federated"],
    )

    made = run(asked, tmp_path)

    items = [load(path).catalogue.ids for path in sorted((tmp_path / "data").iterdir())]
    assert [len(set(ids)) for ids in items] == [48, 48, 48]
    assert len({name for ids in items for name in ids}) == 144
    assert [told["sites_ok"] for told in made["rounds"]] == [
        ["site-1", "site-2", "site-3"]
    ] * 2
    assert len([*(tmp_path / "adapter").glob("*.safetensors")]) == 2
    for arm in ("popularity", "text-dp-popularity", "federated"):
        sites = made["metrics"][arm]["sites"]
        assert [*sites] == ["site-1", "site-2", "site-3"]
        assert all(
            0 <= site["ndcg@10"] <= site["hr@10"] <= 1 for site in sites.values()
        )
        assert all(site["users"] > 0 for site in sites.values())


@pytest.mark.slow
def test_the_defaults_spend_the_budget_in_few_full_steps_and_no_more(
    data: Path, tmp_path: Path
) -> None:
    options = {"data": str(data), "sites": 2, "arms": ["federated"], "curves": False}

    run(read_scenario(None, options, TINY), tmp_path)

    events = charged_events(tmp_path, "site-1")
    assert [(event.q, event.steps) for event in events] == [(1.0, 1)] * (2 + 4)
    assert 7.9 < epsilon(events, 1e-5) <= 8


def test_sites_that_train_alone_report_rounds_and_bytes_of_their_own(
    data: Path, tmp_path: Path
) -> None:
    made = run(scenario(data, arms=["local"]), tmp_path)

    assert made["arm"] == "local"
    assert [told["sites_ok"] for told in made["rounds"]] == [
        ["site-1"], ["site-1"], ["site-2"], ["site-2"],
    ]  # fmt: skip
    for site in made["sites"]:
        assert site["rounds"] == 2
        assert site["bytes_up"] > 0
        assert site["epsilon"] > 0


@pytest.mark.parametrize(
    "rule", [["federation.quorum=2"], ["federation.rule=krum", "federation.quorum=3"]]
)
def test_what_a_federation_needs_is_not_asked_of_a_site_alone(
    data: Path, tmp_path: Path, rule: list[str]
) -> None:
    arms, simple = ["local", "federated"], ["no-dp=true", *rule]

    made = run(scenario(data, *simple, sites=3, rounds=1, arms=arms), tmp_path)

    assert {*made["metrics"]} == {"local", "federated"}


def test_without_privacy_every_trained_arm_says_so(data: Path, tmp_path: Path) -> None:
    arms = ["text-dp-popularity", "local", "federated", "federated-no-dp"]

    made = run(scenario(data, "no-dp=true", rounds=1, arms=arms), tmp_path)

    assert {arm: m.get("label") for arm, m in made["metrics"].items()} == dict.fromkeys(
        arms, "NOT PRIVATE"
    )
    assert [site["epsilon"] for site in made["sites"]] == [None, None]
    assert [site["budget"] for site in made["sites"]] == [None, None]
    assert made["privacy"]["claim"] == "NOT PRIVATE"
    assert made["privacy"]["epsilon_max"] is None


@pytest.mark.slow
def test_an_arm_without_noise_is_labelled_beside_a_private_one(
    data: Path, tmp_path: Path
) -> None:
    """Each arm is held to its own ledgers."""
    arms = ["federated", "local", "federated-no-dp"]

    made = run(scenario(data, "insecure-test-noise=false", arms=arms), tmp_path)

    figures = made["metrics"]
    assert figures["federated-no-dp"]["label"] == "NOT PRIVATE"
    assert figures["federated-no-dp"]["epsilon"] is None
    for arm, place in (("federated", ""), ("local", "arms/local/site-1")):
        spent = epsilon(charged_events(tmp_path / place, "site-1"), 1e-5)
        assert figures[arm]["epsilon"] == pytest.approx(spent, abs=1e-6)
        assert "label" not in figures[arm]
    assert all(site["epsilon"] <= 2 for site in made["sites"])


def test_a_site_with_a_finite_budget_refuses_a_plan_without_noise(
    tmp_path: Path,
) -> None:
    """It has no data folder at all, so nothing was read; and nothing was charged."""
    site = write_site(tmp_path, epsilon=8.0)
    asked = tiny_plan(mechanism=mechanism(sigma=0.0, prior_sigma=0.0))

    answer = reply(pack_plan(asked, zeros(asked)), tmp_path)

    assert open_refusal(answer) == ("site-1", "PolicyRefused")
    assert not site.data.exists()
    assert site.open_ledger().epsilon() == 0


def test_a_second_run_into_the_same_folder_is_refused(whole: Done) -> None:
    before = snapshot(whole.out)

    again = tacit(*arguments(whole.asked, whole.out))

    assert again.code == 2
    assert "--resume" in again.stderr
    assert snapshot(whole.out) == before


def test_a_run_is_not_resumed_with_other_settings(whole: Done, data: Path) -> None:
    before = snapshot(whole.out)

    again = tacit(*arguments(scenario(data, seed=7), whole.out, "--resume"))

    assert again.code == 2
    assert "config.toml" in again.stderr
    assert snapshot(whole.out) == before


def test_a_folder_that_holds_something_else_is_not_taken(
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", "utf-8")

    refused = tacit(*arguments(scenario(data), tmp_path))

    assert refused.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_table_for_people_names_arms_sites_and_what_was_spent(
    data: Path, tmp_path: Path
) -> None:
    asked = scenario(data, arms=["popularity", "text-dp-popularity", "federated"])

    shown = tacit(*arguments(asked, tmp_path / "out"))

    assert shown.code == 0
    for word in (
        "popularity",
        "text-dp-popularity",
        "federated",
        *SITES,
        "NOT PRIVATE",
        "epsilon",
    ):
        assert word in shown.stdout
    assert "federated: round 1 (2 in all)" in shown.stderr
    assert not re.search(A_USER, (shown.stdout + shown.stderr).encode())
