"""Where a site is served is checked as a whole before anything is loaded."""

import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.serving.premises import Premises
from server.certificates import make_authority, make_server_certificate
from shared.errors import ConfigError


def premises(**changes: object) -> Premises:
    sound = {
        "folder": "site",
        "release": "",
        "host": "127.0.0.1",
        "port": 8080,
        "names": (),
        "cert": "",
        "key": "",
    }
    return Premises(**{**sound, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    make_authority(folder, "test", datetime.now(UTC))
    make_server_certificate(folder, "test", [], datetime.now(UTC))
    return folder


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_this_machine_needs_no_certificate(host: str) -> None:
    premises(host=host).check()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "site.example.org", ""])  # noqa: S104  # refused
def test_beyond_this_machine_a_certificate_is_asked_for(host: str, tls: Path) -> None:
    pair = {"cert": str(tls / "server.crt"), "key": str(tls / "server.key")}

    premises(host=host, **pair).check()
    with pytest.raises(ConfigError, match="is beyond this machine"):
        premises(host=host).check()


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    wrong = premises(release=str(tmp_path / "x"), port=0, cert="/nowhere")

    with pytest.raises(ConfigError) as told:
        wrong.check()

    for fault in ("is no folder", "1..65535", "/nowhere is no file", "go together"):
        assert fault in str(told.value)


def test_a_certificate_and_a_key_that_are_no_pair_are_refused(
    tls: Path, tmp_path: Path
) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"junk")
    server = str(tls / "server.crt")
    for cert, key in [(server, tls / "ca.key"), (junk, junk), (server, junk)]:
        with pytest.raises(ConfigError, match="private key"):
            premises(cert=str(cert), key=str(key)).check()


def test_an_address_belongs_to_whoever_listens_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port} .*: Address already in"):
            premises(port=port).listen()
    with premises(port=port).listen() as ours:
        assert ours.getsockname() == ("127.0.0.1", port)


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    assert premises(host="::1").address == "http://[::1]:8080"
    assert premises(cert="x").address == "https://127.0.0.1:8080"
