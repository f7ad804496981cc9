"""A site's commands on a site that has not trained yet."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.policy import SitePolicy
from client.policy_file import policy_text
from client.site import SiteSettings, settings_text
from shared.accounting import GaussianEvent, epsilon


def fresh_site(folder: Path) -> Path:
    settings = settings_text(SiteSettings(name="north", base="tiny"))
    (folder / "site.toml").write_text(settings, "utf-8")
    policy = policy_text(SitePolicy(epsilon=8, users=50))
    (folder / "policy.toml").write_text(policy, "utf-8")
    return folder


def test_a_fresh_site_learns_what_a_default_round_would_cost(tmp_path: Path) -> None:
    fresh_site(tmp_path)

    done = CliRunner().invoke(app, ["budget", str(tmp_path), "--rounds", "4", "--json"])

    shown = json.loads(done.output)
    assert done.exit_code == 0
    assert shown["spent"] == 0
    assert 0 < shown["next round would cost"] < 8
    assert shown["such rounds left"] >= 1
    assert shown["sigma for 4 more rounds"] > 0


def test_the_noise_of_a_plan_leaves_room_for_the_releases_before_it(
    tmp_path: Path,
) -> None:
    """One step of one mechanism costs what its parts cost: Gaussians add up in mu."""
    words = ["--rounds", "4", "--q", "1", "--steps", "1", "--json"]
    releases = ["--prior-sigma", "2", "--head-sigma", "3"]
    fresh_site(tmp_path)

    plain, after = (
        json.loads(
            CliRunner().invoke(app, ["budget", str(tmp_path), *all_words]).output
        )
        for all_words in (words, words + releases)
    )

    sigma = after["sigma for 4 more rounds"]
    assert sigma > plain["sigma for 4 more rounds"]
    mu = (4 / sigma**2 + 1 / 2**2 + 1 / 3**2) ** 0.5
    whole = epsilon([GaussianEvent(q=1.0, sigma=1 / mu, steps=1)], 1e-5)
    assert after["spent after them"] == pytest.approx(whole, abs=0.01)
    assert 7.9 < after["spent after them"] <= 8
