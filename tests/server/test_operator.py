"""The operator's folder: its settings are read strictly."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.operator import (
    WORDS,
    Operator,
    ServerSettings,
    open_operator,
    settings_text,
)
from shared.config import key_of
from shared.errors import ConfigError
from shared.signing import make_key, public_key

SHORTEST = 'addresses = ["tacit.example.org"]\n'


def opened(folder: Path, text: str) -> Operator:
    (folder / "server.toml").write_bytes(text.encode("latin-1"))
    return open_operator(folder)


def test_the_shortest_settings_are_an_address(tmp_path: Path) -> None:
    operator = opened(tmp_path, SHORTEST)

    assert operator.settings == ServerSettings(addresses=("tacit.example.org",))
    assert operator.settings.address == "tacit.example.org:9443"


@st.composite
def settings(draw: st.DrawFn) -> ServerSettings:
    """Any sound settings."""
    hosts = st.sampled_from(["a.example.org", "localhost", "10.0.0.7", "::1"])
    ports = draw(st.lists(st.integers(1, 65535), min_size=3, max_size=3, unique=True))
    return ServerSettings(
        name=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)),
        addresses=tuple(draw(st.lists(hosts, min_size=1, max_size=3))),
        public=draw(st.sampled_from(["10.0.0.7", "[::]"])) + f":{ports[0]}",
        port=ports[1],
        page_port=ports[2],
        base=draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)),
        max_q=draw(st.floats(0, 1, exclude_min=True)),
        max_steps=draw(st.integers(1, 100_000)),
    )


@given(said=settings())
def test_any_settings_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, said: ServerSettings
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "server.toml").write_text(settings_text(said), "utf-8")

    assert open_operator(folder).settings == said


def test_the_file_holds_every_key_right_under_what_it_means() -> None:
    text = settings_text(ServerSettings(addresses=("localhost",)))
    lines = text.splitlines()

    assert [*tomllib.loads(text)] == [key_of(name) for name in WORDS]
    assert WORDS.keys() == {field.name for field in fields(ServerSettings)}
    for name, meaning in WORDS.items():
        (place,) = [n for n, s in enumerate(lines) if s.startswith(key_of(name) + " ")]
        assert lines[place - 1] == f"# {meaning}"


@pytest.mark.parametrize(
    ("host", "address"),
    [("10.0.0.7", "10.0.0.7:7000"), ("::1", "[::1]:7000")],
)
def test_sites_are_told_the_first_address_and_the_public_port(
    host: str, address: str
) -> None:
    told = ServerSettings(addresses=(host, "localhost"), public="0.0.0.0:7000").address

    assert told == address


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = (
        'name = "a b"\naddresses = ["no host"]\npublic = "9443"\nport = 0\n'
        'page-port = 70000\nbase = ""\nmax-q = 2\nmodules = []\n'
    )

    with pytest.raises(ConfigError) as refused:
        opened(tmp_path, text)

    told = str(refused.value)
    for fault in ("name='a b'", "['no host']", "public='9443'", "port=0", "base is"):
        assert fault in told
    assert "page-port=70000" in told
    assert "max-q=2.0" in told
    assert "allows no adapter" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "missing key 'addresses'"),
        ("addresses = []\n", "at least one"),
        (SHORTEST + "prot = 1\n", "unknown key 'prot'"),
        (SHORTEST + "port = 9443\n", "three different ports"),
        (SHORTEST + 'public = "tacit.example.org:1"\n', "is not like 0.0.0.0:9443"),
        ("addresses = [", "is not valid TOML"),
        ("name = '\xff'", "is not valid TOML"),
    ],
)
def test_settings_with_a_fault_are_refused(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        opened(tmp_path, text)

    assert told in str(refused.value)
    assert str(tmp_path / "server.toml") in str(refused.value)


@pytest.mark.parametrize("name", ["", "nowhere", "file"])
def test_what_is_no_operators_folder_is_said_with_the_remedy(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"no server\.toml.*tacit server init"):
        open_operator(tmp_path / name)


def test_paths_are_absolute_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server.toml").write_text(SHORTEST)
    monkeypatch.chdir(tmp_path)

    operator = open_operator(Path())

    assert operator.folder == tmp_path
    assert operator.ca == tmp_path / "tls" / "ca.crt"


def test_the_public_key_is_that_of_the_operators_key(tmp_path: Path) -> None:
    operator = opened(tmp_path, SHORTEST)
    key = make_key(operator.key)

    assert operator.public_key() == public_key(key)
