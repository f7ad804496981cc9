"""The command line: it starts light, explains itself, and fails in one line."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module

import click
import pytest
import typer

from shared.errors import BudgetSpent, ConfigError, RoundError, TacitError
from simulations import cli
from simulations.cli import ROLES, main, root
from tests.syntax import ROOT

HEAVY = {"torch", "transformers", "peft", "opacus", "ray", "flwr", "polars"}
RUN = "from simulations.cli import main; main()"


def tacit(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a person sees who types ``tacit`` in a fresh terminal."""
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A command and all commands below it, with their full names."""
    yield name, command
    if isinstance(command, click.Group):
        for below, child in command.commands.items():
            yield from walk(f"{name} {below}", child)


def commands() -> dict[str, click.Command]:
    """Every command of every role, really loaded."""
    found = {"tacit": typer.main.get_command(root)}
    for name, (target, _) in ROLES.items():
        module, attribute = target.split(":")
        role = typer.main.get_command(getattr(import_module(module), attribute))
        found |= dict(walk(f"tacit {name}", role))
    return found


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--help"]])
def test_help_is_shown_without_loading_anything_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from simulations.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        f"print(sorted({HEAVY} & set(sys.modules)), code or 0, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )

    assert done.stderr == "[] 0\n"
    assert "Usage:" in done.stdout


def test_every_role_is_listed_with_its_line_of_help() -> None:
    shown = " ".join(tacit("--help").stdout.split())

    assert ROLES
    for name, (_, line) in ROLES.items():
        assert name in shown
        assert line in shown


def test_every_command_and_every_option_has_help() -> None:
    """An argument is explained in the text of its command: typer may lose its own."""
    silent, seen = [], 0
    for name, command in commands().items():
        seen += 1
        if not command.help:
            silent.append(name)
            continue
        for parameter in command.params:
            seen += 1
            named = (parameter.metavar or parameter.name or "").upper()
            in_text = isinstance(parameter, click.Argument) and named in command.help
            if not (getattr(parameter, "help", None) or in_text):
                silent.append(f"{name} {parameter.name}")

    assert silent == []
    assert seen >= 25


@pytest.mark.parametrize(
    "arguments",
    [["--loud"], ["simulate", "--epsilom", "3"], ["datasets", "fetch"], ["serve"]],
)
def test_what_is_not_known_exits_2_and_shows_the_usage(arguments: list[str]) -> None:
    done = tacit(*arguments)

    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_ours_is_one_line_without_a_traceback() -> None:
    done = tacit("datasets", "fetch", "nope")

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no data set is called 'nope'; known: ")
    assert len(done.stderr.splitlines()) == 1


def test_debug_shows_where_an_error_comes_from() -> None:
    done = tacit("--debug", "datasets", "fetch", "nope")

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "DataError: no data set is called 'nope'" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"), [(RoundError, 1), (ConfigError, 2), (BudgetSpent, 3)]
)
def test_the_exit_code_says_what_kind_of_error_it_was(
    error: type[TacitError],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> None:
        raise error("x is 3, above 2")

    monkeypatch.setattr(cli, "root", fails)
    monkeypatch.delenv("TACIT_DEBUG", raising=False)

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == code
    assert capsys.readouterr().err == "error: x is 3, above 2\n"
