"""The federation in a terminal."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from server.commands.watch import watch
from server.flower import Node
from server.live.view import look
from server.live.watch import follow, screen, sparkline
from server.operator import Operator
from shared.errors import ServerUnreachable
from tests.server.live.test_view import NODE
from tests.server.operated import an_operator, carry_out, task
from tests.server.world import refusing
from tests.standin import a_client

command = typer.Typer()
command.command()(watch)


def shown(folder: Path, nodes: list[Node] | None) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(screen(look(folder, nodes, datetime.now(UTC))))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_run_is_shown_with_its_sites_and_why_one_did_not_count(
    tmp_path: Path,
) -> None:
    folder = an_operator(tmp_path / "op")
    carry_out(task(folder), a_client(dishonest={"west": refusing}))

    text = shown(folder, [NODE])

    assert "Run spring: round 2 of 2, completed" in text
    assert "did not count: PolicyRefused 2" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "online" in lines["north"]
    assert "unregistered" in lines["west"]
    assert "spring/2, spring/1" in text


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    text = shown(an_operator(tmp_path / "op"), None)

    assert "The SuperLink does not answer" in text
    assert "No run yet" in text


def test_names_are_shown_as_they_are_and_style_nothing(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op", ("[red]x",))

    assert "[red]x" in shown(folder, [])


@given(values=st.lists(st.floats(0, 1e6)))
def test_a_sparkline_has_a_block_for_each_value_and_more_is_never_lower(
    values: list[float],
) -> None:
    blocks = sparkline(values)

    assert len(blocks) == len(values)
    ordered = [block for _, block in sorted(zip(values, blocks, strict=True))]
    assert ordered == sorted(ordered)


def test_following_shows_what_changes_until_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.live.watch.PERIOD_S", 0.0)
    folder = an_operator(tmp_path / "op")
    before = look(folder, [], datetime.now(UTC))
    carry_out(task(folder))
    views = iter([before, look(folder, [], datetime.now(UTC))])
    console = Console(file=io.StringIO(), width=100, force_terminal=True)

    with pytest.raises(StopIteration):
        follow(lambda: next(views), console)

    assert isinstance(console.file, io.StringIO)
    before_and_after = console.file.getvalue().partition("No run yet")
    assert "Run spring" in before_and_after[2]


@pytest.fixture(params=[ServerUnreachable, FileNotFoundError])
def _silent(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No SuperLink answers, or there is no CA to believe it by."""

    def nodes(_operator: Operator) -> list[Node]:
        raise request.param

    monkeypatch.setattr("server.flower.nodes", nodes)


@pytest.mark.usefixtures("_silent")
def test_the_command_prints_the_view_as_json(tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    carry_out(task(folder))

    done = CliRunner().invoke(command, [str(folder), "--json"])

    view = json.loads(done.stdout)
    assert view["reachable"] is False
    assert view["run"]["state"] == "completed"


@pytest.mark.usefixtures("_silent")
def test_without_a_terminal_the_command_shows_it_once(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, [str(an_operator(tmp_path / "op"))])

    assert done.exit_code == 0
    assert "No run yet" in done.stdout
