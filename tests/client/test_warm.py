"""A site with a warm worker answers as one without, whatever becomes of the worker."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from flwr.app import Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from client import warm
from client.app import app, reply
from client.forgotten import add
from client.site import open_site
from client.warm import ASKED, FOLDER, PIDS, ROOT, end, receive, send
from shared import programs
from shared.programs import is_alive
from shared.protocol import Reply
from shared.wire import open_refusal, open_reply, pack_plan
from simulations.grid import LocalGrid, enter_run
from tests.factories import mechanism, tiny_plan, write_site, zeros


@given(contents=st.lists(st.binary(max_size=300), max_size=5))
def test_bytes_come_as_they_were_sent(contents: list[bytes]) -> None:
    here, there = socket.socketpair()
    with here, there:
        for content in contents:
            send(here, content)
        came = [receive(there) for _ in contents]

    assert came == contents


@pytest.mark.parametrize("cut", [0, 3, 8, 12])
def test_a_message_that_is_cut_off_is_none(cut: int) -> None:
    here, there = socket.socketpair()
    with there:
        with here:
            here.sendall((bytes(7) + b"\x05hello")[:cut])

        with pytest.raises(ConnectionError):
            receive(there)


def instruction(number: int, steps: int = 3) -> RecordDict:
    asked = tiny_plan(number=number, mechanism=mechanism(steps=steps))
    return pack_plan(asked, zeros(asked))


def asked(folder: Path, number: int, steps: int = 3) -> RecordDict:
    """What the app answers to a round, as Flower carries it."""
    grid = LocalGrid(app, {"site-1": {"site": str(folder)}})
    message = Message(instruction(number, steps), 1, "train")
    (answer,) = grid.send_and_receive([message])
    assert not answer.has_error(), answer.error
    return answer.content


def opened(content: RecordDict) -> Reply:
    return open_reply(content, tiny_plan().shapes)


def pid(folder: Path) -> int:
    """Process of the site's worker."""
    (noted,) = json.loads((folder / FOLDER / PIDS).read_text("utf-8"))
    assert is_alive(noted["pid"], noted["born"])
    return int(noted["pid"])


def charged(folder: Path, number: int) -> list[str]:
    """What was charged for a round."""
    return [
        entry.body["what"]
        for entry in open_site(folder).open_ledger().entries()
        if entry.state == "planned" and entry.body["round"] == number
    ]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A site whose noise is that of a test, with a worker for its messages."""
    monkeypatch.setenv(ASKED, "1")
    monkeypatch.setenv("TACIT_LOG", "")
    folder = write_site(tmp_path / "site", 20, insecure_test_noise=True).folder
    enter_run()
    yield folder
    end(folder)


def test_a_simulated_site_has_no_worker(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ASKED)

    assert open_refusal(asked(site, 1)) is None
    assert not (site / FOLDER).exists()


def test_without_a_worker_the_process_itself_answers(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No processes are left, no room on the disk, or it ends as it starts."""

    def fail(_: Path) -> subprocess.Popen[bytes]:
        raise OSError(28, "no room for user-7700017077")

    monkeypatch.setattr(warm, "_started", fail)
    first = asked(site, 1)
    monkeypatch.setattr(warm, "_started", lambda _: subprocess.Popen(["false"]))
    second = asked(site, 2)

    assert open_refusal(first) is None
    assert open_refusal(second) is None


