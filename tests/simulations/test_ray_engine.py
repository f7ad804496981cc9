"""Flower's simulation runtime, with stand-in clients.

A whole run on Ray, by real sites, is in ``tests/end_to_end/test_engines.py``.
"""

import os
import socket
import subprocess
import tomllib
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from server.settings import defaults
from shared.bundle import source_packages
from shared.config import Scalar
from shared.errors import ConfigError, RoundError
from simulations.ray_engine import all_ended, build_app, run_by_flower
from tests.standin import write_start

CLIENT = """\
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    raise ValueError("this site always fails")
"""


def run_config(folder: Path, sites: str) -> dict[str, Scalar]:
    return {
        "federation.run": "by-ray",
        "federation.out": str(folder / "out"),
        "federation.start": str(write_start(folder / "start")),
        "federation.sites": sites,
        "federation.rounds": 2,
        "federation.deadline-s": 60.0,
        "spec.base": "0" * 64,
    }


def standin_app(folder: Path, config: dict[str, Scalar]) -> Path:
    """An app of the installed server and shared, and of the client above."""
    client = folder / "client"
    client.mkdir()
    (client / "__init__.py").touch()
    (client / "app.py").write_text(CLIENT, "utf-8")
    ours = [path for path in source_packages() if path.name != "client"]
    return build_app(folder / "app", config, [*ours, client])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def processes_of(flwr_home: Path) -> list[str]:
    """Names of what still runs with this FLWR_HOME: Flower's daemons, Ray's too."""
    names = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone, or another user's
            if process.environ().get("FLWR_HOME") == str(flwr_home):
                names.append(process.name())
    return names


def test_the_app_holds_our_packages_and_the_whole_run_config(tmp_path: Path) -> None:
    app = build_app(tmp_path / "app", {"federation.rounds": 3, "recipe.alpha": 0.25})

    table = tomllib.loads((app / "pyproject.toml").read_text("utf-8"))
    assert {path.name for path in app.iterdir()} == {
        "pyproject.toml", "LICENSE", "server", "client", "shared",
    }  # fmt: skip
    assert (app / "server" / "app.py").is_file()
    assert table["tool"]["flwr"]["app"]["components"] == {
        "serverapp": "server.app:app",
        "clientapp": "client.app:app",
    }
    config = table["tool"]["flwr"]["app"]["config"]
    assert config["federation"]["rounds"] == 3
    assert config["recipe"]["alpha"] == 0.25
    assert sum(map(len, config.values())) == len(defaults())


def test_an_unknown_key_of_the_run_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"federation\.round$"):
        build_app(tmp_path / "app", {"federation.round": 3})


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError, match=f"port {port} is taken"):
            run_by_flower(
                tmp_path, nodes=1, sites_folder=tmp_path, flwr_home=tmp_path, port=port
            )


@pytest.mark.slow  # some seconds until orphans are buried
def test_what_a_run_started_ends_with_it_even_if_it_is_nobodys_child(
    tmp_path: Path,
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"

    with all_ended(other, free_port()):
        leave_behind(other)
        with all_ended(mine, free_port()):
            leave_behind(mine)
            assert processes_of(mine) == ["sleep"]

        assert processes_of(mine) == []
        assert processes_of(other) == ["sleep"]


def leave_behind(flwr_home: Path) -> None:
    """Start what outlives its parent, as an actor of Ray may its raylet."""
    variables = {**os.environ, "FLWR_HOME": str(flwr_home)}
    subprocess.run(["sh", "-c", "sleep 600 &"], env=variables, check=True)


@pytest.mark.slow
def test_a_failed_run_is_told_with_the_end_of_its_log_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    app = standin_app(tmp_path, run_config(tmp_path, "a,b"))

    with pytest.raises(RoundError, match="QuorumLost"):
        run_by_flower(
            app,
            nodes=2,
            sites_folder=tmp_path,
            flwr_home=tmp_path / "flwr",
            port=free_port(),
        )

    assert processes_of(tmp_path / "flwr") == []
