"""The warm worker's loop and why it ends, in this process; then as a process."""

import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import psutil
import pytest
from flwr.app import Message, RecordDict
from flwr.common.serde import recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

from client import warm, worker
from client.app import app, respond
from client.forgotten import add
from client.warm import FOLDER, SOCKET, ask
from client.worker import Respond, Watch, _listening, files_under, serve
from shared.code import code_digest
from shared.errors import DataError
from shared.wire import open_refusal, pack_plan
from simulations.grid import LocalGrid
from tests.factories import tiny_plan, write_site, zeros

ME = psutil.Process()
ALIVE = (ME.pid, ME.create_time())


def echo(kind: str, content: bytes) -> bytes:
    return kind.encode() + b":" + content


@contextmanager
def serving(
    site: Path,
    respond: Respond = echo,
    watch: Watch | None = None,
    code: str | None = None,
) -> Iterator[Future[str]]:
    """A worker's loop in a thread; gives why it will have ended."""
    warm.place(site)
    stopped = Event()
    watching = watch or Watch(ALIVE, [])
    own = watching.reason

    def reason(*, busy: bool) -> str:
        return "the test is over" if stopped.is_set() else own(busy=busy)

    watching.reason = reason  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool, _listening(site) as listener:
        says = code_digest() if code is None else code
        yield (ended := pool.submit(serve, listener, says, respond, watching))
        stopped.set()
        ended.result(10)


@pytest.fixture(autouse=True)
def _starts_nothing(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """No process is started, save by tests that are marked slow."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(worker, "TICK_S", 0.05)
        monkeypatch.setattr(warm, "START_S", 1.0)

        def started(_: Path) -> subprocess.Popen[bytes]:
            return subprocess.Popen(["true"])

        monkeypatch.setattr(warm, "_started", started)


def test_one_worker_answers_message_after_message(tmp_path: Path) -> None:
    with serving(tmp_path):
        answers = [ask(tmp_path, "train", content) for content in (b"", b"1", b"22")]

    assert answers == [b"train:", b"train:1", b"train:22"]


def test_the_socket_and_its_folder_are_their_owners_alone(tmp_path: Path) -> None:
    with serving(tmp_path):
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in (tmp_path / FOLDER, tmp_path / FOLDER / SOCKET)
        }

    assert modes == {"worker": 0o700, "socket": 0o600}
    assert not (tmp_path / FOLDER / SOCKET).exists()


def test_a_path_that_is_too_long_for_a_socket_does_no_harm(tmp_path: Path) -> None:
    site = tmp_path / ("north" * 20) / ("south" * 20)
    site.mkdir(parents=True)

    with serving(site):
        answer = ask(site, "train", b"1")

    assert answer == b"train:1"


def test_where_no_worker_starts_nobody_answers(tmp_path: Path) -> None:
    assert ask(tmp_path, "train", b"1") is None


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert ask(tmp_path / "north", "train", b"1") is None
    assert [*tmp_path.iterdir()] == []


def test_a_worker_of_other_code_is_not_handed_a_message(tmp_path: Path) -> None:
    asked: list[str] = []

    def respond(kind: str, content: bytes) -> bytes:
        asked.append(kind)
        return content

    with serving(tmp_path, respond, code="0" * 64):
        answer = ask(tmp_path, "train", b"1")

    assert answer is None
    assert asked == []


def test_who_asks_while_another_is_answered_is_told_so_at_once(tmp_path: Path) -> None:
    began, go = Event(), Event()

    def respond(_: str, content: bytes) -> bytes:
        began.set()
        go.wait(10)
        return content

    with serving(tmp_path, respond), ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, tmp_path, "train", b"1")
        began.wait(10)
        second = ask(tmp_path, "train", b"2")
        go.set()

        assert first.result(10) == b"1"
    assert second is None


def test_it_ends_with_whoever_asked_as_that_process_would_have(tmp_path: Path) -> None:
    began, go = Event(), Event()

    def respond(_: str, content: bytes) -> bytes:
        began.set()
        go.wait(10)
        return content

    with serving(tmp_path, respond) as ended:
        peer = warm._reached(tmp_path)
        assert peer is not None
        warm.send(peer, b"train")
        warm.send(peer, b"1")
        began.wait(10)
        peer.close()
        why = ended.result(10)
        go.set()

    assert why == "whoever asked has gone"


def test_a_peer_that_goes_at_once_does_no_harm(tmp_path: Path) -> None:
    with serving(tmp_path):
        for sent in (b"", b"\0" * 7, b"\0" * 8):
            with socket.socket(socket.AF_UNIX) as peer, warm.address(tmp_path) as there:
                peer.connect(there)
                peer.sendall(sent)

        assert ask(tmp_path, "train", b"1") == b"train:1"


NOBODY = """\
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
print(len(peer.recv(100)))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("opened", [False, True])
def test_a_process_of_another_account_is_sent_away(
    tmp_path: Path, *, opened: bool
) -> None:
    """By the folder's mode; and by its account, were the folder open."""
    with serving(tmp_path):
        path = tmp_path / FOLDER / SOCKET
        if opened:
            for part in (path, *path.parents[:-2]):
                part.chmod(0o777)
        told = subprocess.run(
            ["/usr/bin/python3", "-c", NOBODY, str(path)],
            user="nobody", capture_output=True, text=True, check=False,
        )  # fmt: skip

    if opened:
        assert told.stdout == "0\n"
    else:
        assert "PermissionError" in told.stderr


def test_a_worker_of_another_account_is_not_handed_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path):
        mine = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
        answer = ask(tmp_path, "train", b"1")

    assert answer is None


