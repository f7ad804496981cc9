"""Clocks, certificates, versions and disks that are wrong in a real deployment.

Each fault is one site's, or the server's; what has none goes on, and what had one is
back when it is mended.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from server.certificates import make_server_certificate
from server.flower import runs
from server.operator import open_operator
from shared.bundle import build_bundle, bundle_digest, source_packages
from tests.end_to_end.deployment import Deployment, deployed, quiet, wait_for
from tests.end_to_end.struck import held, require_books, trainings

SITES = ("north", "south")
ROOT = Path(__file__).parents[2]
CLOCK = """\
import datetime

class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds={seconds})

datetime.datetime = Wrong
"""


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two sites online; the folders of ``north`` and of the runs are small disks."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    root = tmp_path_factory.mktemp("faults")
    with disk(root / "north", "12m"), deployed(root) as made:
        made.init()
        with disk(made.operator / "runs", "1m"):
            for name in SITES:
                made.make_site(name, epsilon=1000.0)
            made.start_server()
            for name in SITES:
                made.join(name)
            made.wait_online(*SITES)
            yield made
            made.end()


@contextmanager
def disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of a few MB at ``folder``."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "none", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """No byte is free in ``folder``, for a while."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass
    except OSError:
        pass
    try:
        yield
    finally:
        filler.unlink()


def begin(
    made: Deployment, run: str, *, rounds: int, quorum: int = 1, deadline_s: float = 90
) -> Path:
    plan = made.write_plan(
        *SITES, run=run, rounds=rounds, quorum=quorum, deadline_s=deadline_s, steps=6
    )
    made.tacit("server", "run", plan, made.operator, "--detach")
    return plan


def rejoin(made: Deployment, name: str, **environment: str) -> None:
    """End a site's command and start it again, in another environment."""
    made.processes[name].end()
    made.begin(name, "site", "join", made.site(name), **environment)


def says(made: Deployment, name: str, what: str) -> bool:
    return what in supernode_log(made, name)


def details(made: Deployment) -> str:
    """What Flower says of the end of the newest run."""
    return runs(open_operator(made.operator))[-1].details


def supernode_log(made: Deployment, name: str) -> str:
    log = made.site(name) / "node" / "logs" / "supernode.log"
    return log.read_text("utf-8", errors="replace")


def shadow(folder: Path, version: str) -> str:
    """A folder to put before all others, in which Flower claims another version."""
    info = folder / f"flwr-{version}.dist-info"
    info.mkdir(parents=True)
    said = f"Metadata-Version: 2.1\nName: flwr\nVersion: {version}\n"
    (info / "METADATA").write_text(said, "utf-8")
    return str(folder)


def clock(folder: Path, seconds: int) -> tuple[str, ...]:
    """Words before a command whose clock is to be so much ahead.

    (libfaketime stops Python 3.11: its sleep ends by an absolute time.)
    """
    (folder / "sitecustomize.py").write_text(CLOCK.format(seconds=seconds), "utf-8")
    return ("env", f"PYTHONPATH={folder}:{ROOT}")


@pytest.mark.slow
def test_a_node_of_another_flower_refuses_to_start_and_names_both(
    tmp_path: Path,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "client.node", "--approvals", tmp_path / "approved"],
        env=quiet() | {"PYTHONPATH": f"{shadow(tmp_path / 'other', '1.42.0')}:{ROOT}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert ended.returncode == 2
    assert "flwr 1.42.0 is installed" in ended.stderr
    assert "1.41.0" in ended.stderr


@pytest.mark.exhaustive
def test_a_site_of_another_flower_stays_out_and_the_others_go_on(
    federation: Deployment, tmp_path: Path
) -> None:
    made = federation
    made.wait_online(*SITES, limit_s=150)

    rejoin(made, "north", PYTHONPATH=f"{shadow(tmp_path, '1.42.0')}:{ROOT}")
    wait_for(lambda: says(made, "north", "flwr 1.42.0 is"), 60, "refused")
    wait_for(lambda: made.online() == {"south"}, 90, "north is offline")
    begin(made, "version", rounds=1, deadline_s=45)
    made.await_end("version")
    rejoin(made, "north")
    made.wait_online(*SITES, limit_s=150)

    assert made.events("version", "round")[0]["sites_ok"] == ["south"]


@pytest.mark.exhaustive
def test_a_bundle_of_another_release_is_refused_and_named(
    federation: Deployment, tmp_path: Path
) -> None:
    made = federation
    made.wait_online(*SITES, limit_s=150)
    for package in ("client", "server", "shared"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "LICENSE", tmp_path)
    about = tmp_path / "shared" / "bundle.toml"
    text = about.read_text("utf-8").replace('version = "0.1.0"', 'version = "0.2.0"')
    about.write_text(text, "utf-8")
    content = build_bundle(source_packages(tmp_path))
    ours = (made.operator / "bundle.fab").read_bytes()

    (made.operator / "bundle.fab").write_bytes(content)
    plan = made.write_plan(*SITES, run="release", rounds=1, quorum=1)
    said = made.tacit("server", "run", plan, made.operator, code=1)
    refused = made.tacit(
        *("site", "approve", made.operator / "bundle.fab", made.site("north"), "--yes"),
        code=3,
    )
    status = made.tacit("site", "status", made.site("north"))
    (made.operator / "bundle.fab").write_bytes(ours)

    assert "QuorumLost" in said
    assert "tacit 0.2.0" in refused
    assert "tacit 0.1.0" in refused
    assert bundle_digest(content) in status
    assert not trainings(made, "north", "release", 1)[0]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("run", "seconds"), [("fast", 30), ("slow", -1200)])
