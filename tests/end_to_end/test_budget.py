"""A site that cannot pay for a round is refused by its own ledger; the others go on."""

from pathlib import Path

import pytest

from shared.accounting import epsilon
from tests.end_to_end.runs import (
    arguments,
    charged_events,
    ledger_lines,
    run,
    scenario,
    tacit,
)


@pytest.mark.slow
def test_sites_whose_budget_is_spent_are_refused_and_the_others_go_on(
    data: Path, tmp_path: Path
) -> None:
    """Site-2 cannot pay for the popularity release, site-3 not for a second round."""
    poor = {"site-2": (1, 0), "site-3": (7, 1)}  # name: (budget, rounds)
    asked = scenario(
        data,
        *(f"budgets.{name}={budget}" for name, (budget, _) in poor.items()),
        "federation.quorum=2",
        sites=4,
        epsilon=8.0,
        arms=["text-dp-popularity", "federated"],
    )

    made = run(asked, tmp_path)

    found = {site["name"]: site for site in made["sites"]}
    for name, (budget, rounds) in poor.items():
        spent = epsilon(charged_events(tmp_path, name), 1e-5)
        assert found[name]["budget"] == budget
        assert found[name]["epsilon"] == pytest.approx(spent, abs=1e-6)
        assert spent <= budget
        assert found[name]["rounds"] == rounds
        assert found[name]["refused"] == {
            str(number): "BudgetSpent" for number in range(rounds + 1, 3)
        }
        assert ledger_lines(tmp_path, name)[-1]["reason"] == "BudgetSpent"
    for name in ("site-1", "site-4"):
        assert found[name]["rounds"] == 2
        assert found[name]["refused"] == {}
        assert 7 < found[name]["epsilon"] <= 8
    assert made["privacy"]["epsilon_max"] == found["site-1"]["epsilon"]
    for arm in asked.simulation.arms:
        assert [*made["metrics"][arm]["sites"]] == [*found]


def test_a_site_that_trains_alone_keeps_what_its_budget_allowed(
    data: Path, tmp_path: Path
) -> None:
    asked = scenario(data, "budgets.site-2=0.5", arms=["popularity", "local"])

    made = run(asked, tmp_path)

    assert [site["rounds"] for site in made["sites"]] == [2, 0]
    assert made["sites"][1]["refused"] == {}  # of a round that never ended
    assert made["sites"][1]["epsilon"] == 0
    assert [*made["metrics"]["local"]["sites"]] == ["site-1", "site-2"]


def test_a_run_in_which_every_site_is_refused_fails(data: Path, tmp_path: Path) -> None:
    poor = ["budgets.site-1=0.1", "budgets.site-2=0.1"]

    failed = tacit(*arguments(scenario(data, *poor), tmp_path / "out"))

    assert failed.code == 1
    assert "0 of 2 sites count, quorum is 2" in failed.stderr
    assert "site-1: BudgetSpent, site-2: BudgetSpent" in failed.stderr
    for site in ("site-1", "site-2"):
        assert charged_events(tmp_path / "out", site) == []
