"""What a simulation is asked: defaults, file, options, settings; faults at once."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.protocol import Mechanism
from simulations.scenario import (
    ARMS,
    ENGINES,
    NOT_PRIVATE,
    PARTITIONS,
    Scenario,
    site_names,
)
from simulations.scenario_file import DEFAULTS, read_scenario

BASE = "0" * 64


def written(folder: Path, text: str) -> Path:
    (folder / "scenario.toml").write_text(text, "utf-8")
    return folder / "scenario.toml"


def test_nothing_asked_is_the_defaults() -> None:
    known = tomllib.loads(DEFAULTS.read_text("utf-8"))

    scenario = read_scenario(None, {}, [])

    own = known.pop("simulation")
    assert scenario.simulation.rounds == own["rounds"]
    assert {**scenario.overrides, "no-dp": scenario.no_dp} == known
    assert scenario.budgets == {}


KEYS = {  # of which every one is in the defaults of arms without privacy
    f"{table}.{key}": value
    for table, keys in tomllib.loads(DEFAULTS.read_text("utf-8"))["no-dp"].items()
    for key, value in keys.items()
}
OTHERS: dict[str, st.SearchStrategy[Any]] = {
    "simulation.rounds": st.integers(1, 99),
    "mechanism.q": st.floats(0.01, 1),
    "mechanism.steps": st.integers(1, 99),
    "recipe.optimizer": st.just("sgd"),
    "recipe.learning-rate": st.floats(0.001, 0.2),
    "recipe.head-items": st.integers(1, 999),
    "recipe.factors": st.integers(1, 99),
    "recipe.history": st.integers(1, 99),
    "recipe.targets": st.integers(1, 99),
    "recipe.negatives": st.integers(1, 99),
    "federation.rule": st.sampled_from(["fedavg", "fedmedian"]),
}


def effective(asked: Scenario, arm: str, name: str) -> object:
    """What an arm runs with."""
    table, _, key = name.partition(".")
    own = asked.of(arm)
    if table == "simulation":
        return getattr(own.simulation, key)
    return own.overrides[table].get(key)


@st.composite
def wishes(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """What a file, ``--set`` and a file's no-dp tables say of some keys."""
    return {
        by: {key: draw(OTHERS[key]) for key in draw(st.sets(st.sampled_from([*KEYS])))}
        for by in ("file", "no-dp", "set")
    }


@given(wishes=wishes(), arm=st.sampled_from(ARMS))
def test_what_is_said_is_for_every_arm_and_only_what_nobody_says_has_two_defaults(
    tmp_path_factory: pytest.TempPathFactory,
    wishes: dict[str, dict[str, Any]],
    arm: str,
) -> None:
    file: dict[str, Any] = {"no-dp": {}}
    for name, value in wishes["file"].items():
        table, _, key = name.partition(".")
        file.setdefault(table, {})[key] = value
    for name, value in wishes["no-dp"].items():
        table, _, key = name.partition(".")
        file["no-dp"].setdefault(table, {})[key] = value
    sets = [f"{name}={json.dumps(value)}" for name, value in wishes["set"].items()]
    path = written(tmp_path_factory.getbasetemp(), tomli_w.dumps(file))

    asked, nothing = read_scenario(path, {}, sets), read_scenario(None, {}, [])

    said = {**wishes["file"], **wishes["set"]}
    if arm in NOT_PRIVATE:
        said |= wishes["no-dp"]
    for name in KEYS:
        wanted = said.get(name, effective(nothing, arm, name))
        assert effective(asked, arm, name) == wanted


def test_there_are_two_defaults_where_noise_decides_what_learns_best() -> None:
    nothing = read_scenario(None, {}, [])

    assert set(KEYS) == set(OTHERS)
    for name, value in KEYS.items():
        assert effective(nothing, "federated-no-dp", name) == value
        assert effective(nothing, "federated", name) != value


def test_rounds_on_the_command_line_are_those_of_every_arm() -> None:
    asked = read_scenario(None, {"rounds": 3}, [])

    assert {effective(asked, arm, "simulation.rounds") for arm in ARMS} == {3}


def test_sites_of_different_items_share_no_popularity_unless_they_are_told_to() -> None:
    asked = {"partition": "domain"}
    assert read_scenario(None, {}, []).recipe().prior == "shared"
    assert read_scenario(None, asked, []).recipe().prior == "own"
    told = read_scenario(None, asked, ["recipe.prior=shared"])
    assert told.recipe().prior == "shared"


