"""An operator's folder: made whole or not at all, and a proxy with one door."""

import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import yaml  # type: ignore[import-untyped]  # has no types

from server import setup
from server.certificates import days_left
from server.operator import Operator, ServerSettings, open_operator
from server.setup import init, keep_bundle, kept_bundle, renew
from server.templates import unit_text
from shared.bundle import bundle_files
from shared.errors import ConfigError
from shared.signing import is_signed, sign

NOW = datetime.now(UTC).replace(microsecond=0)
SETTINGS = ServerSettings(addresses=("localhost",), base="tiny")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def test_init_makes_a_folder_that_opens_and_can_sign(tmp_path: Path) -> None:
    init(tmp_path / "op", SETTINGS, NOW)

    operator = open_operator(tmp_path / "op")

    assert operator.settings == SETTINGS
    signature = sign(operator.signing_key(), "x")
    assert is_signed(operator.public_key(), "x", signature)
    assert "pyproject.toml" in bundle_files(operator.bundle.read_bytes())
    assert days_left(operator.tls / "server.crt", NOW) == 397
    assert all(
        path.is_dir()
        for path in (operator.sites, operator.runs, operator.state, operator.releases)
    )


def test_a_folder_is_its_owners_alone_and_so_is_every_secret(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        operator = init(tmp_path / "op", SETTINGS, NOW)
    finally:
        os.umask(before)

    modes = {
        path.relative_to(operator.folder).as_posix(): path.stat().st_mode & 0o777
        for path in [*operator.folder.rglob("*.key"), operator.secret, operator.folder]
    }
    assert modes == {
        ".": 0o700,
        "operator.key": 0o600,
        "superexec.secret": 0o600,
        "tls/ca.key": 0o600,
        "tls/server.key": 0o600,
    }
    assert len(bytes.fromhex(operator.secret.read_text())) == 32


def test_no_two_folders_share_a_secret(tmp_path: Path) -> None:
    ours, theirs = (init(tmp_path / name, SETTINGS, NOW) for name in "ab")

    secrets = {
        path.read_bytes()
        for one in (ours, theirs)
        for path in [*one.folder.rglob("*.key"), one.secret]
    }
    assert len(secrets) == 8


def test_a_folder_that_holds_anything_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")

    with pytest.raises(ConfigError, match="is not empty"):
        init(tmp_path, SETTINGS, NOW)

    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_an_empty_folder_is_used_also_by_its_shortest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    init(Path(), SETTINGS, NOW)

    assert open_operator(tmp_path).folder == tmp_path


def test_a_folder_that_cannot_be_finished_is_left_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(setup, "make_server_certificate", fails)

    with pytest.raises(OSError, match="no space"):
        init(tmp_path, SETTINGS, NOW)

    assert list(tmp_path.iterdir()) == []


def test_settings_that_could_not_be_read_back_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="three different ports"):
        init(tmp_path / "op", ServerSettings(addresses=("a",), port=9443), NOW)

    assert not (tmp_path / "op").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="cannot be made"):
        init(tmp_path / "file" / "op", SETTINGS, NOW)


def test_renewing_keeps_the_authority_and_follows_the_settings(tmp_path: Path) -> None:
    operator = init(tmp_path, SETTINGS, NOW)
    before = operator.ca.read_bytes()
    text = (tmp_path / "server.toml").read_text().replace("9443", "7443")
    (tmp_path / "server.toml").write_text(text)

    renew(open_operator(tmp_path), NOW + timedelta(days=300))

    assert operator.ca.read_bytes() == before
    assert days_left(operator.tls / "server.crt", NOW) == 697
    assert "listen 0.0.0.0:7443 ssl;" in operator.proxy.read_text()
    assert '"7443:7443"' in (tmp_path / "compose.yaml").read_text()


def test_a_bundle_is_built_anew_from_the_installed_source(tmp_path: Path) -> None:
    operator = init(tmp_path, SETTINGS, NOW)
    made = kept_bundle(operator)
    operator.bundle.write_bytes(b"an older one")

    assert kept_bundle(operator) != made
    assert keep_bundle(operator) == made == kept_bundle(operator)


def test_a_missing_bundle_is_said_with_the_remedy(tmp_path: Path) -> None:
    operator = init(tmp_path, SETTINGS, NOW)
    operator.bundle.unlink()

    with pytest.raises(ConfigError, match="tacit server upgrade"):
        kept_bundle(operator)


def test_the_compose_file_is_yaml_and_shows_the_proxy_alone(tmp_path: Path) -> None:
    operator = init(tmp_path, SETTINGS, NOW)

    (service,) = yaml.safe_load((tmp_path / "compose.yaml").read_text())[
        "services"
    ].values()

    state = operator.folder.stat()
    assert service["ports"] == ["9443:9443"]
    assert service["user"] == f"{state.st_uid}:{state.st_gid}"
    assert service["command"] == ["tacit", "server", "start", "/operator"]


