"""Runs that several tests look at; nothing in them may be changed, only copied."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulations.scenario import Scenario
from tests.end_to_end.runs import (
    Printed,
    arguments,
    run_until,
    scenario,
    tacit,
    write_small_data,
)


@dataclass(frozen=True)
class Done:
    """A finished run: what was asked, where it lies, what it printed."""

    asked: Scenario
    out: Path
    printed: Printed


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Activations of public texts, shared by all runs here and by no one else."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TACIT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_data(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture(scope="session")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A run of two sites and two rounds by the command line, never interrupted."""
    asked, out = scenario(data), tmp_path_factory.mktemp("runs") / "whole"
    return Done(asked, out, tacit(*arguments(asked, out, "--json")))


@pytest.fixture(scope="session")
def stopped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The same run, killed after round 1; site-2 has room to pay for a round twice."""
    asked = scenario(data, "budgets.site-2=20")
    out = tmp_path_factory.mktemp("runs") / "stopped"
    run_until(asked, out, 1)
    return Done(asked, out, Printed(0, "", ""))
