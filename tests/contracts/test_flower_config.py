"""What pyproject tells Flower is what the code says."""

import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

from flwr.clientapp import ClientApp
from flwr.common.config import flatten_dict
from flwr.serverapp import ServerApp

from server.settings import defaults


def flower() -> dict[str, Any]:
    """The table ``tool.flwr.app`` of our pyproject."""
    text = Path("pyproject.toml").read_text("utf-8")
    table: dict[str, Any] = tomllib.loads(text)["tool"]["flwr"]["app"]
    return table


def test_run_config_holds_every_key_with_its_default() -> None:
    config = flatten_dict(flower()["config"])

    assert config == defaults()
    assert {k: type(v) for k, v in config.items()} == {
        k: type(v) for k, v in defaults().items()
    }


def test_the_entry_points_are_apps() -> None:
    kinds = {"serverapp": ServerApp, "clientapp": ClientApp}

    found = {}
    for key, where in flower()["components"].items():
        module, attribute = where.split(":")
        found[key] = type(getattr(import_module(module), attribute))

    assert found == kinds


def test_a_bundle_holds_the_three_packages_and_nothing_else() -> None:
    folders = {pattern.partition("/")[0] for pattern in flower()["fab-include"]}

    assert folders == {"server", "client", "shared", "LICENSE"}