def test_odd_characters_of_a_path_mean_nothing_to_systemd(tmp_path: Path) -> None:
    folder = tmp_path / 'an "odd" 100% $HOME \\folder'
    folder.mkdir()

    unit = unit_text(Operator(folder, SETTINGS), Path("/opt/tacit"))

    said = 'an \\"odd\\" 100%% $$HOME \\\\folder"'
    assert f'ExecStart="/opt/tacit" server start "{tmp_path}/{said}\n' in unit
    assert f'ReadWritePaths="{tmp_path}/{said.replace("$$", "$")}\n' in unit


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze reads units"
)
def test_systemd_reads_the_unit_without_a_complaint_and_finds_it_hardened(
    tmp_path: Path,
) -> None:
    init(tmp_path / "op", SETTINGS, NOW)
    shutil.copy(tmp_path / "op" / "tacit-server.service", tmp_path)

    def analyse(*words: str) -> str:
        done = subprocess.run(
            ["systemd-analyze", *words, "tacit-server.service"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        return done.stdout + done.stderr

    complaints = [
        line
        for line in analyse("verify").splitlines()
        if "tacit-server" in line and "Unknown key 'Restart" not in line
    ]
    assert complaints == []
    assert "OK" in analyse("security", "--offline=true", "--threshold=30")


class Upstream(BaseHTTPRequestHandler):
    """A SuperLink's stand-in: answers all, and remembers what it was asked."""

    seen: ClassVar[list[tuple[str, str, int]]] = []
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        signed = self.headers.get("flwr-signature", "")
        self.seen.append((self.path, signed, len(body)))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@contextmanager
def upstream(tls: Path, port: int) -> Iterator[list[tuple[str, str, int]]]:
    """The stand-in behind TLS; yields what it saw."""
    Upstream.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", port), Upstream)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "server.crt", tls / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Upstream.seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@contextmanager
def proxy(operator: Operator, port: int) -> Iterator[None]:
    """Real nginx with the folder's own configuration."""
    assert NGINX is not None
    folder = str(operator.folder)
    process = subprocess.Popen(
        [NGINX, "-p", folder, "-c", f"{folder}/nginx.conf", "-g", "daemon off;"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(100):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        _, said = process.communicate(timeout=10)
        assert "[emerg]" not in said


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    ports = free_port(), free_port()
    settings = ServerSettings(
        addresses=("localhost",), public=f"127.0.0.1:{ports[0]}", port=ports[1]
    )
    return init(tmp_path, settings, NOW)


def public_port(operator: Operator) -> int:
    return int(operator.settings.public.rpartition(":")[2])


def ask(operator: Operator, path: str, body: bytes = b"") -> int:
    """The status of a request that is sent as it is written."""
    context = ssl.create_default_context(cafile=str(operator.ca))
    connection = http.client.HTTPSConnection(
        "localhost", public_port(operator), context=context, timeout=10
    )
    try:
        connection.request("POST", path, body, {"flwr-signature": "abc=="})
        return connection.getresponse().status
    finally:
        connection.close()


CLOSED = [
    *("/", "/v1", "/v1/fleet", "/v1/fleet/", "/v1/control/list-runs", "/health"),
    *("/v1/runtime/acquire-task", "/v1/fleet/../control/list-runs", "//v1/control/x"),
    *("/v1/fleet/..%2fcontrol/list-runs", "/v1/fleet/%2e%2e/control/list-runs"),
    *("/v1/fleet/x/../../control/list-runs", "/v1/fleet/x/y", "/v1/fleet/X"),
    *("/v1/control/list-runs#/v1/fleet/x", "/v1/control/list-runs?/v1/fleet/x"),
    *("/v1/fleet/x%0d%0aHost:%20y", "/v1/fleet/..;/control/list-runs"),
    "/V1/FLEET/pull-messages",
]


@pytest.mark.slow
@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_the_proxy_passes_the_fleet_api_and_nothing_else(operator: Operator) -> None:
    large = b"x" * (6 * 2**20)

    with (
        upstream(operator.tls, operator.settings.port) as seen,
        proxy(operator, public_port(operator)),
    ):
        opened = ask(operator, "/v1/fleet/pull-messages", large)
        closed = {path: ask(operator, path) for path in CLOSED}
        roundabout = ask(operator, "/v1/control/../fleet/get-run")

    assert opened == roundabout == 200
    assert {path: status for path, status in closed.items() if status != 404} == {}
    assert seen == [
        ("/v1/fleet/pull-messages", "abc==", len(large)),
        ("/v1/fleet/get-run", "abc==", 0),
    ]


@pytest.mark.slow
@pytest.mark.skipif(NGINX is None, reason="needs nginx")
def test_the_proxy_refuses_plain_http_and_a_stranger_behind_it(
    operator: Operator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = init(tmp_path_factory.mktemp("stranger"), SETTINGS, NOW)
    port = public_port(operator)

    with (
        upstream(stranger.tls, operator.settings.port) as seen,
        proxy(operator, port),
    ):
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        plain.request("POST", "/v1/fleet/pull-messages")
        status = plain.getresponse().status
        plain.close()
        behind = ask(operator, "/v1/fleet/pull-messages")

    assert (status, behind, seen) == (400, 502, [])
