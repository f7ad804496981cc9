"""The site in a terminal."""

import io
import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from client.commands.watch import watch
from client.live.view import look
from client.live.watch import follow, screen
from client.standing import leave, note, pause
from tests.client.live.test_view import busy, train
from tests.factories import write_site

command = typer.Typer()
command.command()(watch)


def shown(folder: Path) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(screen(look(folder, datetime.now(UTC))))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def bar(folder: Path) -> int:
    """How many cells of the bar are full."""
    return shown(folder).count("━")


def test_budget_rounds_and_what_left_are_shown(tmp_path: Path) -> None:
    text = shown(busy(tmp_path / "site").folder)

    assert "Site site-1: node stopped" in text
    assert "of 1 spent" in text
    assert "Rounds taken part in: 3" in text
    assert "refused: PolicyRefused 2" in text
    assert "Left this site: 2 releases, 6 bytes" in text


def test_the_bar_burns_down(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", max_q=1.0, epsilon=0.5)
    lengths = [bar(site.folder)]
    for number in (1, 2, 3):
        train(site, number)
        lengths.append(bar(site.folder))

    assert lengths == sorted(set(lengths), reverse=True)


def test_a_site_that_promises_nothing_is_told_so(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", epsilon=math.inf)
    unlimited = shown(site.folder)
    site.open_ledger().plan_unprotected(
        run="r", number=1, what="training", plan_digest="cd"
    )

    assert "no limit, nothing promised" in unlimited
    assert "NOT PRIVATE" in shown(site.folder)


def test_the_node_is_told_in_words(tmp_path: Path) -> None:
    folder = write_site(tmp_path / "site", epsilon=1.0).folder
    note(folder, "online")
    online = shown(folder)
    pause(folder)
    paused = shown(folder)
    leave(folder)

    assert "node online, since" in online
    assert "site-1: paused" in paused
    assert "has left the federation" in shown(folder)


def test_following_shows_what_changes_until_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.live.watch.PERIOD_S", 0.0)
    site = write_site(tmp_path / "site", max_q=1.0, epsilon=1.0)
    before = look(site.folder, datetime.now(UTC))
    train(site, 1)
    views = iter([before, look(site.folder, datetime.now(UTC))])
    console = Console(file=io.StringIO(), width=100, force_terminal=True)

    with pytest.raises(StopIteration):
        follow(lambda: next(views), console)

    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.index("part in: 0") < text.index("part in: 1")


def test_the_command_prints_the_view_as_json_or_shows_it_once(tmp_path: Path) -> None:
    folder = str(busy(tmp_path / "site").folder)

    as_json = CliRunner().invoke(command, [folder, "--json"])
    once = CliRunner().invoke(command, [folder, "--once"])

    assert json.loads(as_json.stdout)["refusals"] == {"PolicyRefused": 2}
    assert once.exit_code == 0
    assert "Site site-1" in once.stdout


def test_a_folder_that_is_no_site_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(tmp_path)])

    assert "is no site" in str(done.exception)
