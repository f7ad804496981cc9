"""Pausing, leaving, erasing, and what a site says of itself at a glance."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import client.round
from client.app import reply
from client.commands import standing as commands_forget
from client.erase import FOLDERS, erase
from client.forget import forget
from client.round import answer
from client.site import Site, open_site
from client.standing import (
    NODE,
    PAUSED,
    Standing,
    has_left,
    is_paused,
    leave,
    note,
    pause,
    resume,
    standing,
)
from client.status import status
from shared.errors import ConfigError, LedgerBusy, PolicyRefused
from shared.wire import open_refusal, pack_plan
from tests.factories import tiny_plan, write_site, zeros
from tests.syntax import ROOT

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def run(command: Callable[..., None], *arguments: object, given: str = "") -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command)
    return CliRunner().invoke(app, list(map(str, arguments)), input=given)


@given(hours=st.floats(-1000, 1000), until=st.floats(-1000, 1000))
def test_a_pause_holds_exactly_until_its_end(
    tmp_path_factory: pytest.TempPathFactory, hours: float, until: float
) -> None:
    folder = tmp_path_factory.getbasetemp()
    end, then = NOW + timedelta(hours=until), NOW + timedelta(hours=hours)

    pause(folder, end)

    assert is_paused(folder, then) == (then < end)


def test_a_pause_without_an_end_holds_until_the_site_resumes(tmp_path: Path) -> None:
    assert not is_paused(tmp_path)

    pause(tmp_path)
    held = is_paused(tmp_path, NOW + timedelta(days=9999))
    resume(tmp_path)

    assert held
    assert not is_paused(tmp_path)


@pytest.mark.parametrize("content", ["soon", "2020-01-01T00:00:00", "\0", "2020"])
def test_a_marker_that_is_not_understood_pauses_without_an_end(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / PAUSED).write_text(content)

    assert is_paused(tmp_path, NOW)


def test_an_end_without_an_offset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no offset"):
        pause(tmp_path, datetime(2026, 1, 1))  # noqa: DTZ001

    assert not is_paused(tmp_path)


def test_who_left_is_gone_until_the_site_resumes(tmp_path: Path) -> None:
    leave(tmp_path)
    gone = has_left(tmp_path)
    resume(tmp_path)

    assert gone
    assert not has_left(tmp_path)


@pytest.mark.parametrize("mark", [pause, leave])
def test_a_site_that_takes_no_part_refuses_before_it_reads_or_spends(
    tmp_path: Path, mark: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, plan = write_site(tmp_path), tiny_plan()  # it has no data at all
    mark(tmp_path)
    read: list[str] = []
    monkeypatch.setattr(client.round, "prepare", lambda *_: read.append("data"))

    refusal = open_refusal(reply(pack_plan(plan, zeros(plan)), tmp_path))
    with pytest.raises(PolicyRefused, match=r"round 1 refused: this site"):
        answer(site, plan, zeros(plan))

    assert refusal == ("site-1", "PolicyRefused")
    assert read == []
    assert site.open_ledger().events() == []
    assert status(site).last_refusal is not None


@pytest.mark.slow
def test_a_site_that_resumed_answers(tmp_path: Path) -> None:
    site, plan = write_site(tmp_path, 20), tiny_plan()
    pause(tmp_path)
    resume(tmp_path)

    assert answer(site, plan, zeros(plan)).update.site == "site-1"


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    first = note(tmp_path, "connecting", "127.0.0.1:9443")
    again = note(tmp_path, "connecting", "ended with 1", restarted=True)

    assert standing(tmp_path) == again
    assert (again.pid, again.since, again.restarts) == (os.getpid(), first.since, 1)
    held = json.loads((tmp_path / NODE).read_text())
    assert {"state", "since", "pid", "detail", "restarts"} <= held.keys()


def test_a_node_whose_process_is_gone_is_stopped(tmp_path: Path) -> None:
    """Also where another process has its number by now."""
    note(tmp_path, "online")
    held = json.loads((tmp_path / NODE).read_text())
    (tmp_path / NODE).write_text(json.dumps(held | {"born": held["born"] - 100.0}))

    found = standing(tmp_path)

    assert (found.state, found.detail) == ("stopped", "died while online")


def test_another_process_counts_its_own_restarts(tmp_path: Path) -> None:
    note(tmp_path, "online", restarted=True)
    held = json.loads((tmp_path / NODE).read_text())
    (tmp_path / NODE).write_text(json.dumps(held | {"pid": 1}))

    assert note(tmp_path, "online").restarts == 0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"state": "odd"}', '{"state": "online", "pid": "x"}']
)
def test_a_note_that_is_none_says_that_the_node_never_started(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / NODE).write_text(text)

    found = standing(tmp_path)

    assert isinstance(found, Standing)
    assert (found.state, found.detail) == ("stopped", "was never started")


def test_the_status_is_that_of_node_ledger_and_markers(tmp_path: Path) -> None:
    site, plan = write_site(tmp_path, 20), tiny_plan(number=2)
    answer(site, plan, zeros(plan))
    site.open_ledger().refused("run", 3, "DataError")
    note(tmp_path, "online")
    pause(tmp_path, NOW)

    before, after = status(site, NOW - timedelta(hours=1)), status(site, NOW)

    assert (before.part, before.paused_until) == ("paused", NOW.isoformat())
    assert (after.part, after.paused_until) == ("taking part", "")
    assert before.node.state == "online"
    assert before.last_round is not None
    assert (before.last_round.run, before.last_round.number) == ("run", 2)
    assert before.last_refusal is not None
    assert before.last_refusal.reason == "DataError"
    assert (before.approved, before.waiting) == ("", "")


def test_the_commands_mark_the_site_and_say_what_follows(tmp_path: Path) -> None:
    write_site(tmp_path)

    run(commands_forget.pause, tmp_path, "--hours", 2)
    paused = json.loads(run(commands_forget.status, tmp_path, "--json").output)
    run(commands_forget.resume, tmp_path)
    left = run(commands_forget.leave, tmp_path)
    shown = run(commands_forget.status, tmp_path).output
    back = run(commands_forget.resume, tmp_path)

    ends = datetime.fromisoformat(paused["paused_until"]) - datetime.now(UTC)
    assert timedelta(hours=1.9) < ends <= timedelta(hours=2)
    assert "tacit server expel site-1" in left.output
    assert "takes part  left" in shown
    assert "site.pub" in back.output
    assert status(open_site(tmp_path)).part == "taking part"


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "9000"])
def test_hours_that_are_none_are_refused(tmp_path: Path, hours: str) -> None:
    write_site(tmp_path)

    done = run(commands_forget.pause, tmp_path, "--hours", hours)

    assert isinstance(done.exception, ConfigError)
    assert not is_paused(tmp_path)


def test_a_status_needs_neither_network_nor_torch_and_comes_at_once(
    tmp_path: Path,
) -> None:
    write_site(tmp_path).open_ledger()
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "began = time.process_time()\n"
        "from client.site import open_site\n"
        "from client.status import status\n"
        "print(status(open_site(Path(sys.argv[1]))).site)\n"
        "print(time.process_time() - began)\n"
        "print(sorted({'torch', 'transformers', 'peft', 'flwr'} & set(sys.modules)))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )

    name, seconds, heavy = done.stdout.split("\n")[:3]
    assert (name, heavy) == ("site-1", "[]")
    assert float(seconds) < 0.5


LASTING = ("site.toml", "policy.toml", "site.key", "ledger.sqlite", "ledger.witness")


def used(folder: Path, **settings: str) -> Site:
    """A site that was used: everything there is, and a user who was forgotten."""
    site = write_site(folder, 20)
    for name, value in settings.items():
        toml = (folder / "site.toml").read_text()
        default = f'{name} = "{getattr(site.settings, name)}"'
        assert default in toml
        (folder / "site.toml").write_text(toml.replace(default, f'{name} = "{value}"'))
    site = open_site(folder)
    site.open_ledger()
    forget(site, site.settings.name)
    for name in (*FOLDERS, "cache", "data/snapshots"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "something").write_text("x")
    return site


def lasting(site: Site) -> dict[str, bytes]:
    kept = [path for path in site.folder.iterdir() if path.is_file()]
    kept += [*site.data.glob("*.*"), site.folder / site.settings.witness]
    return {str(path): path.read_bytes() for path in kept if path.suffix != ".lock"}


def test_erasing_takes_what_is_not_needed_and_leaves_what_an_auditor_may_ask_for(
    tmp_path: Path,
) -> None:
    site = used(tmp_path)
    before = lasting(site)

    done = run(commands_forget.leave, tmp_path, "--erase", "--yes")

    assert done.exit_code == 0
    assert set(LASTING) <= {Path(path).name for path in before}
    after = lasting(site)
    assert {path: after[path] for path in before} == before
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"data"}
    assert not (site.data / "snapshots").exists()


def test_erasing_is_asked_for_once_more(tmp_path: Path) -> None:
    used(tmp_path)

    done = run(commands_forget.leave, tmp_path, "--erase", given="n\n")

    assert done.exit_code == 1
    assert has_left(tmp_path)
    assert (tmp_path / "runs").is_dir()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"cache": "."}, "site.toml"),
        ({"cache": "data"}, "data.toml"),
        ({"witness": "runs/ledger.witness"}, "ledger.witness"),
    ],
)
def test_no_setting_lets_erasing_take_what_must_stay(
    tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    (tmp_path / "runs").mkdir()
    site = used(tmp_path, **settings)
    before = lasting(site)

    with pytest.raises(ConfigError, match=rf"holds {told}"):
        erase(site)

    assert lasting(site) == before
    assert (tmp_path / "runs" / "something").is_file()


def test_a_cache_that_lies_elsewhere_may_serve_others_and_stays(
    tmp_path: Path,
) -> None:
    (tmp_path / "shared").mkdir()
    site = used(tmp_path / "site", cache="../shared")

    erase(site)

    assert (tmp_path / "shared").is_dir()


def test_a_folder_on_another_disk_is_erased_there(tmp_path: Path) -> None:
    site = used(tmp_path / "site")
    elsewhere = tmp_path / "big-disk"
    (site.folder / "runs").rename(elsewhere)
    (site.folder / "runs").symlink_to(elsewhere)

    erase(site)

    assert not elsewhere.exists()
    assert not (site.folder / "runs").is_symlink()


def test_nothing_is_erased_under_a_round_that_is_going_on(tmp_path: Path) -> None:
    site = used(tmp_path)

    with site.open_ledger().alone():
        done = run(commands_forget.leave, tmp_path, "--erase", "--yes")

    assert isinstance(done.exception, LedgerBusy)
    assert (tmp_path / "runs" / "something").is_file()
