"""A deployed site answers round after round from one process, which ends with it."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from client.warm import FOLDER, PIDS
from tests.end_to_end.deployment import Deployment, deployed, processes_of, wait_for
from tests.end_to_end.struck import COMMANDS, process, require_books

pytestmark = pytest.mark.slow

SITES = ("north",)
ROUNDS = 3


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server and a site that has answered three rounds."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    with deployed(tmp_path_factory.mktemp("warm")) as made:
        made.init()
        made.make_site("north")
        made.start_server()
        made.join("north")
        made.wait_online("north")
        plan = made.write_plan("north", rounds=ROUNDS)
        made.tacit("server", "run", plan, made.operator)
        yield made


def log_lines(made: Deployment) -> list[str]:
    """What the site's processes logged."""
    path = made.site("north") / "node" / "logs" / "superexec.log"
    return path.read_text("utf-8", errors="replace").splitlines()


def worker(made: Deployment) -> psutil.Process:
    noted = json.loads((made.site("north") / FOLDER / PIDS).read_text("utf-8"))
    return psutil.Process(noted[0]["pid"])


def test_one_process_answered_all_rounds(
    federation: Deployment, record_property: Callable[[str, object], None]
) -> None:
    rounds = federation.events(kind="round")
    lines = [json.loads(line) for line in log_lines(federation) if line[:1] == "{"]
    started = [line for line in lines if line["event"].endswith(" started")]
    answered = [line for line in lines if line["event"] == "answered"]

    seconds = [event["seconds"] for event in rounds]
    record_property("seconds", seconds)
    sys.stdout.write(f"seconds of each round: {seconds}\n")
    assert [event["sites_ok"] for event in rounds] == [["north"]] * ROUNDS
    assert [line["event"] for line in started] == [
        f"worker {worker(federation).pid} started"
    ]
    assert [line["round"] for line in answered] == [1, 2, 3]
    require_books(federation, "spring", SITES)


def test_the_worker_runs_the_code_of_the_approved_bundle(
    federation: Deployment,
) -> None:
    code = worker(federation).environ()["PYTHONPATH"].split(":")[0]

    unpacked = federation.site("north") / "node" / "flwr" / "apps"
    assert Path(code, "client", "worker.py").is_file()
    assert Path(code).is_relative_to(unpacked)


def test_a_pause_frees_the_memory_and_what_follows_is_answered_again(
    federation: Deployment,
) -> None:
    made, first = federation, worker(federation)

    made.tacit("site", "pause", made.site("north"))
    wait_for(lambda: not first.is_running(), 30, "the worker ends")
    made.tacit("site", "resume", made.site("north"))
    made.wait_online("north")
    plan = made.write_plan("north", run="summer", rounds=1)
    made.tacit("server", "run", plan, made.operator)

    assert worker(made).pid != first.pid
    assert made.events("summer", "round")[0]["sites_ok"] == ["north"]


def test_nothing_of_a_killed_site_stays_behind(federation: Deployment) -> None:
    """Last in this file: the site is gone."""
    made, last = federation, worker(federation)

    for role in ("site", "supernode", "superexec"):
        found = process(made.site("north"), role)
        assert found is not None
        found.kill()
    wait_for(lambda: not last.is_running(), 10, "the worker ends")

    assert [
        role for role in COMMANDS if process(made.site("north"), role) is not None
    ] == []
    assert processes_of(made.site("north") / FOLDER) == []
