"""The commands: figures with the machine's facts, as JSON or in words."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared.errors import ModelError
from simulations.bench.cli import ALL, app


def test_an_encoder_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["round", "--base", str(tmp_path)])

    assert isinstance(done.exception, ModelError)
    assert f"'{tmp_path}' cannot be loaded" in str(done.exception)


def test_all_runs_every_bench_that_the_acceptance_names() -> None:
    assert set(ALL) == {"train", "round", "wire", "memory", "serve"}


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--json"], []])
def test_figures_come_with_what_they_were_measured_on(options: list[str]) -> None:
    done = CliRunner().invoke(app, ["round", "--base", "tiny", *options])

    assert done.exit_code == 0, done.output
    if options:
        said = json.loads(done.stdout)
        assert said["round"]["overhead_s"] > 0
        assert len(said["machine"]["load_average_after"]) == 3
    else:
        assert "overhead" in done.stdout
        assert "cores" in done.stdout.splitlines()[-1]
