"""The machine's limits are measured, and what takes longer is said to take longer."""

import json
import time

import pytest
import torch

from simulations.bench import limits as measured
from simulations.bench.limits import best, limits, seconds


def test_the_limits_can_be_read_by_another_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured, "SHAPES", ((64, 64, 64), (128, 128, 128)))
    monkeypatch.setattr(measured, "BUFFER", {"cpu": 1 << 22})

    said = json.loads(json.dumps(limits("cpu")))

    assert set(said["gemm_flops"]) == {"float32", "bfloat16"}
    assert all(rate > 1e6 for rate in said["gemm_flops"].values())
    assert said["copy_bytes_per_s"] > 1e6
    assert said["threads"] == torch.get_num_threads()


def test_the_best_of_several_runs_counts_and_the_first_does_not() -> None:
    waits = iter([0.0, *[0.02] * measured.TIMES])

    took = best(lambda: time.sleep(next(waits)), "cpu")

    assert took >= 0.02
    assert next(waits, None) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_run_on_a_card_is_timed_to_its_end() -> None:
    square = torch.ones(8192, 8192, device="cuda")

    took = seconds(lambda: square @ square, "cuda")

    assert took > 2 * 8192**3 / 1e15  # no card computes float32 that fast
