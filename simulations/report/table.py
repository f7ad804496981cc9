"""A run's report as tables for a terminal; what promises nothing is marked so."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from simulations.report.content import (
    NDCG,
    OPEN,
    Cell,
    interval,
    private,
    promise,
)
from simulations.report.run_price import verdict

FIRST = {NDCG: "NDCG@10", "hr@10": "HR@10", "coverage@10": "coverage@10"}


def show(made: Mapping[str, Any], console: Console) -> None:
    """Print the arms, the paired differences and the sites."""
    console.print(_arms_table(made))
    metrics = made["metrics"]
    for name, gain in made["differences"].items():
        open_ended = not all(private(metrics[arm]) for arm in name.split(" - "))
        mark = f" ({OPEN})" if open_ended else ""
        told = said(interval(gain, signed=True))
        console.print(f"  {name}{mark}: NDCG@10 {told}", highlight=False, markup=False)
        for part, within in made["slice_differences"].get(name, {}).items():
            told = said(interval(within, signed=True))
            console.print(f"    {part}: {told}", highlight=False, markup=False)
    console.print(_sites_table(made))
    if "cold" in made:
        from simulations import cold  # noqa: PLC0415  # torch, only when it is asked

        console.print(cold.table(made["cold"]))
    unit = made["privacy"]["unit"]
    console.print(f"{verdict(made)} Unit: {unit}.", highlight=False, markup=False)
    console.print(f"Finished in {made['timing']['total_s']:.0f} s.", highlight=False)


def said(cell: Cell) -> str:
    """Return a cell of a page as a terminal shows it."""
    mark = f"({cell.mark})" if cell.mark and cell.text else cell.mark
    return " ".join(filter(None, (cell.text, mark, cell.beside)))


def _arms_table(made: Mapping[str, Any]) -> Table:
    table = Table(title="Held-out events, full ranking; 95 % bootstrap over users")
    for column in ("arm", *FIRST.values(), "privacy"):
        table.add_column(column)
    for arm, figures in made["metrics"].items():
        cells = [interval(figures[name]) for name in FIRST]
        table.add_row(arm, *map(said, (*cells, promise(figures))))
    return table


def _sites_table(made: Mapping[str, Any]) -> Table:
    mark = f" ({OPEN})" if made["privacy"]["claim"] == OPEN else ""
    table = Table(title=f"Sites of the arm {made['arm']}{mark}")
    for column in (
        "site",
        "epsilon spent",
        "allowed",
        "replace-one",
        "rounds",
        "KB up",
        "KB down",
        "refused",
    ):
        table.add_column(column)
    for site in made["sites"]:
        spent, allowed, swapped = (
            "infinite" if site[key] is None else f"{site[key]:.3f}"
            for key in ("epsilon", "budget", "epsilon_replace_one")
        )
        refused = ", ".join(f"round {n}: {why}" for n, why in site["refused"].items())
        table.add_row(
            site["name"],
            spent,
            allowed,
            swapped,
            str(site["rounds"]),
            f"{site['bytes_up'] / 1000:.1f}",
            f"{site['bytes_down'] / 1000:.1f}",
            refused,
        )
    return table
