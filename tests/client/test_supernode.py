"""What ``tacit site join`` keeps running, and when it lets go."""

import json
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import psutil
import pytest

from client import supernode
from client.contact import heard
from client.site import Site, SiteSettings, open_site, settings_text
from client.standing import leave, pause, resume, standing
from client.supernode import programs, stay
from client.warm import ASKED, FOLDER, PIDS
from shared.invitation import Invitation
from shared.programs import Program
from tests.shared.papers import an_invitation

Keep = Callable[..., None]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    settings = settings_text(SiteSettings(name="north", base="tiny"))
    (tmp_path / "site.toml").write_text(settings, "utf-8")
    (tmp_path / "policy.toml").write_text("epsilon = 3\nusers = 50\n", "utf-8")
    (tmp_path / "node").mkdir()
    return open_site(tmp_path)


@pytest.fixture
def invitation() -> Invitation:
    return an_invitation()


def test_nothing_that_decides_privacy_comes_from_the_server(
    site: Site, invitation: Invitation
) -> None:
    node, _ = programs(site, invitation)

    words = " ".join(node.command)
    assert f'site="{site.folder}"' in words
    assert f"--approvals {site.folder}/approved" in words
    assert f"--superlink {invitation.address}" in words
    assert "--insecure" not in node.command
    assert (site.folder / "node" / "ca.crt").read_text() == invitation.ca


def test_apps_are_started_by_who_knows_the_secret_alone(
    site: Site, invitation: Invitation
) -> None:
    node, executor = programs(site, invitation)

    secret = site.folder / "node" / "superexec.secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    for program in (node, executor):
        assert str(secret) in program.command
        assert secret.read_text() not in " ".join(program.command)
        assert "127.0.0.1" in " ".join(program.command)
    assert programs(site, invitation)[0].command[-1] == str(secret)  # made once


def test_a_site_that_pauses_lets_its_programs_go_and_starts_them_again(
    site: Site, invitation: Invitation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, told, seen = Event(), list[str](), list[str]()

    def keep(
        _programs: Sequence[Program], _pids: Path, rest: Event, _tell: Keep, look: Keep
    ) -> None:
        heard(site.folder, at_work=False)
        look()
        seen.append(standing(site.folder).state)
        if len(seen) == 1:
            pause(site.folder)
            look()
            assert rest.is_set()
        else:
            stop.set()

    def wait(_seconds: float) -> bool:
        seen.append(standing(site.folder).state)
        resume(site.folder)
        return False

    monkeypatch.setattr(supernode, "keep_running", keep)
    monkeypatch.setattr(stop, "wait", wait)

    stay(site, invitation, stop, told.append)

    assert seen == ["online", "paused", "online"]
    assert standing(site.folder).state == "stopped"
    assert told == [f"online: {invitation.address}"] * 2


def test_the_sites_own_programs_have_a_worker_and_it_ends_with_them(
    site: Site, invitation: Invitation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was left behind goes before they start, theirs when they rest."""
    stop, alive = Event(), list[bool]()
    workers = [a_worker(site)]

    def keep(programs: Sequence[Program], *_: object) -> None:
        assert all(program.environment[ASKED] for program in programs)
        alive.append(workers[0].poll() is None)
        workers.append(a_worker(site))
        stop.set()

    monkeypatch.setattr(supernode, "keep_running", keep)

    stay(site, invitation, stop, lambda _: None)

    assert alive == [False]
    assert [worker.wait(1) is not None for worker in workers] == [True, True]


def a_worker(site: Site) -> subprocess.Popen[bytes]:
    """A process that stands for the site's worker."""
    process = subprocess.Popen(["sleep", "60"])
    (site.folder / FOLDER).mkdir(exist_ok=True)
    born = psutil.Process(process.pid).create_time()
    noted = [{"pid": process.pid, "born": born}]
    (site.folder / FOLDER / PIDS).write_text(json.dumps(noted), "utf-8")
    return process


def test_a_site_that_has_left_ends(
    site: Site, invitation: Invitation, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(site.folder)
    monkeypatch.setattr(supernode, "keep_running", None)

    stay(site, invitation, Event(), lambda _: None)

    assert standing(site.folder).state == "stopped"


def test_a_node_that_hears_nothing_for_long_is_started_anew(
    site: Site, invitation: Invitation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, rests = Event(), list[bool]()

    def keep(
        _programs: Sequence[Program], _pids: Path, rest: Event, _tell: Keep, look: Keep
    ) -> None:
        look()
        rests.append(rest.is_set())
        if len(rests) == 2:
            stop.set()

    monkeypatch.setattr(supernode, "keep_running", keep)
    monkeypatch.setattr(supernode, "PATIENCE_S", -1.0)

    stay(site, invitation, stop, lambda _: None)

    assert rests == [True, True]
