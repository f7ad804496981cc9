"""An operator's folder with real runs in it, carried out in this process."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from flwr.clientapp import ClientApp

from server.app import federate
from server.events import Event
from server.operator import ServerSettings, settings_text
from server.settings import Settings, defaults, read_settings
from shared.signing import make_key
from simulations.grid import LocalGrid
from tests.standin import a_client, node_configs, write_start

SITES = ("north", "south", "west")


def an_operator(folder: Path, sites: Sequence[str] = SITES) -> Path:
    """A folder with settings, a key, and admitted sites."""
    (folder / "sites").mkdir(parents=True)
    settings = ServerSettings(addresses=("localhost",), base="tiny")
    (folder / "server.toml").write_text(settings_text(settings), "utf-8")
    make_key(folder / "operator.key")
    for site in sites:
        (folder / "sites" / f"{site}.pub").touch()
    return folder


def task(folder: Path, run: str = "spring", **changes: object) -> Settings:
    """Two rounds of ``run``, signed by the operator of ``folder``."""
    start = folder / "start" / "tiny"
    if not start.exists():
        write_start(start)
    flat = defaults() | {
        "federation.run": run,
        "federation.out": str(folder / "runs" / run),
        "federation.start": str(start),
        "federation.sites": ",".join(SITES),
        "federation.rounds": 2,
        "federation.deadline-s": 0.5,
        "federation.key": str(folder / "operator.key"),
        "spec.base": "0" * 64,
        "mechanism.q": 1.0,  # epsilon is quickly computed where all take part
        "mechanism.sigma": 20.0,
        "mechanism.steps": 1,
    }
    settings = read_settings(flat)
    return replace(settings, federation=replace(settings.federation, **changes))  # type: ignore[arg-type]


def carry_out(
    settings: Settings,
    app: ClientApp | None = None,
    online: Sequence[str] = SITES,
    tell: Callable[[Event], None] = lambda _: None,
) -> None:
    """Carry out a run with these sites online."""
    Path(settings.federation.out).mkdir(parents=True, exist_ok=True)
    grid = LocalGrid(app or a_client(), node_configs(*online))
    federate(grid, settings, tell)
