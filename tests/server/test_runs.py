"""Runs of an operator: begun once, gone on with, stopped; Flower is stood in for."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from server import runs
from server.events import Begun, Ended, to_line
from server.flower import FlowerRun
from server.operator import Operator, ServerSettings
from server.plan_file import read_plan
from server.runs import MOST_TRIES, all_runs, begin, ended, resume_interrupted, stop
from server.settings import read_settings
from shared.errors import ConfigError

PLAN = 'run = "spring"\nsites = ["north"]\n'


class Flower:
    """What the SuperLink would know: runs by number, and what they were told."""

    def __init__(self) -> None:
        self.status: list[str] = []
        self.configs: list[Mapping[str, object]] = []

    def start(
        self, _operator: Operator, _bundle: bytes, config: Mapping[str, object]
    ) -> int:
        self.configs.append(config)
        self.status.append("running")
        return len(self.status)

    def list(self, _operator: Operator) -> list[FlowerRun]:
        return [
            FlowerRun(id=number, status=status, details="")
            for number, status in enumerate(self.status, 1)
        ]

    def stop(self, _operator: Operator, number: int) -> None:
        self.status[number - 1] = "finished:stopped"

    def die(self) -> None:
        self.status[-1] = "finished:failed"


@pytest.fixture
def flower(monkeypatch: pytest.MonkeyPatch) -> Flower:
    made = Flower()
    monkeypatch.setattr(runs, "start_run", made.start)
    monkeypatch.setattr(runs, "runs", made.list)
    monkeypatch.setattr(runs, "stop_run", made.stop)
    monkeypatch.setattr(runs, "settings_for", settings)
    return made


def settings(operator: Operator, plan: object, *, resume: bool) -> object:  # noqa: ARG001
    flat = {
        "federation.run": "spring", "federation.sites": "north", "spec.base": "0" * 64,
        "federation.out": str(operator.runs / "spring"), "federation.start": "/",
        "federation.resume": resume,
    }  # fmt: skip
    return read_settings(flat)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    made = Operator(tmp_path, ServerSettings(addresses=("127.0.0.1",)))
    made.runs.mkdir()
    made.bundle.write_bytes(b"bundle")
    (tmp_path / "plan.toml").write_text(PLAN)
    return made


def say(operator: Operator, *events: Begun | Ended) -> None:
    """Let the run's server app say this."""
    with (operator.runs / "spring" / "events.jsonl").open("a") as file:
        file.writelines(f"{to_line(event)}\n" for event in events)


BEGUN = Begun(run="spring", rounds=3, first=1, sites=("north",), deadline_s=9.0)


def test_a_run_is_begun_once(operator: Operator, flower: Flower) -> None:
    begin(operator, operator.folder / "plan.toml")

    with pytest.raises(ConfigError, match="holds a run already: give --resume"):
        begin(operator, operator.folder / "plan.toml")
    with pytest.raises(ConfigError, match="is under way"):
        begin(operator, operator.folder / "plan.toml", resume=True)
    assert len(flower.configs) == 1


def test_a_run_keeps_its_plan(operator: Operator, flower: Flower) -> None:
    plan = operator.folder / "plan.toml"
    begin(operator, plan)
    flower.die()
    plan.write_text(PLAN + "[federation]\nrounds = 4\n")

    with pytest.raises(ConfigError, match="a run keeps its plan"):
        begin(operator, plan, resume=True)
    assert read_plan(operator.runs / "spring" / "plan.toml").tables["federation"] == {}


def test_a_run_whose_server_died_is_gone_on_with(
    operator: Operator, flower: Flower
) -> None:
    begin(operator, operator.folder / "plan.toml")
    say(operator, BEGUN)
    assert resume_interrupted(operator) == []

    flower.die()

    [again] = resume_interrupted(operator)
    assert (again.name, again.flower, again.tries, again.since) == ("spring", 2, 2, 1)
    assert [config["federation.resume"] for config in flower.configs] == [False, True]


@pytest.mark.parametrize("reason", ["Completed", "QuorumLost"])
def test_a_run_that_ended_is_left_as_it_is(
    operator: Operator, flower: Flower, reason: str
) -> None:
    begin(operator, operator.folder / "plan.toml")
    say(operator, BEGUN, Ended(reason=reason))
    flower.die()

    assert resume_interrupted(operator) == []
    assert ended(operator, "spring") == reason


def test_the_end_of_an_earlier_try_is_not_that_of_the_newest(
    operator: Operator, flower: Flower
) -> None:
    begin(operator, operator.folder / "plan.toml")
    say(operator, BEGUN, Ended(reason="QuorumLost"))
    flower.die()

    begin(operator, operator.folder / "plan.toml", resume=True)

    assert ended(operator, "spring") == ""
    flower.die()
    assert len(resume_interrupted(operator)) == 1


def test_a_run_that_only_fails_is_left_to_its_operator(
    operator: Operator, flower: Flower
) -> None:
    begin(operator, operator.folder / "plan.toml")

    tries = 0
    for _ in range(2 * MOST_TRIES):
        flower.die()
        tries += len(resume_interrupted(operator))

    assert tries == MOST_TRIES - 1


def test_a_stopped_run_stays_stopped_until_it_is_resumed(
    operator: Operator, flower: Flower
) -> None:
    begin(operator, operator.folder / "plan.toml")

    stop(operator, "spring")

    assert flower.status == ["finished:stopped"]
    assert resume_interrupted(operator) == []
    begin(operator, operator.folder / "plan.toml", resume=True)
    assert [run.stopped for run in all_runs(operator)] == [False]


def test_a_run_that_is_not_there_is_told(operator: Operator, flower: Flower) -> None:
    with pytest.raises(ConfigError, match="holds no run 'winter'"):
        stop(operator, "winter")
    assert flower.configs == []
