"""``tacit site data check``: what would be trained on, and nothing is."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.sources.check import check
from shared.errors import DataError
from shared.popularity import items_of
from tests.client.sources.shop import START, SqliteShop
from tests.factories import write_site


def shown(folder: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["data", "check", str(folder), *options])
    if done.exception:
        raise done.exception
    return done.output


def test_the_counts_are_those_of_the_rows(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site")
    shop = SqliteShop.open(site.data)
    first = json.loads(shown(site.folder, "--json"))
    shop.add(("cy", "x", START + 86_400, 1))

    second = json.loads(shown(site.folder, "--json"))

    assert first == {
        "source": "database",
        "read": "everything",
        "events read": 4,
        "anything new": True,
        "snapshot": 1,
        "items": 3,
        "catalogue": items_of(["x", "y", "z"]).digest,
        "users": 2,
        "users with likes": 1,
        "events": 4,
        "likes": 2,
        "likes trained": 2,
        "oldest": "2023-11-14",
        "newest": "2023-11-14",
        "users, as the policy says": 20,
    }
    changed = {key: second[key] for key in first if second[key] != first[key]}
    assert changed == {
        "read": "on from the last time",
        "events read": 2,
        "snapshot": 2,
        "users": 3,
        "events": 5,
        "newest": "2023-11-15",
    }


def test_full_reads_everything_anew(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site")
    shop = SqliteShop.open(site.data)
    shown(site.folder)
    shop.run("DELETE FROM events WHERE who = 'bob'")

    on, full = shown(site.folder), shown(site.folder, "--full")

    assert " users  2\n" in on
    assert " users  1\n" in full
    assert "read  everything" in full


def test_a_folder_of_files_is_checked_too(tmp_path: Path) -> None:
    site = write_site(tmp_path, 20)

    checked = check(site.data)

    assert (checked.source, checked.refreshed, checked.users) == ("files", None, 20)
    assert "source  files" in shown(tmp_path)


def test_nothing_is_trained_spent_or_shown_of_a_user(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site")
    SqliteShop.open(site.data)

    text = shown(site.folder)

    assert not site.ledger.exists()
    assert not (site.folder / "runs").exists()
    assert "ann" not in text
    assert "Checked" in repr(check(site.data))
    assert "ann" not in repr(check(site.data))


def test_bad_rows_are_told(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site")
    SqliteShop.open(site.data).add(("ann", "sock", START, 5))

    with pytest.raises(DataError, match="item is not among the items: 1"):
        shown(site.folder)
