"""``tacit bench``: how fast Tacit is on this machine, with the machine's facts."""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import ConfigError, TacitError

if TYPE_CHECKING:
    from simulations.bench.serve import Case

app = typer.Typer(no_args_is_help=True)
SEED = 2026
ALL = ("train", "round", "wire", "memory", "serve")

Base = Annotated[str, typer.Option(help="Encoder, as site.toml names it.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def bench() -> None:
    """Measure speed; every figure comes with what it was measured on.

    Give it a machine that does nothing else: the load averages tell.
    """


@app.command()
def train(
    *, device: Device = "auto", base: Base = "minilm", as_json: AsJson = False
) -> None:
    """Time training: against the plain program, without privacy, and the machine."""
    _run("train", as_json=as_json, base=base, device=_device(device))


@app.command("round")
def round_(*, base: Base = "minilm", as_json: AsJson = False) -> None:
    """Time what a round costs beside its training, in one process."""
    _run("round", as_json=as_json, base=base)


@app.command()
def wire(*, base: Base = "minilm", as_json: AsJson = False) -> None:
    """Count the bytes between a real site and a real server, over loopback."""
    _run("wire", as_json=as_json, base=base)


@app.command()
def memory(
    *, device: Device = "auto", base: Base = "minilm", as_json: AsJson = False
) -> None:
    """Take the peak memory of training with 100,000 items, in its own process."""
    _run("memory", as_json=as_json, base=base, device=_device(device))


@app.command()
def scale(
    *,
    base: Base = "minilm",
    plot: Annotated[
        Path | None, typer.Option(help="Write the curves to this SVG file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how cost grows with users, history, items, layers, rank and sites."""
    made = _run("scale", as_json=as_json, base=base)
    if plot:
        plot.write_text(_of("scale").plot(made), "utf-8")


@app.command("all")
def all_(
    *, device: Device = "auto", base: Base = "minilm", as_json: AsJson = False
) -> None:
    """Run train, round, wire, memory and serve, each in a process of its own."""
    from shared.programs import beside_python  # noqa: PLC0415

    made: dict[str, Any] = {}
    for name in ALL:
        typer.echo(f"tacit bench {name}...", err=True)
        where = ("--device", device) if name in {"train", "memory"} else ()
        call = [beside_python("tacit"), "bench", name, "--base", base, *where, "--json"]
        done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603  # our own program
        if done.returncode:
            raise TacitError(f"tacit bench {name} ended with {done.returncode}")
        figures = json.loads(done.stdout)
        machine = figures.pop("machine")
        made[name] = figures.get(name, figures)
        made["machine"] = made.get("machine", machine)
        made["machine"]["load_average_after"] = machine["load_average_after"]
    if as_json:
        typer.echo(json.dumps(made, indent=2))
        return
    for name in ALL:
        typer.echo("\n".join(_of(name).lines(made[name])))
    typer.echo(_machine_line(made["machine"]))


@app.command()
def serve(
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(help="user_10k, query_10k or user_100k; may be repeated."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.5, help="Of each of a case's three loads.")
    ] = 10.0,
    base: Base = "minilm",
    as_json: AsJson = False,
) -> None:
    """Load the real tacit site serve, one worker, over loopback.

    Sites of 10,000 and 100,000 generated items, 10,000 users each. recall@10 is
    against an exact scan over the same vectors. Give it a machine that does nothing
    else: the load averages before and after tell.
    """
    from simulations.bench.machine import busy, machine  # noqa: PLC0415
    from simulations.bench.serve import CASES  # noqa: PLC0415

    unknown = sorted(set(only or ()) - CASES.keys())
    if unknown:
        raise ConfigError(
            f"--only {', '.join(unknown)}: the cases are {', '.join(CASES)}"
        )
    facts = machine()
    names = [name for name in CASES if not only or name in only]
    figures: dict[str, Any] = {}
    for items in dict.fromkeys(CASES[name].items for name in names):
        typer.echo(f"{items:,} items: a site is written and served...", err=True)
        cases = {name: CASES[name] for name in names if CASES[name].items == items}
        with tempfile.TemporaryDirectory(prefix="tacit-bench-") as folder:
            figures |= _measured(Path(folder), cases, base, seconds)
    facts["load_average_after"] = busy()
    if as_json:
        typer.echo(json.dumps({**figures, "machine": facts}, indent=2))
        return
    typer.echo("\n".join(_of("serve").lines(figures)))
    typer.echo(_machine_line(facts))


def _run(name: str, *, as_json: bool, **asked: str) -> dict[str, Any]:
    """Measure, print the figures with the machine's facts, and return them."""
    from simulations.bench.machine import busy, machine  # noqa: PLC0415

    facts = machine()
    made: dict[str, Any] = _of(name).measure(**asked)
    facts["load_average_after"] = busy()
    if as_json:
        typer.echo(json.dumps({name: made, "machine": facts}, indent=2))
    else:
        typer.echo("\n".join([*_of(name).lines(made), _machine_line(facts)]))
    return made


def _of(name: str) -> Any:
    """Return the module of a bench; torch comes with it."""
    return import_module(f"simulations.bench.{name}")


def _device(wanted: str) -> str:
    """Return the device for ``auto``."""
    from client.workbench import device_of  # noqa: PLC0415

    return device_of(wanted)


def _machine_line(facts: Mapping[str, Any]) -> str:
    """Return on what it was measured, and how busy that was."""
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {' '.join(facts['flags'])}; "
        f"load {facts['load_average']} before, {facts['load_average_after']} after"
    )


def _measured(
    folder: Path, cases: "dict[str, Case]", base: str, seconds: float
) -> dict[str, Any]:
    """Return the figures of cases on one site."""
    import numpy as np  # noqa: PLC0415

    from simulations.bench.serve import measure  # noqa: PLC0415
    from simulations.bench.served import served  # noqa: PLC0415
    from simulations.bench.synthetic import synthetic  # noqa: PLC0415

    first = next(iter(cases.values()))
    rng = np.random.default_rng([SEED, first.items])
    site = synthetic(folder, items=first.items, users=first.users, base=base, rng=rng)
    with served(site.folder, site.release, folder / "served.log") as server:
        return {
            name: measure(case, site, server, seconds=seconds, seed=SEED)
            for name, case in cases.items()
        }
