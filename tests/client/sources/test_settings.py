"""The ``[source]`` of a ``data.toml``: strict, and without any credential."""

from pathlib import Path

import pytest

from client.mapping import read_mapping
from client.sources.settings import Database, password
from shared.errors import ConfigError
from tests.client.sources.shop import write_toml

VARIABLE, FILE = "SHOP_PASSWORD", "secret"
URL = "postgresql://reader@db.example.org:5432/shop"


def database(**changes: object) -> Database:
    values = {"url": URL, "interactions": "SELECT 1", "items": "SELECT 1", **changes}
    return Database(**values)  # type: ignore[arg-type]


def test_a_source_is_what_its_tables_say(tmp_path: Path) -> None:
    write_toml(tmp_path, URL, more='password-file = "secret"')

    mapped = read_mapping(tmp_path)

    assert mapped.source == Database(
        url=URL,
        interactions="SELECT who, what, at, stars FROM events",
        items="SELECT id, title, genre FROM products",
        cursor="at",
        overlap=5,
        password_file=FILE,
    )
    assert mapped.items.file == "items.parquet"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:hunter2@db/shop",
        "postgresql://reader:hun/ter2@db/shop",
        "postgresql://reader@db/shop?password=hunter2",
        "postgresql://reader@db/shop?hunter2=1",
        "mysql://hunter2@db/shop",
        "hunter2",
        "sqlite://",
    ],
)
def test_a_url_that_is_refused_is_never_repeated(tmp_path: Path, url: str) -> None:
    write_toml(tmp_path, url)

    with pytest.raises(ConfigError, match=r"\[source\]: 1 fault.*\n.*'url'") as caught:
        read_mapping(tmp_path)

    assert "ter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"database"', '"web"', '[source] needs kind = "files" or kind = "database"'),
        ('"database"', '"files"', "[source] of files has no key 'queries'"),
        ("overlap = 5", "overlap = -1", "overlap=-1 must be in [0, 1000000000]"),
        ("overlap = 5", 'password = "hunter2"', "unknown key 'password'; known"),
        ("[source.queries]", "[source.query]", "[source.queries] needs 'interactions'"),
        ("[items]", '[items]\nfile = "i.csv"', "[items] has a 'file', but a database"),
        ('"SELECT id, title, genre FROM products"', '""', "query 'items' is empty"),
        (
            "overlap = 5",
            'password-env = "A"\npassword-file = "b"',
            "give 'password-env' or 'password-file', not both",
        ),
    ],
)
def test_a_fault_of_a_source_is_told(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    text = write_toml(tmp_path, URL)
    assert old in text
    (tmp_path / "data.toml").write_text(text.replace(old, new, 1))

    with pytest.raises(ConfigError) as caught:
        read_mapping(tmp_path)

    assert fault in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_files_may_be_named_as_the_source(tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text(
        '[source]\nkind = "files"\n[interactions]\nfile = "e.csv"\nuser = "u"\n'
        'item = "i"\ntimestamp = "t"\n[items]\nfile = "i.csv"\nitem = "i"\n'
        'text = ["x"]\n'
    )

    assert read_mapping(tmp_path).source is None


def test_the_password_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")

    assert password(database(password_env=VARIABLE), tmp_path) == "hunter2"
    assert password(database(), tmp_path) is None
    monkeypatch.delenv("SHOP_PASSWORD")
    with pytest.raises(ConfigError, match="'SHOP_PASSWORD' is not set"):
        password(database(password_env=VARIABLE), tmp_path)


def test_the_password_comes_from_a_file_that_is_its_owners_alone(
    tmp_path: Path,
) -> None:
    path, source = tmp_path / "secret", database(password_file=FILE)
    path.write_text("hunter2\n")
    path.chmod(0o600)

    assert password(source, tmp_path) == "hunter2"
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="has mode 640, so others may read") as caught:
        password(source, tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "empty first line"),
        (b"\xff", "UnicodeDecodeError"),
        (None, "FileNotFound"),
    ],
)
def test_a_password_file_that_holds_none_is_told(
    tmp_path: Path, content: bytes | None, fault: str
) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
        (tmp_path / "secret").chmod(0o600)

    with pytest.raises(ConfigError, match=fault):
        password(database(password_file=FILE), tmp_path)
