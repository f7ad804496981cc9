"""The site's page: its view, its figures, and when it is not ready."""

import math
from pathlib import Path

import pytest

from client.live.page import app
from client.live.view import look
from client.standing import note
from tests.client.live.test_view import NOW, busy
from tests.factories import write_site
from tests.server.live.test_page import figures
from tests.shared.test_page import ask


def test_it_serves_the_view_of_its_folder(tmp_path: Path) -> None:
    site = busy(tmp_path / "site")

    served = ask(app(site.folder), "/v1/view").json()

    assert served["site"] == "site-1"
    assert served["took_part"] == 3
    assert served["budget"]["spent"] > 0
    assert ask(app(site.folder), "/").text.startswith("<!doctype html>")


def test_prometheus_reads_budget_rounds_and_node(tmp_path: Path) -> None:
    site = busy(tmp_path / "site")
    note(site.folder, "online")
    budget = look(site.folder, NOW).budget
    assert budget is not None

    found = figures(ask(app(site.folder), "/metrics").text)

    assert found["tacit_site_epsilon_spent"] == pytest.approx(budget.spent)
    assert found["tacit_site_epsilon_limit"] == 1
    assert found["tacit_site_rounds_total"] == 3
    assert found["tacit_site_bytes_out_total"] == 6
    assert found["tacit_site_refusals_total PolicyRefused"] == 2
    assert found["tacit_site_node online"] == 1
    assert found["tacit_site_node stopped"] == 0
    assert found["tacit_site_last_round_timestamp_seconds"] > 1.7e9


def test_an_unlimited_budget_is_infinite_for_prometheus(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", epsilon=math.inf)

    found = figures(ask(app(site.folder), "/metrics").text)

    assert found["tacit_site_epsilon_limit"] == math.inf


def test_it_is_ready_while_the_site_would_take_part(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", epsilon=4.0)
    stopped = ask(app(site.folder), "/readyz")
    note(site.folder, "online")

    assert stopped.status_code == 503
    assert stopped.json()["reasons"] == ["the node is stopped"]
    assert ask(app(site.folder), "/readyz").status_code == 200


def test_settings_that_cannot_be_read_are_said_and_it_lives_on(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", epsilon=1.0)
    served = app(site.folder)
    (site.folder / "policy.toml").write_text("[", "utf-8")

    answer = ask(served, "/v1/view")

    assert answer.status_code == 503
    assert "policy.toml" in answer.json()["fault"]
    assert ask(served, "/livez").status_code == 200