@pytest.mark.parametrize("error", [OSError("u7 gone"), ValueError("u7 odd")])
def test_a_lost_message_is_answered_unless_it_was_charged(
    error: Exception, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is charged twice for one message; sealed bytes are sent as they are."""

    def lost(*_: object) -> bytes:
        raise error

    monkeypatch.setattr("client.app.ask", lost)
    first, again = opened(asked(site, 1)), opened(asked(site, 1))
    ledger = open_site(site).open_ledger()
    spent = ledger.events()
    ledger.plan(
        run="run", number=2, what="training", event=spent[-1], clip=0.5,
        plan_digest=tiny_plan(number=2).digest(),
    )  # fmt: skip
    refused = asked(site, 2)

    for name, array in first.update.delta.items():
        np.testing.assert_array_equal(array, again.update.delta[name])
    assert len(spent) == 2
    assert charged(site, 2) == ["training"]
    assert open_refusal(refused) == ("site-1", "InternalError")
    assert "u7" not in str(refused)


@pytest.mark.slow
def test_one_process_answers_two_rounds_as_two_processes_would(
    site: Path, tmp_path: Path
) -> None:
    shutil.copytree(site, tmp_path / "other")

    warmly = [asked(site, number) for number in (1, 2)]
    first = pid(site)
    here = [reply(instruction(number), tmp_path / "other") for number in (1, 2)]

    assert first != os.getpid()
    assert pid(site) == first
    assert list((site / FOLDER).glob("*.json")) == [site / FOLDER / PIDS]
    for one, other in zip(map(opened, warmly), map(opened, here), strict=True):
        assert one.update.plan == other.update.plan
        for name, array in one.update.delta.items():
            np.testing.assert_allclose(array, other.update.delta[name], atol=1e-6)


@pytest.mark.slow
def test_whatever_becomes_of_the_worker_between_rounds_the_next_is_answered(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes its place; out of date it is once a user is forgotten."""
    monkeypatch.setattr(warm, "PATIENCE_S", 2.0)
    monkeypatch.setattr(programs, "GRACE_S", 1.0)
    becomes: list[Callable[[psutil.Process], None]] = [
        psutil.Process.kill,
        psutil.Process.suspend,
        lambda _: add(site, "u1"),
    ]
    assert open_refusal(asked(site, 1)) is None

    for number, strike in enumerate(becomes, start=2):
        before = psutil.Process(pid(site))
        strike(before)

        assert open_refusal(asked(site, number)) is None
        assert pid(site) != before.pid
        assert not before.is_running()


@pytest.mark.slow
def test_what_the_worker_cannot_do_leaves_by_its_class_alone(
    site: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file that quotes a user, then a budget that was cut between two rounds."""
    path = site / "data" / "interactions.parquet"
    whole = path.read_bytes()
    asked(site, 1)
    first = pid(site)

    path.write_bytes(b"user-7700017077 liked film-0007")
    odd = asked(site, 2)
    path.write_bytes(whole)
    policy = (site / "policy.toml").read_text("utf-8")
    (site / "policy.toml").write_text(
        policy.replace("epsilon = 100.0", "epsilon = 0.1")
    )
    spent = asked(site, 3)

    assert pid(site) == first
    assert open_refusal(odd) in {("site-1", "DataError"), ("site-1", "InternalError")}
    assert open_refusal(spent) == ("site-1", "BudgetSpent")
    told = capfd.readouterr()
    assert "7700017077" not in told.out + told.err + str(odd)


@pytest.mark.slow
def test_a_worker_that_dies_in_a_round_leaves_it_charged_once(site: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(asked, site, 1, steps=90)
        while not (site / "ledger.sqlite").exists() or "training" not in charged(
            site, 1
        ):
            time.sleep(0.005)
        psutil.Process(pid(site)).kill()
        refused = answer.result(60)
    spent = charged(site, 1)

    answered = asked(site, 2, steps=90)

    assert open_refusal(refused) == ("site-1", "InternalError")
    assert spent == ["popularity", "training"]
    assert open_refusal(answered) is None


@pytest.mark.slow
def test_a_worker_of_other_code_is_replaced(site: Path, tmp_path: Path) -> None:
    """One comment more in a copy of the source, and it is another code."""
    for package in ("client", "shared", "server"):
        shutil.copytree(ROOT / package, tmp_path / "code" / package)
    with (tmp_path / "code" / "client" / "train.py").open("a") as file:
        file.write("# other\n")
    other = start(site, tmp_path / "code")

    answered = asked(site, 1)

    assert open_refusal(answered) is None
    assert pid(site) != other.pid
    other.wait(20)


def start(site: Path, code: Path, keeper: int | None = None) -> subprocess.Popen[bytes]:
    """A worker of the code in a folder, once it listens."""
    kept = psutil.Process(keeper or os.getpid())
    words = [str(site), code_of(code), str(kept.pid), str(kept.create_time())]
    started = subprocess.Popen(
        [sys.executable, "-P", "-m", "client.worker", *words],
        env={**os.environ, "PYTHONPATH": str(code)},
    )
    until = time.monotonic() + 60
    while not (site / FOLDER / "socket").exists():
        assert started.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    return started


def code_of(folder: Path) -> str:
    """The digest of the code that lies in a folder."""
    said = "from shared.code import code_digest; print(code_digest())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", said],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.slow
def test_a_worker_that_is_not_of_the_code_asked_for_does_not_start(site: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "client.worker", str(site), "0" * 64),
            *(str(os.getpid()), str(psutil.Process().create_time())),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TACIT_LOG": "INFO"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "CodeRefused" in done.stderr
    assert not (site / FOLDER).exists()


@pytest.mark.slow
def test_it_ends_with_its_keeper_and_there_is_one_at_most(site: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as keeper:
        first = start(site, ROOT, keeper.pid)
        second = start(site, ROOT, keeper.pid)

        assert second.wait(30) == 0
        assert pid(site) == first.pid
        keeper.send_signal(signal.SIGKILL)

    assert first.wait(10) == 0
    assert [*(site / FOLDER).glob("*.json"), *(site / FOLDER).glob("socket")] == []
