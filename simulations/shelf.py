"""The scenarios that come with Tacit, by name, and the data that a scenario names.

A scenario holds no data: one on a public data set names it as ``tacit datasets`` does,
and is refused, with the command that fetches it, where the folder is not there.
"""

from dataclasses import replace
from pathlib import Path

from shared.errors import ConfigError
from simulations.datasets.registry import RELEASES
from simulations.scenario import Scenario

SHELF = Path(__file__).parent / "scenarios"
FETCHED = Path("data")  # where `tacit datasets fetch` puts a data set


def packaged() -> dict[str, Path]:
    """Return the scenarios that come with Tacit: name -> file."""
    return {path.stem: path for path in sorted(SHELF.glob("*.toml"))}


def about(file: Path) -> str:
    """Return the first line of a scenario's comment."""
    return file.read_text("utf-8").partition("\n")[0].lstrip("# ")


def found(scenario: Path) -> Path:
    """Return the file of a scenario that is given by its name or by its path.

    Raises:
        ConfigError: If it is neither.
    """
    known = packaged()
    if scenario.suffix == ".toml" or scenario.is_file():
        return scenario
    if str(scenario) not in known:
        raise ConfigError(
            f"no scenario is called {str(scenario)!r}; give a TOML file, or one of: "
            f"{', '.join(known)}"
        )
    return known[str(scenario)]


def with_data(scenario: Scenario, name: str) -> Scenario:
    """Return the scenario with the folder of the public data set that it names.

    Args:
        scenario: Its ``data`` is a folder, a name of ``tacit datasets list``, or empty.
        name: What the scenario is called.

    Raises:
        ConfigError: If it names a data set that is not there.
    """
    named = scenario.simulation.data
    summaries = {release.name: release.summary for release in RELEASES}
    if named not in summaries or Path(named).is_dir():
        return scenario
    folder = FETCHED / named
    if not folder.is_dir():
        raise ConfigError(
            f"scenario {name} needs {summaries[named]}: give --data DIR, or first run "
            f"`tacit datasets fetch {named}`, which makes {folder}"
        )
    own = replace(scenario.simulation, data=str(folder.resolve()))
    return replace(scenario, simulation=own)
