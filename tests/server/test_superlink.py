"""What ``tacit server start`` keeps running, and what it looks after."""

from pathlib import Path

import pytest

from server import superlink
from server.operator import Operator, ServerSettings
from server.superlink import programs, serve
from shared.errors import ConfigError, ServerUnreachable

SETTINGS = ServerSettings(addresses=("127.0.0.1",), port=8123)


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path, SETTINGS)


def commands(operator: Operator) -> dict[str, str]:
    return {program.name: " ".join(program.command) for program in programs(operator)}


def test_the_superlink_listens_on_loopback_with_keys_and_secrets(
    operator: Operator,
) -> None:
    command = commands(operator)["superlink"]

    for wanted in (
        "--host 127.0.0.1 --port 8123",
        "--enable-supernode-auth",
        "--isolation process",
        f"--superexec-auth-secret-file {operator.secret}",
        f"--ssl-certfile {operator.tls / 'server.crt'}",
        f"--database {operator.state / 'superlink.db'}",
        "--disable-runtime-dependency-installation",
    ):
        assert wanted in command
    assert "--insecure" not in command


def test_without_nginx_everything_else_runs(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)

    assert set(commands(operator)) == {"superlink", "superexec", "page"}


def test_nothing_that_is_started_calls_home(operator: Operator) -> None:
    for program in programs(operator):
        assert program.environment["FLWR_TELEMETRY_ENABLED"] == "0"
        assert program.environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"


def looks(monkeypatch: pytest.MonkeyPatch, operator: Operator, count: int) -> list[str]:
    """What the server says while it looks so often."""
    from threading import Event  # noqa: PLC0415

    said: list[str] = []

    def keep(*_: object, each_tick: object) -> None:
        for _n in range(count):
            assert callable(each_tick)
            each_tick()

    monkeypatch.setattr(superlink, "keep_running", keep)
    monkeypatch.setattr(superlink, "LOOK_EVERY_S", -1.0)
    serve(operator, Event(), said.append)
    return said


def test_admitted_sites_and_interrupted_runs_are_looked_after(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = [["north"], []]
    monkeypatch.setattr(superlink, "register_admitted", lambda _: new.pop(0))
    monkeypatch.setattr(superlink, "resume_interrupted", lambda _: [])

    assert looks(monkeypatch, operator, 2) == ["site north may join"]


def test_what_cannot_be_done_is_said_once_and_ends_nothing(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [ConfigError("an expelled key"), ServerUnreachable("not yet")]

    def register(_: Operator) -> list[str]:
        fault = faults[0]
        faults.append(faults.pop(0))
        raise fault

    monkeypatch.setattr(superlink, "register_admitted", register)

    assert looks(monkeypatch, operator, 6) == ["an expelled key"]
