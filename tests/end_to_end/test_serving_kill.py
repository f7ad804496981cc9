"""Killed while events stream in, a server loses none that it acknowledged.

Real processes, two at a time on one file, killed by SIGKILL at any moment. What a power
cut does is not tried here: that each commit is synced is, in test_store.py.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from client.serving.schema import connected, file_of, read_only
from client.serving.store import Store
from tests.client.serving.doings import event, run
from tests.end_to_end.keeper import BATCH

KEEPER = [sys.executable, "-m", "tests.end_to_end.keeper"]


@contextmanager
def keeper(site: Path, name: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen(
        [*KEEPER, str(site), name],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def acknowledged(process: "subprocess.Popen[str]", until: int) -> list[str]:
    """Read until so many events were acknowledged, kill, and return them all."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(until)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    assert process.wait() == -signal.SIGKILL
    return [line[:-1] for line in lines if line.endswith("\n")]  # no torn line


def sender(name: str) -> str:
    """Return the user whose event has that id; see keeper.py."""
    return "user-" + name.rsplit("-", 2)[0]


@pytest.mark.parametrize(
    "lives",
    [
        pytest.param(5, marks=pytest.mark.slow),
        pytest.param(24, marks=pytest.mark.exhaustive),
    ],
)
def test_no_acknowledged_event_is_lost_whenever_two_servers_are_killed(
    tmp_path: Path, lives: int
) -> None:
    rng = np.random.default_rng(5)
    said: set[str] = set()
    for life in range(lives):
        with keeper(tmp_path, f"{life}-a") as a, keeper(tmp_path, f"{life}-b") as b:
            for process in (a, b):
                said.update(acknowledged(process, int(rng.integers(1, 400))))

        with read_only(tmp_path) as db:
            kept = [row for (row,) in db.execute("SELECT id FROM events")]
        assert said <= set(kept)
        assert len(set(kept)) == len(kept)
        whole = {name.rsplit("-", 1)[0] for name in kept}
        assert len(kept) == BATCH * len(whole)  # each batch is there as a whole

    assert len(said) > 100 * lives
    with closing(connected(file_of(tmp_path), "rw")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with closing(Store(tmp_path)) as store:
        again = [event(name, sender(name)) for name in sorted(said)]
        assert run(store.add_events(again)) == 0  # sent again, they count once
        assert run(store.add_events([event("new")])) == 1
