"""PLAN.toml: all faults at once, and nothing in it that is not for a plan to say."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from server.operator import Operator, ServerSettings
from server.plan_file import read_plan, settings_for
from server.setup import init
from server.sites import admit
from shared.errors import ConfigError
from shared.identity import to_text
from shared.popularity import shared_part
from shared.release import WEIGHTS
from tests.shared.papers import an_identity
from tests.standin import key_of

PLAN = """\
run = "spring"
sites = ["north", "south"]
[federation]
rounds = 3
[spec]
rank = 4
[mechanism]
sigma = 1.9
"""
SHARED = f"""\
{PLAN}[recipe]
prior = "shared"
[catalogue]
digest = "0123456789abcdef"
items = 7
"""


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    from datetime import UTC, datetime  # noqa: PLC0415

    monkeypatch.setattr("server.setup.keep_bundle", lambda _: "")
    settings = ServerSettings(addresses=("127.0.0.1",), base="tiny")
    return init(tmp_path / "op", settings, datetime.now(UTC))


def plan(folder: Path, text: str = PLAN) -> Path:
    path = folder / "plan.toml"
    path.write_text(text, "utf-8")
    return path


def take(operator: Operator, *names: str) -> None:
    for name in names:
        admit(operator, to_text(an_identity(name), key_of(name)))


def test_a_plan_becomes_the_run_config_of_admitted_sites(
    operator: Operator, tmp_path: Path
) -> None:
    take(operator, "north", "south")

    settings = settings_for(operator, read_plan(plan(tmp_path)), resume=False)

    task = settings.federation
    assert (task.run, task.names, task.rounds) == ("spring", ("north", "south"), 3)
    assert task.out == str(operator.runs / "spring")
    assert task.key == str(operator.key)
    assert settings.mechanism.sigma == 1.9
    assert (Path(task.start) / "adapter_config.json").is_file()


def test_equal_specs_start_from_the_same_adapter(
    operator: Operator, tmp_path: Path
) -> None:
    take(operator, "north", "south")
    asked = read_plan(plan(tmp_path))
    other = read_plan(plan(tmp_path, PLAN.replace("rank = 4", "rank = 8")))

    starts = [
        settings_for(operator, one, resume=False).federation.start
        for one in (asked, asked, other)
    ]

    assert starts[0] == starts[1] != starts[2]


def test_a_shared_popularity_is_in_the_adapter_that_a_run_starts_from(
    operator: Operator, tmp_path: Path
) -> None:
    take(operator, "north", "south")
    texts = (PLAN, SHARED, SHARED.replace("items = 7", "items = 8"))
    asked = [read_plan(plan(tmp_path, text)) for text in texts]

    plain, shared, longer = (
        Path(settings_for(operator, one, resume=False).federation.start)
        for one in asked
    )

    assert len({plain, shared, longer}) == 3
    assert shared_part(load_file(plain / WEIGHTS)) == {}
    [(name, array)] = shared_part(load_file(shared / WEIGHTS)).items()
    assert name == "popularity.0123456789abcdef"
    assert array.tolist() == [0.0] * 7


def test_a_catalogue_goes_with_a_shared_prior_and_with_no_other(
    operator: Operator, tmp_path: Path
) -> None:
    take(operator, "north", "south")
    without = SHARED.partition("[catalogue]")[0]
    idle = SHARED.replace('"shared"', '"own"')

    with pytest.raises(ConfigError, match=r"table \[catalogue\].*site data check"):
        settings_for(operator, read_plan(plan(tmp_path, without)), resume=False)
    with pytest.raises(ConfigError, match=r"prior='own': give 'shared'"):
        settings_for(operator, read_plan(plan(tmp_path, idle)), resume=False)

    assert list(operator.starts.iterdir()) == []


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ('catalogue = "items.csv"\n', "not a table"),
        ("[catalogue]\nitems = 7\n", "missing key 'digest'"),
        ('[catalogue]\ndigest = "ABC"\nitems = 7\n', "digest='ABC' is not 16"),
        ('[catalogue]\ndigest = "0123456789abcdef"\nitems = 0\n', "items=0"),
    ],
)
def test_a_catalogue_is_a_digest_and_a_number_of_items(
    tmp_path: Path, table: str, fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        read_plan(plan(tmp_path, f'run = "spring"\nsites = []\n{table}'))


def test_sites_that_are_not_admitted_are_named(
    operator: Operator, tmp_path: Path
) -> None:
    take(operator, "north")

    with pytest.raises(ConfigError, match="sites south are not admitted"):
        settings_for(operator, read_plan(plan(tmp_path)), resume=False)


def test_what_follows_from_the_operators_folder_is_not_for_a_plan_to_say(
    tmp_path: Path,
) -> None:
    text = PLAN.replace("rounds = 3", 'rounds = 3\nout = "/x"\nkey = "/y"') + "[odd]\n"

    with pytest.raises(ConfigError) as told:
        read_plan(plan(tmp_path, text))

    for fault in ("3 fault(s)", "[federation] out", "[federation] key", "key 'odd'"):
        assert fault in str(told.value)


def test_impossible_values_are_told_before_anything_is_written(
    operator: Operator, tmp_path: Path
) -> None:
    take(operator, "north", "south")
    text = PLAN.replace("rank = 4", "rank = 0").replace("1.9", "0.1")

    with pytest.raises(ConfigError) as told:
        settings_for(operator, read_plan(plan(tmp_path, text)), resume=False)

    assert "rank=0" in str(told.value)
    assert "sigma=0.1" in str(told.value)
    assert list(operator.starts.iterdir()) == []


@pytest.mark.parametrize("text", ["", "run = ", 'run = "x"\nsites = "north"\n'])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"plan\.toml"):
        read_plan(plan(tmp_path, text))


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plan(tmp_path / "none.toml")
