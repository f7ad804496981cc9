"""The server's page: the view, its figures, and when it is not ready."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from server.live.page import app
from tests.server.live.test_view import NODE
from tests.server.operated import an_operator, carry_out, task
from tests.server.world import refusing
from tests.shared.test_page import ask
from tests.standin import a_client


def figures(text: str) -> dict[str, float]:
    """What Prometheus reads: each figure by its name and its labels, sorted."""
    return {
        " ".join([sample.name, *sorted(sample.labels.values())]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_it_serves_the_view_of_its_folder(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    carry_out(task(folder))

    view = ask(app(folder, lambda: [NODE]), "/v1/view").json()

    assert view["reachable"] is True
    assert view["run"]["name"] == "spring"
    assert [each["number"] for each in view["run"]["rounds"]] == [1, 2]
    assert view["sites"][0]["status"] == "online"
    assert ask(app(folder, lambda: [NODE]), "/").text.startswith("<!doctype html>")


def test_prometheus_reads_rounds_sites_and_refusals(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    carry_out(task(folder), a_client(dishonest={"west": refusing}))

    found = figures(ask(app(folder, lambda: [NODE]), "/metrics").text)

    assert found["tacit_superlink_up"] == 1
    assert found["tacit_run_round spring"] == found["tacit_run_rounds spring"] == 2
    assert found["tacit_run_running spring"] == 0
    assert found["tacit_run_refusals_total PolicyRefused spring"] == 2
    assert found["tacit_site_rounds_total north spring"] == 2
    assert found["tacit_site_rounds_total spring west"] == 0
    assert found["tacit_site_online north"] == 1
    assert found["tacit_site_online south"] == 0
    assert found["tacit_site_doing north waiting"] == 1
    assert found["tacit_round_update_norm spring"] > 0


def test_it_is_ready_when_flower_answers_and_the_newest_version_is_whole(
    tmp_path: Path,
) -> None:
    folder = an_operator(tmp_path / "op")
    carry_out(task(folder))
    version = folder / "runs" / "spring" / "registry" / "round-0002"

    ready = ask(app(folder, list), "/readyz")
    unreachable = ask(app(folder, lambda: None), "/readyz")
    (version / "adapter_config.json").write_text("{}", "utf-8")
    damaged = ask(app(folder, list), "/readyz")

    assert (ready.status_code, ready.json()["reasons"]) == (200, [])
    assert unreachable.status_code == damaged.status_code == 503
    assert "SuperLink does not answer" in unreachable.json()["reasons"][0]
    assert "round-0002 is damaged" in damaged.json()["reasons"][0]
