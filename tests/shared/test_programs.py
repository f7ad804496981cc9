"""Programs beside us: started again when they end, and ended with us."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from shared import programs
from shared.programs import Program, end_left_behind, environment, keep_running

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(600)
"""


def python(folder: Path, code: str, *arguments: str) -> Program:
    """A program of a few lines of Python."""
    return Program(
        name="one",
        command=(sys.executable, "-c", code, *arguments),
        environment=environment(folder),
        log=folder / "one.log",
    )


@contextmanager
def kept(program: Program, folder: Path, tell: programs.Tell) -> Iterator[None]:
    stop = Event()
    keeper = Thread(
        target=keep_running, args=([program], folder / "pids.json", stop, tell)
    )
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join(30)
        assert not keeper.is_alive()


def wait_for(true: Callable[[], object], limit_s: float = 20) -> None:
    until = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "TICK_S", 0.02)
    monkeypatch.setattr(programs, "FIRST_PAUSE_S", 0.02)


def test_a_program_that_ends_is_started_again_after_growing_pauses(
    tmp_path: Path,
) -> None:
    ends: list[tuple[str, int, float]] = []
    program = python(tmp_path, "print('hello'); raise SystemExit(3)")

    with kept(program, tmp_path, lambda *told: ends.append(told)):
        wait_for(lambda: len(ends) >= 3)

    names, codes, pauses = zip(*ends[:3], strict=True)
    assert set(names) == {"one"}
    assert set(codes) == {3}
    assert pauses == pytest.approx((0.02, 0.04, 0.08))
    assert program.log.read_text().count("hello") >= 3
    assert not (tmp_path / "pids.json").exists()


@pytest.mark.slow
def test_all_that_a_program_started_ends_with_it(tmp_path: Path) -> None:
    told = tmp_path / "child"
    program = python(tmp_path, PARENT, str(told))

    with kept(program, tmp_path, lambda *_: None):
        wait_for(lambda: told.exists() and told.read_text())
        child = int(told.read_text())
        assert psutil.pid_exists(child)

    wait_for(lambda: not _runs(child))


@pytest.mark.slow
def test_what_a_killed_program_left_running_ends_before_it_is_started_again(
    tmp_path: Path,
) -> None:
    """As nginx's worker, which would hold the port for ever."""
    told, ends = tmp_path / "child", []
    program = python(tmp_path, PARENT, str(told))

    with kept(program, tmp_path, lambda *end: ends.append(end)):
        wait_for(lambda: told.exists() and told.read_text())
        child = psutil.Process(int(told.read_text()))
        child.parent().kill()
        wait_for(lambda: not _runs(child.pid))
        wait_for(lambda: told.read_text() not in ("", str(child.pid)))

    assert len(ends) == 1


def test_a_program_that_waits_for_another_is_started_anew_with_it(
    tmp_path: Path,
) -> None:
    waits = python(tmp_path, "print('waits', flush=True); import time; time.sleep(600)")
    ends = python(tmp_path, "import time; time.sleep(0.5)")
    ends = replace(ends, name="other", renews=("one",), log=tmp_path / "other.log")
    stop = Event()
    keeper = Thread(
        target=keep_running, args=([waits, ends], tmp_path / "pids.json", stop)
    )
    keeper.start()

    try:
        wait_for(waits.log.exists)
        wait_for(lambda: waits.log.read_text().count("waits") >= 2)
    finally:
        stop.set()
        keeper.join(30)


def test_no_room_for_a_note_ends_no_program(tmp_path: Path) -> None:
    program = python(tmp_path, "import time; time.sleep(600)")
    nowhere = tmp_path / "later"

    with kept(program, nowhere, lambda *_: None):
        wait_for(program.log.exists)
        assert not nowhere.exists()
        nowhere.mkdir()
        wait_for((nowhere / "pids.json").exists)


def test_what_a_killed_supervisor_left_behind_is_ended_first(tmp_path: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    born = psutil.Process(left.pid).create_time()
    noted = [{"name": "one", "pid": left.pid, "born": born}]
    (tmp_path / "pids.json").write_text(json.dumps(noted))

    end_left_behind(tmp_path / "pids.json")

    left.wait(5)
    assert not _runs(left.pid)
    assert not (tmp_path / "pids.json").exists()


def test_another_process_with_a_noted_number_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    born = psutil.Process(other.pid).create_time() - 100
    noted = [{"name": "one", "pid": other.pid, "born": born}]
    (tmp_path / "pids.json").write_text(json.dumps(noted))

    try:
        end_left_behind(tmp_path / "pids.json")
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("torn", ["", "[{", '[{"pid": "x"}]', "7"])
def test_a_torn_note_is_no_reason_to_stay_down(tmp_path: Path, torn: str) -> None:
    (tmp_path / "pids.json").write_text(torn)

    end_left_behind(tmp_path / "pids.json")

    assert not (tmp_path / "pids.json").exists()


def test_a_long_log_is_put_aside_before_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "LARGEST_LOG", 10)
    (tmp_path / "one.log").write_text("x" * 11)
    ends: list[int] = []
    program = python(tmp_path, "print('new')")

    with kept(program, tmp_path, lambda _n, code, _p: ends.append(code)):
        wait_for(lambda: ends)

    assert (tmp_path / "one.log.1").read_text() == "x" * 11
    assert program.log.read_text().startswith("new")


def _runs(pid: int) -> bool:
    if not psutil.pid_exists(pid):
        return False
    return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