def test_a_site_whose_clock_is_wrong_stays_out_and_the_doctor_says_why(
    federation: Deployment, tmp_path: Path, run: str, seconds: int
) -> None:
    made = federation
    made.wait_online(*SITES, limit_s=150)

    wrong = clock(tmp_path, seconds)
    made.within = {"north": wrong, "site": wrong}
    rejoin(made, "north")
    wait_for(lambda: made.online() == {"south"}, 150, "north is offline")
    begin(made, run, rounds=1, deadline_s=45)
    made.await_end(run)
    doctor = made.tacit("site", "doctor", made.site("north"), code=2)
    said = made.processes["north"].said()
    made.within = {}
    rejoin(made, "north")
    made.wait_online(*SITES, limit_s=150)

    assert made.events(run, "round")[0]["sites_ok"] == ["south"]
    assert "FAULT    clock" in doctor
    assert "timedatectl set-ntp true" in doctor
    assert f"tacit site doctor {made.site('north')} may say why" in said


@pytest.mark.exhaustive
def test_sites_stay_away_from_an_expired_certificate_and_come_back_by_themselves(
    federation: Deployment,
) -> None:
    made = federation
    made.wait_online(*SITES, limit_s=150)
    tls, past = made.operator / "tls", datetime.now(UTC) - timedelta(days=2000)
    made.processes["server"].end()
    make_server_certificate(tls, "tacit", ["127.0.0.1"], past)
    made.begin("server", "server", "start", made.operator)
    for name in SITES:
        expired = partial(says, made, name, "certificate has expired")
        wait_for(expired, 120, f"{name} finds it expired")
    doctor = made.tacit("site", "doctor", made.site("north"), code=2)
    status = made.tacit("server", "status", made.operator)

    made.tacit("server", "renew", made.operator)
    made.processes["server"].end()
    made.start_server()
    made.wait_online(*SITES, limit_s=300)
    begin(made, "renewed", rounds=1, quorum=2)
    made.await_end("renewed")

    assert "it has expired" in doctor
    assert "tacit server renew" in doctor
    assert "no SuperLink answers" in status


@pytest.mark.exhaustive
def test_a_site_with_a_full_disk_is_refused_and_back_when_there_is_room(
    federation: Deployment,
) -> None:
    """Full when round 2 begins, and again in round 4 after it was charged."""
    made, run = federation, "site-disk"
    made.wait_online(*SITES, limit_s=150)
    begin(made, run, rounds=6)
    wait_for(lambda: made.events(run, "round"), 150, "round 1 ends")
    with full(made.site("north")):
        wait_for(lambda: len(made.events(run, "round")) == 2, 150, "round 2 ends")
    with ExitStack() as filled:
        with held(made, "north", run, 4):
            filled.enter_context(full(made.site("north")))
        wait_for(lambda: len(made.events(run, "round")) == 4, 150, "round 4 ends")
    made.await_end(run)

    counted = [sorted(event["sites_ok"]) for event in made.events(run, "round")]
    assert len(counted) == 6
    assert counted[1] == counted[3] == ["south"]
    assert counted[0] == counted[5] == [*SITES]
    assert not trainings(made, "north", run, 2)[0]
    assert not trainings(made, "north", run, 4)[1]
    require_books(made, run, SITES)


@pytest.mark.exhaustive
def test_a_bundle_that_could_not_be_unpacked_is_unpacked_when_there_is_room(
    federation: Deployment,
) -> None:
    made, run = federation, "unpacked"
    made.wait_online(*SITES, limit_s=150)
    rejoin(made, "north")  # its node has nothing unpacked yet
    made.wait_online(*SITES, limit_s=150)
    with full(made.site("north")):
        begin(made, run, rounds=3)
        wait_for(lambda: made.events(run, "round"), 150, "round 1 ends")
    made.await_end(run)

    counted = [sorted(event["sites_ok"]) for event in made.events(run, "round")]
    assert counted[0] == ["south"]
    assert counted[2] == [*SITES]
    assert not trainings(made, "north", run, 1)[0]
    require_books(made, run, SITES)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*verify=<str>:DeprecationWarning")  # Flower's
def test_a_run_without_room_for_its_versions_ends_and_goes_on_when_there_is(
    federation: Deployment,
) -> None:
    made, run = federation, "server-disk"
    made.wait_online(*SITES, limit_s=150)
    plan = begin(made, run, rounds=2)
    with ExitStack() as filled:
        with held(made, "north", run, 1):
            filled.enter_context(full(made.operator / "runs"))
        wait_for(lambda: made.reason(run), 120, "it ends")
        why = made.reason(run)
        wait_for(lambda: "make room" in details(made), 30, "it says what to do")
    made.tacit("server", "run", plan, made.operator, "--resume")

    assert why == "RoundError"
    assert [event["number"] for event in made.events(run, "round")] == [1, 2]
    for name in SITES:
        assert len(trainings(made, name, run, 1)[0]) == 1
    require_books(made, run, SITES)