QUOTED = "user-7700017077 liked film-0007"


def asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> RecordDict:
    """What the app answers to the first round, asking the worker for it."""
    monkeypatch.setenv(warm.ASKED, "1")
    plan = tiny_plan()
    grid = LocalGrid(app, {"site-1": {"site": str(folder)}})
    message = Message(pack_plan(plan, zeros(plan)), 1, "train")
    (answer,) = grid.send_and_receive([message])
    assert not answer.has_error()
    return answer.content


def test_what_the_worker_lets_out_is_what_the_app_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_site(tmp_path, 20)
    sent: list[bytes] = []

    def responding(kind: str, content: bytes) -> bytes:
        sent.append(respond(kind, content, tmp_path))
        return sent[-1]

    with serving(tmp_path, responding):
        came = asked(tmp_path, monkeypatch)

    (one,) = sent
    assert open_refusal(came) is None
    assert recorddict_to_proto(came) == ProtoRecordDict.FromString(one)


@pytest.mark.parametrize("error", [ValueError(QUOTED), DataError(QUOTED)])
def test_no_text_of_an_error_leaves_the_worker(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_site(tmp_path, 20)
    sent: list[bytes] = []

    def fail(*_: object) -> None:
        raise error

    def responding(kind: str, content: bytes) -> bytes:
        sent.append(respond(kind, content, tmp_path))
        return sent[-1]

    monkeypatch.setattr("client.workbench.load", fail)
    with serving(tmp_path, responding):
        came = asked(tmp_path, monkeypatch)

    ours = type(error).__name__ if isinstance(error, DataError) else "InternalError"
    assert open_refusal(came) == ("site-1", ours)
    assert len(sent) == 1
    assert b"17077" not in sent[0]


def test_a_worker_that_cannot_answer_ends_and_says_no_more_than_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not foreseen even at the edge; the process itself answers instead."""
    write_site(tmp_path, serve_only=True)

    def broken(_kind: str, _content: bytes) -> bytes:
        raise ValueError(QUOTED)

    with serving(tmp_path, broken) as ended:
        came = asked(tmp_path, monkeypatch)
        why = ended.result(10)

    assert open_refusal(came) == ("site-1", "PolicyRefused")
    assert why.startswith("it could not answer: ValueError at test_worker.py:")
    assert "17077" not in why


def changed(path: Path) -> Callable[[], object]:
    return lambda: path.write_text("changed", "utf-8")


def test_it_stays_while_there_is_no_reason_to_end(tmp_path: Path) -> None:
    watch = Watch(ALIVE, [tmp_path / "site.toml"])

    assert [watch.reason(busy=busy) for busy in (False, True, True, False)] == [""] * 4


def test_it_ends_when_idle_for_long_and_not_at_work() -> None:
    watch = Watch(ALIVE, [], idle_s=0)

    assert watch.reason(busy=True) == ""
    assert watch.reason(busy=False) == ""  # from now on it is idle
    assert watch.reason(busy=False).startswith("nothing to do")


def test_it_ends_with_its_keeper() -> None:
    with subprocess.Popen(["sleep", "60"]) as keeper:
        watch = Watch((keeper.pid, psutil.Process(keeper.pid).create_time()), [])
        before = watch.reason(busy=True)
        keeper.kill()

    assert before == ""
    assert watch.reason(busy=True) == watch.reason(busy=False)
    assert watch.reason(busy=True) == "its keeper has ended"


def test_it_ends_when_its_work_stands_still_and_not_while_it_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch(ALIVE, [])
    watch.reason(busy=True)
    monkeypatch.setattr(worker, "STILL_S", -1.0)
    still = watch.reason(busy=True)
    monkeypatch.setattr(worker, "AWAKE_S", -1.0)
    monkeypatch.setattr(worker, "STILL_S", 60.0)

    assert still == "its work stands still"
    assert watch.reason(busy=True) == ""


def test_it_gives_memory_back_when_little_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch(ALIVE, [])
    monkeypatch.setattr(worker, "SCARCE", 1.0)

    assert watch.reason(busy=False) == "the machine is short of memory"
    assert watch.reason(busy=True) == ""  # a round goes on


def test_what_it_has_loaded_counts_as_changed_when_its_files_do(
    tmp_path: Path,
) -> None:
    """Settings, who is forgotten, and any file of an encoder that is a folder."""
    base = tmp_path / "encoder"
    (base / "inner").mkdir(parents=True)
    weights = base / "inner" / "weights"
    weights.write_text("0", "utf-8")
    site = write_site(tmp_path / "site").folder
    path = site / "site.toml"
    path.write_text(path.read_text("utf-8").replace("tiny", str(base)), "utf-8")

    for change in (
        changed(weights),
        changed(base / "another"),
        lambda: add(site, "u1"),
        changed(path),
    ):
        watch = Watch(ALIVE, files_under(site))
        assert watch.reason(busy=False) == ""
        change()
        assert watch.reason(busy=False) == "what it has loaded was changed"
