"""``tacit bench``: how fast Tacit is on this machine, with the machine's facts."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import ConfigError

if TYPE_CHECKING:
    from simulations.bench.serve import Case

app = typer.Typer(no_args_is_help=True)
SEED = 2026


@app.callback()
def bench() -> None:
    """Measure speed; every figure comes with what it was measured on."""


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
    base: Annotated[str, typer.Option(help="Encoder of the requests.")] = "minilm",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
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
    for name, said in figures.items():
        typer.echo(
            f"{name:<10} p50 {said['p50_ms']:.2f} ms  p99 {said['p99_ms']:.2f} ms  "
            f"{said['rps']:.0f} requests/s  recall@10 {said['recall@10']:.4f}"
        )
    typer.echo(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load_average']}")


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
