"""A whole run with sites in worker processes: the same answers, and nothing left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from simulations.crew import Crew, be_ready
from simulations.run import simulate
from tests.end_to_end.runs import WEIGHTS, arguments, scenario, write_small_data

pytestmark = pytest.mark.slow
ARMS = ["popularity", "text-dp-popularity", "local", "federated"]


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def result(out: Path, workers: int, data: Path) -> tuple[Any, bytes]:
    """What a run says of its arms, and the adapter that it made."""
    asked = scenario(data, arms=ARMS)
    with Crew(workers, partial(be_ready, "tiny", 1)) as crew:
        made = simulate(asked, out, resume=False, tell=lambda *_: None, crew=crew)
    return made["metrics"], (out / "adapter" / WEIGHTS).read_bytes()


@pytest.mark.usefixtures("one_thread")
def test_the_result_is_the_same_bit_for_bit_whoever_works(tmp_path: Path) -> None:
    data = write_small_data(tmp_path / "data")

    alone = result(tmp_path / "alone", 1, data)
    together = result(tmp_path / "together", 2, data)

    assert alone == together


def test_ctrl_c_ends_the_workers_too(tmp_path: Path) -> None:
    asked = scenario(write_small_data(tmp_path / "data"), "rounds=50")
    words = [*arguments(asked, tmp_path / "out"), "--workers", "2"]
    program = "from simulations.cli import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as run:
        assert run.stderr
        assert "round 1 " in next(line for line in run.stderr if "round" in line)
        family = psutil.Process(run.pid).children(recursive=True)
        begun = time.monotonic()
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        said = run.stderr.read()
        run.wait(60)

    _, alive = psutil.wait_procs(family, timeout=10)
    assert len(family) >= 3
    assert not alive
    assert run.returncode != 0
    assert time.monotonic() - begun < 40
    assert "Traceback" not in said
