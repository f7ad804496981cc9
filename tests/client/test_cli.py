"""A site's commands on a site that has not trained yet."""

import json
from pathlib import Path

from typer.testing import CliRunner

from client.cli import app
from client.policy import SitePolicy
from client.policy_file import policy_text
from client.site import SiteSettings, settings_text


def test_a_fresh_site_learns_what_a_default_round_would_cost(tmp_path: Path) -> None:
    settings = settings_text(SiteSettings(name="north", base="tiny"))
    (tmp_path / "site.toml").write_text(settings, "utf-8")
    policy = policy_text(SitePolicy(epsilon=8, users=50))
    (tmp_path / "policy.toml").write_text(policy, "utf-8")

    done = CliRunner().invoke(app, ["budget", str(tmp_path), "--rounds", "4", "--json"])

    shown = json.loads(done.output)
    assert done.exit_code == 0
    assert shown["spent"] == 0
    assert 0 < shown["next round would cost"] < 8
    assert shown["such rounds left"] >= 1
    assert shown["sigma for 4 more rounds"] > 0
