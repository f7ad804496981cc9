"""The scenarios that come with Tacit, and the data that they name."""

import json
import re
import tomllib
from pathlib import Path

import click
import pytest
import typer

from shared.errors import ConfigError
from simulations.scenario_file import read_scenario
from simulations.shelf import about, found, packaged, with_data
from simulations.simulate import app
from simulations.sweep_plan import read_sweeps

NAMES = (
    *("cold-items", "cross-domain", "demo", "large-sites", "many-sites"),
    *("ml-100k-l2o", "ml-100k-loo", "poisoned", "skew", "small-sites"),
)
ROOT = Path(__file__).parents[2]


def test_the_scenarios_are_those_that_are_promised() -> None:
    assert tuple(packaged()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_is_read_without_a_fault(name: str) -> None:
    file = found(Path(name))

    assert read_scenario(file, {}, []).simulation.arms


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_says_its_question_its_cost_its_command_and_where_to_look(
    name: str,
) -> None:
    file = packaged()[name]
    comment = [line for line in file.read_text("utf-8").splitlines() if "#" in line]
    said = "\n".join(comment)

    assert about(file).endswith("?")
    assert f"tacit simulate {name}" in said
    assert re.search(r"^# Cost(, estimated)?: ", said, re.M)
    assert "Look at: " in said


def test_a_wheel_takes_the_scenarios_along() -> None:
    """Hatchling packs whatever lies in a package and git does not ignore."""
    made = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wheel = made["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert "simulations" in wheel["packages"]
    assert not {"only-include", "exclude"} & wheel.keys()


def test_a_scenario_is_found_by_name_or_by_path(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"

    assert found(Path("demo")) == packaged()["demo"]
    assert found(own) == own


def test_a_name_that_is_not_known_is_answered_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"'dmeo'.*demo, .*small-sites"):
        found(Path("dmeo"))


def test_a_data_set_that_is_named_is_taken_from_where_it_is_fetched_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "ml-100k").mkdir(parents=True)
    asked = read_scenario(None, {"data": "ml-100k"}, [])

    data = with_data(asked, "some").simulation.data

    assert data == str(tmp_path / "data" / "ml-100k")


def test_a_data_set_that_is_not_there_is_asked_for_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = read_scenario(None, {"data": "ml-100k"}, [])

    with pytest.raises(ConfigError, match=r"some needs .*--data DIR.*fetch ml-100k"):
        with_data(asked, "some")


@pytest.mark.parametrize("data", ["", "elsewhere/ml-100k"])
def test_a_folder_that_is_given_is_left_as_it_is(data: str) -> None:
    asked = read_scenario(None, {"data": data}, [])

    assert with_data(asked, "some") is asked


@pytest.mark.parametrize("name", NAMES)
def test_every_option_that_a_scenarios_comment_shows_exists(name: str) -> None:
    known = {option for each in options() for option in each.opts}
    text = packaged()[name].read_text("utf-8")
    shown = re.findall(r"(?<!\S)--[a-z-]+", text)

    assert set(shown) <= known


@pytest.mark.parametrize("name", NAMES)
def test_every_sweep_and_setting_that_a_scenarios_comment_shows_can_be_read(
    name: str,
) -> None:
    file = packaged()[name]
    text = file.read_text("utf-8")
    sets = re.findall(r"--set (\S+)", text)
    sweeps = [read_sweeps([given]) for given in re.findall(r"--sweep (\S+)", text)]
    each = [
        f"{key}={json.dumps(value)}"
        for swept in sweeps
        for key, values in swept.items()
        for value in values
    ]

    for setting in (*sets, *each):
        assert read_scenario(file, {}, [setting]).simulation.arms


def test_the_page_names_every_scenario() -> None:
    page = (ROOT / "docs" / "simulate.md").read_text("utf-8")

    named = re.findall(r"^\| `([\w-]+)` \|.*tacit simulate|^\| `(demo)`", page, re.M)
    assert {one or other for one, other in named} == {*NAMES}


def options() -> list[click.Parameter]:
    return typer.main.get_command(app).params
