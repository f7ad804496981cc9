"""Whole runs in which some sites are hostile."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_weights

from client.data import load
from server.events import read_events
from simulations.attack import promoted
from simulations.crew import Crew
from simulations.run import simulate
from simulations.scenario import Attack, Scenario
from tests.end_to_end.runs import report_of, run, scenario, weights

ARMS = ["popularity", "text-dp-popularity", "local", "federated"]
HONEST, HOSTILE = ["site-1", "site-2", "site-3"], ["site-4", "site-5"]


def attacked(data: Path, kind: str, *sets: str, hostile: int = 2) -> Scenario:
    """Five sites, of which the last ones attack ten times as strongly as they could."""
    asked = scenario(data, *sets, sites=5, arms=ARMS, rounds=2, curves=False)
    return replace(asked, attack=Attack(kind=kind, sites=hostile, strength=10.0))


@pytest.fixture(scope="module")
def turned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("turned") / "run"
    run(attacked(data, "sign-flip"), out)
    return out


def folders_of(out: Path, arm: str) -> list[str]:
    return sorted(one.name for one in (out / "arms" / arm).iterdir())


@pytest.mark.slow
def test_hostile_sites_count_in_no_arm_and_have_no_part_in_local(turned: Path) -> None:
    made = report_of(turned)

    assert [*made["metrics"]] == ARMS
    for arm in ARMS:
        assert [*made["metrics"][arm]["sites"]] == HONEST
        assert made["metrics"][arm]["exposure"]["target"] >= 0
    assert folders_of(turned, "local") == HONEST
    assert made["config"]["attack"] == {
        "kind": "sign-flip",
        "sites": 2,
        "strength": 10.0,
    }


@pytest.mark.slow
def test_the_server_takes_what_hostile_sites_send_and_tells_who_stands_out(
    turned: Path,
) -> None:
    rounds = rounds_of(turned)

    assert len(rounds) == 2
    for told in rounds:
        assert sorted(told["sites_ok"]) == HONEST + HOSTILE
        assert {*told["outliers"]} >= {*HOSTILE}
        assert min(told["norms"][name] for name in HOSTILE) > 5 * max(
            told["norms"][name] for name in HONEST
        )


def rounds_of(out: Path) -> list[dict[str, Any]]:
    return [e for e in read_events(out / "events.jsonl") if e["event"] == "round"]


@pytest.mark.slow
def test_an_attack_moves_the_mean_and_not_the_median_of_the_updates(
    turned: Path, data: Path, tmp_path: Path
) -> None:
    """Where only the hostile updates differ: in the first round."""
    lengths = {}
    for name, rule, hostile in (
        ("clean", "fedavg", 0),
        ("median", "fedmedian", 2),
    ):
        asked = attacked(data, "sign-flip", f"federation.rule={rule}", hostile=hostile)
        only = replace(asked.simulation, arms=("federated",), rounds=1)
        run(replace(asked, simulation=only), tmp_path / name)
        lengths[name] = rounds_of(tmp_path / name)[0]["update_norm"]
    mean = rounds_of(turned)[0]["update_norm"]

    assert mean > 4 * lengths["clean"]
    assert lengths["median"] < 2 * lengths["clean"]  # noise is averaged less


@pytest.mark.slow
def test_who_promotes_trains_on_invented_users_here_and_at_workers_alike(
    data: Path, tmp_path: Path
) -> None:
    asked = attacked(data, "promotion")
    only = replace(asked.simulation, arms=("federated",), rounds=1)
    asked = replace(asked, simulation=only)
    run(asked, tmp_path / "here")
    with Crew(2) as crew:
        simulate(
            asked, tmp_path / "there", resume=False, tell=lambda *_: None, crew=crew
        )

    here, there = (load_weights(weights(tmp_path / n)) for n in ("here", "there"))
    assert all(np.allclose(here[name], there[name], atol=1e-5) for name in here)
    made = tmp_path / "here" / "invented"
    assert sorted(one.name for one in made.iterdir()) == HOSTILE
    for site in made.iterdir():
        read = load(site)
        item = read.catalogue.position(promoted(read.catalogue))
        assert all(np.isin(item, history.items) for history in read.histories)
