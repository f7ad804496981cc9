"""Worker processes of a simulation, with jobs that need no encoder."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shared.errors import ConfigError, WorkerLost
from simulations import crew as module
from simulations.crew import Crew, cores, workers_for

SITES = [Path("a"), Path("b"), Path("c")]


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that have imported next to nothing, for speed."""
    monkeypatch.setattr(module, "PRELOADED", "shared.errors")


@pytest.fixture
def two() -> Iterator[Crew]:
    with Crew(2) as crew:
        yield crew


def pids(crew: Crew) -> list[int]:
    return [crew.do(site, os.getpid).result() for site in SITES]


def fails() -> None:
    raise ConfigError("so it is told")


def dies() -> None:
    os._exit(7)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def test_sites_are_dealt_out_in_turn_and_stay_with_their_worker(two: Crew) -> None:
    first, again = pids(two), pids(two)

    assert first == again
    assert first[0] == first[2] != first[1]
    assert os.getpid() not in first


def test_a_crew_of_one_is_this_process() -> None:
    assert pids(Crew()) == [os.getpid()] * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_ours_is_raised_where_the_job_is_awaited(workers: int) -> None:
    with Crew(workers) as crew:
        done = crew.do(SITES[0], fails)

        with pytest.raises(ConfigError, match="so it is told"):
            done.result()


def test_a_worker_that_dies_is_replaced_and_the_others_stay(two: Crew) -> None:
    before = pids(two)

    with pytest.raises(WorkerLost, match="exit code 7"):
        two.do(SITES[0], dies).result()

    after = pids(two)
    assert after[0] == after[2] != before[0]
    assert after[1] == before[1]


def test_nothing_is_left_running_and_what_waits_is_told_so() -> None:
    with Crew(2) as crew:
        running = pids(crew)
        asked = [crew.do(SITES[0], time.sleep, 60) for _ in range(3)]
        begun = time.monotonic()

    assert all(gone(pid) for pid in running)
    assert time.monotonic() - begun < 30
    for each in asked:
        with pytest.raises(WorkerLost):
            each.result(0)


def test_each_worker_begins_with_the_first_job_and_outlives_its_failure() -> None:
    with Crew(2, fails) as crew:
        assert len(set(pids(crew))) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_parts_are_done_side_by_side_and_come_in_their_order(workers: int) -> None:
    with Crew(workers) as crew:
        assert list(crew.side_by_side(str, range(4))) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("sites", [1, 2, 1000])
def test_workers_are_no_more_than_sites_or_cores(sites: int) -> None:
    assert 1 <= workers_for(sites) <= min(sites, cores())


def test_where_memory_is_short_there_is_one_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MIB_PER_WORKER", 1 << 40)

    assert workers_for(1000) == 1
