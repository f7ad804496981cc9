"""What a terminal shows of a run."""

import io

from rich.console import Console

from simulations.report.table import show
from simulations.scenario import NOT_PRIVATE
from tests.simulations.report.examples import a_run


def test_every_line_of_an_arm_that_promises_nothing_says_so() -> None:
    made = a_run()
    said = io.StringIO()
    show(made, Console(file=said, width=118))
    lines = said.getvalue().splitlines()

    for arm, figures in made["metrics"].items():
        mine = [
            line
            for line in lines
            if f"│ {arm} " in line or line.startswith((f"  federated - {arm} ",))
        ]
        assert len(mine) >= 1 + (arm in NOT_PRIVATE)
        assert all(("NOT PRIVATE" in line) == ("label" in figures) for line in mine)


def test_privacy_and_time_end_the_tables() -> None:
    said = io.StringIO()
    show(a_run(), Console(file=said, width=118))

    assert "epsilon at most 1.973 at delta 1e-05" in said.getvalue()
    assert "Finished in 9 s." in said.getvalue()