def test_without_privacy_every_arm_has_the_defaults_of_those_without() -> None:
    asked = read_scenario(None, {"no-dp": True}, [])

    for name, value in KEYS.items():
        assert effective(asked, "federated", name) == value


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["recipe.head=steps"], r"arms with privacy: recipe\.head='steps' needs recipe"
         r"\.optimizer=adam, with federation\.rule=fedavg"),
        (["recipe.optimizer=adam"], r"'spectral' takes .* give federation\.rule=fedavg"
         r"\n.*learning-rate=2\.0 is a step of 'sgd'"),
        (["recipe.learning-rate=2", "arms=['federated-no-dp']"],
         r"arms without privacy:\n.*learning-rate=2\.0 is a step of 'sgd'"),
        (["federation.rule=spectral", "no-dp=true"], "'spectral' takes out white"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_together_are_refused_with_the_remedy(
    sets: list[str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        read_scenario(None, {}, sets)


@pytest.mark.parametrize(
    "sets",
    [
        ["recipe.head=steps", "recipe.optimizer=adam", "recipe.learning-rate=0.02",
         "federation.rule=fedavg"],
        ["recipe.head=steps", "arms=['text', 'federated-no-dp']"],
        ["federation.rule=spectral"],
    ],
)  # fmt: skip
def test_only_arms_that_train_are_held_to_what_fits_together(sets: list[str]) -> None:
    assert read_scenario(None, {}, sets).simulation.arms


def test_the_command_line_wins_over_the_file_and_set_over_all(tmp_path: Path) -> None:
    text = (
        "[simulation]\nsites = 2\nrounds = 7\nepsilon = 1\n[recipe]\nfactors = 8\n"
        "alpha = 0.25\n"
    )

    scenario = read_scenario(
        written(tmp_path, text),
        {"rounds": 9, "epsilon": 2.0, "seed": None},
        ["epsilon=3", "recipe.factors=16"],
    )

    asked, recipe = scenario.simulation, scenario.recipe()
    assert (asked.sites, asked.rounds, asked.epsilon, asked.seed) == (2, 9, 3.0, 0)
    assert (recipe.factors, recipe.alpha) == (16, 0.25)


def test_what_is_set_reaches_spec_mechanism_recipe_and_federation() -> None:
    sets = ["spec.rank=8", "mechanism.q=0.5", "recipe.targets=3", "federation.trim=0.1"]
    scenario = read_scenario(None, {"seed": 5}, sets)
    rest = {"run": "r", "out": "/o", "start": "/s", "sites": "a,b"}

    assert scenario.spec(BASE).rank == 8
    assert scenario.mechanism(sigma=2.0, prior_sigma=3.0) == Mechanism(
        q=0.5, sigma=2.0, clip=1.0, steps=1, prior_sigma=3.0
    )
    assert (scenario.recipe().targets, scenario.recipe().seed) == (3, 5)
    assert scenario.federation(**rest, rounds=2).trim == 0.1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("base=tiny", "tiny"),
        ("base='tiny'", "tiny"),
        ('base = "a=b"', "a=b"),
        ("base=/models/x", "/models/x"),
    ],
)
def test_a_set_value_is_toml_or_else_the_text_itself(text: str, value: str) -> None:
    setting = text.replace(" = ", "=")

    assert read_scenario(None, {}, [setting]).simulation.base == value


def test_a_setting_without_a_value_says_how_to_write_one() -> None:
    with pytest.raises(ConfigError, match="--set epsilon: write key=value"):
        read_scenario(None, {}, ["epsilon"])


def test_unknown_tables_and_keys_are_named_at_once(tmp_path: Path) -> None:
    text = "[simulatoin]\n[recipe]\nepochs = 3\nseed = 1\n[mechanism]\nsigma = 0.1\n"

    with pytest.raises(ConfigError) as caught:
        read_scenario(written(tmp_path, text), {}, ["spec.base=x"])

    for told in (
        "unknown table [simulatoin]",
        "unknown key recipe.epochs",
        "unknown key recipe.seed",
        "unknown key mechanism.sigma",
        "unknown key spec.base",
    ):
        assert told in str(caught.value)


def test_the_noise_is_found_from_the_budget_and_cannot_be_set() -> None:
    for key in ("mechanism.sigma", "mechanism.prior-sigma"):
        with pytest.raises(ConfigError, match=f"unknown key {key}"):
            read_scenario(None, {}, [f"{key}=0.3"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"partition": "fair"}, f"partition='fair' is not one of {PARTITIONS[0]}"),
        ({"engine": "spark"}, f"engine='spark' is not one of {', '.join(ENGINES)}"),
        ({"arms": ["text", "best"]}, f"arms='best' is not one of {', '.join(ARMS)}"),
        ({"sites": 0}, "sites=0 must be at least 1"),
        ({"rounds": 0}, "rounds=0 must be at least 1"),
        ({"users": -1}, "users=-1 must be at least 1"),
        ({"epsilon": 0.0}, "epsilon=0.0 must be finite and above 0; see --no-dp"),
        ({"epsilon": float("inf")}, "epsilon=inf must be finite"),
        ({"prior-share": 1.0}, "prior-share=1.0 is not in (0, 1)"),
        ({"delta": 1.0}, "delta=1.0 is not in (0, 1)"),
        ({"seed": -1}, "seed=-1 must not be below 0"),
        ({"workers": -2}, "workers=-2 must not be below 0"),
        ({"sites": "three"}, "sites='three' is not int"),
        ({"sitse": 3}, "unknown key 'sitse'"),
    ],
)
def test_an_impossible_simulation_is_refused(
    options: dict[str, object], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_scenario(None, options, [])

    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("spec.rank=0", "rank=0 is not in"),
        ("recipe.alpha=2.0", "alpha=2.0 is not in"),
        ("mechanism.q=0.0", "q=0.0 is not in"),
    ],
)
def test_values_out_of_range_are_found_before_anything_runs(
    setting: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_scenario(None, {}, [setting])

    assert told in str(caught.value)


def test_a_site_may_have_a_budget_of_its_own() -> None:
    scenario = read_scenario(None, {"sites": 12}, ["budgets.site-03=2"])

    assert scenario.budgets == {"site-03": 2.0}


@pytest.mark.parametrize("setting", ["site-4=1", "site-1=0", "site-1=-1", "site-1=x"])
def test_a_budget_is_a_number_above_0_for_a_site_that_is_there(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"must be one of site-1\.\.site-3"):
        read_scenario(None, {"sites": 3}, [f"budgets.{setting}"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[simulation", "is not TOML"),
        (b"[simulation]\ndata = '\xff'", "is not TOML"),
        (b"sites = 3\nrecipe = 1\n[simulation]\n", "sites, recipe outside any"),
    ],
)
def test_a_file_that_is_no_scenario_is_named(
    tmp_path: Path, content: bytes, told: str
) -> None:
    file = tmp_path / "scenario.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=f"scenario {file}.*{told}"):
        read_scenario(file, {}, [])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        read_scenario(tmp_path / "absent.toml", {}, [])


SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "simulation.epsilon": st.floats(0.01, 100),
    "simulation.arms": st.lists(st.sampled_from(ARMS), min_size=1, max_size=3),
    "simulation.no-dp": st.booleans(),
    "simulation.data": st.text(max_size=9),
    "spec.down": st.sampled_from(["seed", "text"]),
    "mechanism.clip": st.floats(0.1, 10),
    "recipe.negatives": st.integers(1, 99),
    "federation.rule": st.sampled_from(["fedavg", "fedadam"]),
    "no-dp.recipe": st.fixed_dictionaries({"factors": st.integers(1, 99)}),
    "budgets.site-2": st.floats(0.1, 10),
}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for name in draw(st.sets(st.sampled_from(sorted(SETTINGS)))):
        table, _, key = name.partition(".")
        made.setdefault(table, {})[key] = draw(SETTINGS[name])
    return made


def read(folder: Path, asked: dict[str, Any]) -> Scenario:
    return read_scenario(written(folder, tomli_w.dumps(asked)), {}, [])


@settings(max_examples=40)
@given(asked=tables())
def test_a_scenario_written_out_whole_reads_back_as_the_same(
    tmp_path_factory: pytest.TempPathFactory, asked: dict[str, dict[str, Any]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    scenario = read(folder, asked)

    assert read(folder, scenario.tables()) == scenario


def test_how_many_work_is_not_of_the_scenario() -> None:
    one, two = (read_scenario(None, {"workers": workers}, []) for workers in (1, 2))

    assert two.simulation.workers == 2
    assert one.tables() == two.tables()


@given(count=st.integers(1, 1200))
def test_names_of_sites_sort_in_their_order(count: int) -> None:
    names = site_names(count)

    assert len(set(names)) == count
    assert list(names) == sorted(names)
    assert names[-1] == f"site-{count}"
