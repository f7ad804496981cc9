"""What the docs say is there: files, tests, links, commands and the code they show."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import click
import pytest
import typer

from client.policy import SitePolicy
from client.policy_file import WORDS
from shared.config import key_of
from simulations.cli import root
from tests.shared.books import book

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
SIGNED = "tacit ledger entry"  # what a signature is over, no command
COMMAND = re.compile(r"\btacit ([a-z][a-z |]*[a-z])((?: +[^`\n#]*)?)")


def ids(page: Path) -> str:
    return page.name


def groups() -> dict[str, click.Command]:
    """Every command by its words, such as ``audit ledger``."""
    tree = typer.main.get_command(root)
    found: dict[str, click.Command] = {}
    assert isinstance(tree, click.Group)
    with click.Context(tree) as top:
        for name in tree.list_commands(top):
            role = tree.get_command(top, name)
            assert role is not None
            inner = role.make_context(name, ["--help"], resilient_parsing=True).command
            found[name] = inner
            found |= _inside(name, inner)
    return found


def _inside(name: str, command: click.Command) -> dict[str, click.Command]:
    """Every command within a group, by its words."""
    found: dict[str, click.Command] = {}
    if isinstance(command, click.Group):
        for inner, each in command.commands.items():
            found[f"{name} {inner}"] = each
            found |= _inside(f"{name} {inner}", each)
    return found


def test_there_are_pages_to_read() -> None:
    assert len(PAGES) >= 8


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_link_and_path_leads_somewhere(page: Path) -> None:
    text = page.read_text("utf-8")
    linked = [
        page.parent / target.partition("#")[0]
        for target in re.findall(r"\]\(([^)]+)\)", text)
        if "://" not in target and not target.startswith("#")
    ]
    named = [
        ROOT / path
        for path in re.findall(
            r"`((?:client|server|shared|simulations|tests|docs)/[\w/.-]+\.\w+)`", text
        )
    ]

    assert [str(path) for path in [*linked, *named] if not path.exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_that_is_shown_exists_with_its_options(page: Path) -> None:
    known, odd = groups(), []
    for words, rest in COMMAND.findall(page.read_text("utf-8").replace(SIGNED, "")):
        group, *names = words.split()
        if names and isinstance(known.get(f"{group} {names[0]}"), click.Group):
            group, names = f"{group} {names[0]}", names[1:]
        for name in [n for n in names if n != "|"][: None if "|" in names else 1]:
            whole = f"{group} {name}"
            command = known.get(whole) or known.get(group)
            if command is None or (
                isinstance(command, click.Group) and whole not in known
            ):
                odd.append(whole)
                continue
            options = {o for p in command.params for o in p.opts}
            odd += [
                f"{whole} {option}"
                for option in re.findall(r"(?<!\S)--[a-z-]+", rest)
                if option not in options
            ]

    assert odd == []


def test_every_key_of_the_policy_is_in_the_commented_file() -> None:
    assert [key_of(f.name) for f in fields(SitePolicy)] == list(map(key_of, WORDS))


def test_the_verifier_of_the_ledgers_format_accepts_an_export_and_no_forgery(
    tmp_path: Path,
) -> None:
    page = (ROOT / "docs" / "ledger-format.md").read_text("utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    ledger = book(tmp_path)
    ledger.refused("run", 1, "PolicyRefused")
    export = tmp_path / "export"
    ledger.export(export)

    def run() -> "subprocess.CompletedProcess[str]":
        words = [sys.executable, "-W", "ignore", "-c", code, str(export)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    assert run().stdout.startswith("2 entries of north")
    text = export.read_text("utf-8")
    export.write_text(text.replace('"round":1', '"round":2'), "utf-8")
    assert run().returncode != 0
