"""Keys are shown once, kept as hashes, and gone when they are revoked."""

import json
import stat
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.commands.key import app
from client.serving.keys import ROLES, Keys, listed, make, revoke
from shared.errors import ConfigError

RUN = CliRunner()


def file(folder: Path) -> Path:
    return folder / "serving" / "keys.toml"


def test_a_key_opens_with_its_roles_and_nothing_near_it_does(tmp_path: Path) -> None:
    key = make(tmp_path, "shop", ["write", "read"])
    keys = Keys.of(tmp_path)

    owner = keys.owner(key)

    assert owner is not None
    assert (owner.name, owner.roles) == ("shop", ("read", "write"))
    for other in ("", key[:-1], key + "x", key.swapcase(), "schlüssel", owner.sha256):
        assert keys.owner(other) is None


def test_the_file_holds_no_key_and_is_its_owners_alone(tmp_path: Path) -> None:
    key = make(tmp_path, "shop", ["read"])

    text = file(tmp_path).read_text("utf-8")

    assert key not in text
    assert key not in repr(listed(tmp_path))
    assert stat.S_IMODE(file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(file(tmp_path).parent.stat().st_mode) == 0o700


def test_no_two_keys_are_alike(tmp_path: Path) -> None:
    made = {make(tmp_path, f"shop-{n}", ["read"]) for n in range(20)}

    assert len(made) == 20
    assert all(len(key) == 43 for key in made)  # 256 bits in base64


def test_keys_are_listed_in_order_and_revoked_by_name(tmp_path: Path) -> None:
    keys = {name: make(tmp_path, name, ["read"]) for name in ("a", "b", "c")}
    known = Keys.of(tmp_path)

    revoke(tmp_path, "b")

    assert [key.name for key in listed(tmp_path)] == ["a", "c"]
    assert known.owner(keys["b"]) is None
    assert known.owner(keys["c"]) is not None


@pytest.mark.parametrize("name", ["", "a b", 'a"', "a\n", "ü", "x" * 65, "-a"])
def test_a_name_is_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name is not"):
        make(tmp_path, name, ["read"])


def test_every_fault_of_a_key_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name is not.*\n.*roles is empty"):
        make(tmp_path, "", [])


def test_a_name_is_given_once_and_only_what_is_there_revoked(tmp_path: Path) -> None:
    make(tmp_path, "shop", ["read"])

    with pytest.raises(ConfigError, match="has a key 'shop'"):
        make(tmp_path, "shop", ["admin"])
    with pytest.raises(ConfigError, match="no key 'till'; it has shop"):
        revoke(tmp_path, "till")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[", "cannot be read"),
        ("key = 3", r"as a table \[\[key\]\]"),
        ("key = [3]", r"as a table \[\[key\]\]"),
        ("[other]", r"as a table \[\[key\]\]"),
        ('[[key]]\nname = "a"', "missing key 'roles'"),
        (
            '[[key]]\nname = "a"\nroles = ["root"]\nsha256 = "00"\ncreated = ""',
            r"a role is none of read, write, admin\n.*sha256 is not",
        ),
    ],
)
def test_a_file_that_is_not_understood_lets_nobody_in(
    tmp_path: Path, text: str, fault: str
) -> None:
    make(tmp_path, "shop", ["read"])
    file(tmp_path).write_text(text, "utf-8")

    with pytest.raises(ConfigError, match=fault):
        Keys.of(tmp_path)


def test_a_file_that_others_may_read_lets_nobody_in(tmp_path: Path) -> None:
    make(tmp_path, "shop", ["read"])
    file(tmp_path).chmod(0o640)

    with pytest.raises(ConfigError, match="mode 640"):
        Keys.of(tmp_path)


def test_the_pages_own_key_is_in_no_file(tmp_path: Path) -> None:
    made = make(tmp_path, "shop", ["read"])
    hashed = listed(tmp_path)[0].sha256
    revoke(tmp_path, "shop")

    owner = Keys.of(tmp_path, page_key=hashed).owner(made)

    assert owner is not None
    assert (owner.roles, listed(tmp_path)) == (ROLES, ())
    assert Keys.of(tmp_path).owner(made) is None


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    names = [f"shop-{n}" for n in range(8)]
    makers = [
        threading.Thread(target=make, args=(tmp_path, name, ["read"])) for name in names
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()

    assert sorted(key.name for key in listed(tmp_path)) == names


def test_a_person_adds_lists_and_revokes(tmp_path: Path) -> None:
    (tmp_path / "site.toml").touch()
    folder = str(tmp_path)
    words = ["add", folder, "shop", "--role", "read", "--role", "write"]

    added = RUN.invoke(app, words)
    rows = json.loads(RUN.invoke(app, ["list", folder, "--json"]).stdout)
    shown = RUN.invoke(app, ["list", folder]).stdout
    revoked = RUN.invoke(app, ["revoke", folder, "shop"])
    none = RUN.invoke(app, ["list", folder]).stdout

    key = added.stdout.strip()
    assert len(key) == 43
    assert [(row["name"], row["roles"]) for row in rows] == [
        ("shop", ["read", "write"])
    ]
    assert "shop" in shown
    assert key not in shown
    assert revoked.exit_code == 0
    assert "No keys yet" in none


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["add", "shop", "--role", "root"], "--role is none of read, write, admin"),
        (["revoke", "till"], "has no key 'till'"),
    ],
)
def test_a_person_is_told_what_cannot_be(
    tmp_path: Path, words: list[str], fault: str
) -> None:
    (tmp_path / "site.toml").touch()

    failed = RUN.invoke(app, [words[0], str(tmp_path), *words[1:]])

    assert isinstance(failed.exception, ConfigError)
    assert fault in str(failed.exception)


def test_a_folder_that_is_no_site_gets_no_key(tmp_path: Path) -> None:
    failed = RUN.invoke(app, ["add", str(tmp_path), "shop", "--role", "read"])

    assert "is no site" in str(failed.exception)
    assert not file(tmp_path).parent.exists()
