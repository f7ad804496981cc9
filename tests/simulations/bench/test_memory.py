"""Memory is measured in a process of its own, and what it is made of is told."""

import json
import mmap
import time

import numpy as np
import psutil
import pytest

from simulations.bench.memory import lines, measure
from simulations.bench.site import Size
from simulations.footprint import Watched, peak_mib


def test_memory_that_was_given_back_stays_in_the_peak() -> None:
    kept = np.ones(100 << 17)  # 100 MiB
    resident = psutil.Process().memory_info().rss / 2**20
    del kept

    assert peak_mib() >= resident - 1 > 100


def test_what_was_seen_while_watching_is_the_most_of_it() -> None:
    fresh = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # no page that was freed before
    with Watched() as most, mmap.mmap(-1, 100 << 20, flags=fresh) as kept:
        kept.write(bytes(100 << 20))
        time.sleep(0.2)

    assert most.kinds["own"] > 100
    assert most.told()["grown_mib"] > 90
    assert most.kinds["mapped"] > 0


@pytest.mark.slow
def test_a_small_catalogue_is_measured_in_another_process() -> None:
    figures = measure(Size(items=2000, users=100, likes=10), "tiny")

    assert json.loads(json.dumps(figures)) == figures
    assert figures["drawn"] == 10
    assert figures["peak_mib_100k"] >= figures["before_training_mib"] > 0
    assert figures["peak_mib_100k"] >= figures["own_mib"]
    assert figures["activations_mib"] > 0
    assert f"{figures['peak_mib_100k']:.0f} MiB" in lines(figures)[0]
