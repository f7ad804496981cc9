"""The report of a run: where its figures come from, and its page."""

import hashlib
from pathlib import Path

from shared.accounting import epsilon
from shared.code import code_digest
from simulations.report.build import _of_folder
from simulations.report.page import PAGES, html
from tests.end_to_end.conftest import Done
from tests.end_to_end.runs import (
    WEIGHTS,
    charged_events,
    report_of,
)


def test_a_report_names_its_command_its_scenario_and_its_versions(whole: Done) -> None:
    asked = report_of(whole.out)["asked"]

    assert asked["command"].startswith(f"tacit simulate --out {whole.out} --set ")
    assert asked["command"].endswith(" --json")
    assert asked["scenario"] == "generated"
    assert asked["versions"].keys() == {"python", "tacit", "torch", "flwr", "numpy"}


def test_digests_are_those_of_the_files_that_the_figures_rest_on(whole: Done) -> None:
    found = report_of(whole.out)["digests"]
    weights = (whole.out / "adapter" / WEIGHTS).read_bytes()

    assert found["adapter"] == hashlib.sha256(weights).hexdigest()
    assert found["code"] == code_digest()
    assert found["data"] == _of_folder(whole.out / "data")
    assert len({*found.values()}) == 5


def test_a_digest_of_a_folder_knows_every_name_and_every_byte(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    seen = [_of_folder(tmp_path)]
    for name, content in (("a/b", "1"), ("a/b", "2"), ("a/c", "2")):
        (tmp_path / name).write_text(content, "utf-8")
        seen.append(_of_folder(tmp_path))
    (tmp_path / "a" / "c").rename(tmp_path / "d")

    assert len({*seen, _of_folder(tmp_path)}) == 5


def test_rounds_tell_bytes_and_seconds_of_every_site(whole: Done) -> None:
    made = report_of(whole.out)

    for told in made["rounds"]:
        assert told["arm"] == "federated"
        assert told["bytes_up"].keys() == {*told["sites_ok"]}
        assert min(told["bytes_up"].values()) > 0
        assert told["bytes_down"] > 0
    for site in made["sites"]:
        up = sum(told["bytes_up"][site["name"]] for told in made["rounds"])
        assert site["bytes_up"] == up


def test_the_ledgers_epsilon_stands_on_the_page_and_repeatable_noise_is_marked(
    whole: Done,
) -> None:
    made = report_of(whole.out)
    page = (whole.out / "report.html").read_text("utf-8")
    spent = epsilon(charged_events(whole.out, "site-1"), 1e-5)

    assert page == html(PAGES[made["schema"]](made))
    assert f">{spent:.3f}</td>" in page
    assert made["metrics"]["federated"]["label"] == "NOT PRIVATE"
    assert 'class="verdict bad"' in page
