"""``tacit simulate``: parse, run once or as a sweep, show progress, print."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated

import typer

from shared.imports import uncollected

if TYPE_CHECKING:
    from server.events import RoundReport
    from simulations.crew import Crew
    from simulations.scenario import Scenario
    from simulations.stage import Tell

app = typer.Typer(no_args_is_help=False)


@app.command()
def simulate(  # noqa: PLR0913  # one parameter for each option of the command
    scenario: Annotated[
        Path | None,
        typer.Argument(help="A scenario that comes with Tacit, or a TOML file."),
    ] = None,
    *,
    listed: Annotated[
        bool, typer.Option("--list", help="List the scenarios that come with Tacit.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="Data set folder; default: generated.")
    ] = None,
    sites: Annotated[int | None, typer.Option(help="Number of sites.")] = None,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds of each trained arm.")
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="Budget of each site.")] = None,
    delta: Annotated[float | None, typer.Option(help="Target delta.")] = None,
    partition: Annotated[
        str | None, typer.Option(help="iid, size, taste or domain.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="inprocess or ray.")] = None,
    arms: Annotated[
        str | None,
        typer.Option(help="Such as popularity,ease,local,federated: docs/simulate.md."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of data, partition and order.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that train, in a sweep runs at a time; 0: as many as pay."
        ),
    ] = None,
    no_dp: Annotated[
        bool, typer.Option("--no-dp", help="Train without clip and noise: NOT PRIVATE.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out.")
    ] = False,
    newcomers: Annotated[
        bool,
        typer.Option(
            "--cold",
            help="Measure newcomers and new items too: trains five times more.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON.")
    ] = False,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, e.g. recipe.factors=16."),
    ] = None,
    sweeps: Annotated[
        list[str] | None,
        typer.Option("--sweep", help="Values of any setting, e.g. epsilon=1,2,4."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="So many seeds, from --seed on.", min=1)
    ] = None,
) -> None:
    """Train a federation on this machine and compare arms on held-out events.

    SCENARIO is a name that --list shows, or a TOML file; the options win over it.

    Every run leaves a folder: report.html, report.json, events.jsonl, config.toml, the
    adapter as a PEFT folder, and each site with its ledger. A sweep leaves one with
    all its runs and a report over them.
    """
    if listed:
        _list()
        return
    options = {
        "data": str(data.resolve()) if data else None,
        "sites": sites,
        "rounds": rounds,
        "epsilon": epsilon,
        "delta": delta,
        "partition": partition,
        "engine": engine,
        "arms": arms.split(",") if arms else None,
        "seed": seed,
        "workers": workers,
        "no-dp": no_dp or None,
    }
    ask = partial(_asked, scenario, options, tuple(sets or ()))
    folder = out or Path("runs") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    if sweeps or seeds:
        from simulations.sweep_command import run_sweep  # noqa: PLC0415

        plan = _name(scenario), ask, sweeps or [], seeds or 1
        run_sweep(*plan, folder, resume=resume, workers=workers or 0, as_json=as_json)
        return
    asked = ask(())
    with _crew(asked) as crew, _progress(asked) as tell:
        with uncollected():  # the crew loads meanwhile
            from simulations.report.table import show  # noqa: PLC0415
            from simulations.run import simulate as run_simulation  # noqa: PLC0415

        logging.getLogger("flwr").setLevel(logging.ERROR)
        made = run_simulation(
            asked, folder, resume=resume, tell=tell, newcomers=newcomers, crew=crew
        )
    if as_json:
        typer.echo(json.dumps(made, indent=2))
        return
    from rich.console import Console  # noqa: PLC0415

    show(made, Console(width=None if sys.stdout.isatty() else 118))
    if crew.workers > 1 and made["memory"]:
        typer.echo(_server_memory(made["memory"]))
    typer.echo(f"Report, ledgers and adapter: {folder}")
    if (folder / "adapter").is_dir():
        typer.echo(f"Serve it at a site: {_serving(folder)}")


def _list() -> None:
    """Print each scenario that comes with Tacit, and the question that it asks."""
    from simulations.shelf import about, packaged  # noqa: PLC0415

    for name, file in packaged().items():
        typer.echo(f"{name:14} {about(file)}")


def _asked(
    scenario: Path | None,
    options: Mapping[str, object],
    sets: Sequence[str],
    more: Sequence[str],
) -> "Scenario":
    """Return what is asked: the scenario, then the options, the sets and ``more``."""
    from simulations.scenario_file import read_scenario  # noqa: PLC0415  # when there is work
    from simulations.shelf import found, with_data  # noqa: PLC0415

    file = found(scenario) if scenario else None
    return with_data(read_scenario(file, options, [*sets, *more]), _name(scenario))


def _name(scenario: Path | None) -> str:
    return scenario.stem if scenario else "generated"


def _crew(asked: "Scenario") -> "Crew":
    """Return who works, and let its processes load what they need."""
    from simulations.crew import Crew, be_ready, cores, workers_for  # noqa: PLC0415

    own = asked.simulation
    workers = own.workers or (1 if own.base == "tiny" else workers_for(own.sites))
    if own.engine == "ray":
        workers = 1  # Ray spreads the sites
    return Crew(workers, partial(be_ready, own.base, max(1, cores() // workers)))


def _server_memory(told: Mapping[str, float]) -> str:
    """Return what the process of the server took; the sites are at the workers."""
    before, grown = told["before_mib"], told["grown_mib"]
    return f"Server: {before:.0f} MiB before the rounds, at most {grown:.0f} MiB more."


def _serving(folder: Path) -> str:
    """Return the command that serves the trained adapter at the first site."""
    program = "tacit" if which("tacit") else sys.argv[0]
    first = sorted((folder / "sites").iterdir())[0]
    return f"{program} site serve {first} --release {folder / 'adapter'}"


@contextmanager
def _progress(asked: "Scenario") -> "Iterator[Tell]":
    """Show rounds, sites, time left and epsilon; plain lines without a terminal."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    if not sys.stderr.isatty():
        yield lambda arm, of, told: typer.echo(_line(asked, arm, of, told), err=True)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(arm: str, of: int, told: "RoundReport") -> None:
            if arm not in tasks:
                tasks[arm] = bar.add_task(arm, total=of, note="")
            bar.update(tasks[arm], advance=1, note=_note(asked, arm, told))

        yield tell


def _line(asked: "Scenario", arm: str, of: int, told: "RoundReport") -> str:
    done = f"{arm}: round {told.number} ({of} in all) {told.seconds:.1f} s"
    return f"{done}, {_note(asked, arm, told)}"


def _note(asked: "Scenario", arm: str, told: "RoundReport") -> str:
    """Return sites and epsilon so far, from the rounds that really ran."""
    from simulations.arms import epsilon_after  # noqa: PLC0415
    from simulations.scenario import NOT_PRIVATE  # noqa: PLC0415

    refused = f", refused {sorted(set(told.refused.values()))}" if told.refused else ""
    private = not asked.simulation.no_dp and arm not in NOT_PRIVATE
    spent = (
        f"epsilon {epsilon_after(asked, told.number):.3f}" if private else "NOT PRIVATE"
    )
    return f"{len(told.sites_ok)} sites, {spent}{refused}"
