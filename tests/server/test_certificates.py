"""The operator's certificates: what they say, and that TLS accepts no others."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from server.certificates import (
    LIFE_OF_AUTHORITY,
    LIFE_OF_SERVER,
    days_left,
    make_authority,
    make_server_certificate,
    read_authority,
)
from shared.errors import ConfigError

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = ("tacit.example.org", "10.0.0.7", "::1", "localhost")


def made(folder: Path, now: datetime = NOW, *addresses: str) -> Path:
    """A folder with an authority and a server certificate."""
    folder.mkdir(exist_ok=True)
    make_authority(folder, "spring", now)
    make_server_certificate(folder, "spring", addresses or NAMES, now)
    return folder


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@contextmanager
def tls_server(tls: Path) -> Iterator[int]:
    """A server that shakes hands with whoever comes; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "server.crt", tls / "server.key")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
                context.wrap_socket(plain, server_side=True).close()
            except ssl.SSLError:
                continue
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def shake_hands(port: int, believed: Path, host: str) -> None:
    context = ssl.create_default_context(cafile=str(believed / "ca.crt"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=host),
    ):
        pass


@pytest.mark.parametrize("host", [*NAMES, "127.0.0.1"])
def test_whoever_believes_the_authority_is_served_under_each_address(
    tmp_path: Path, host: str
) -> None:
    tls = made(tmp_path / "tls")

    with tls_server(tls) as port:
        shake_hands(port, tls, host)


@pytest.mark.parametrize("host", ["other.example.org", "10.0.0.8"])
def test_no_other_address_is_the_servers(tmp_path: Path, host: str) -> None:
    tls = made(tmp_path / "tls")

    with tls_server(tls) as port, pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(port, tls, host)


def test_another_authority_of_the_same_name_is_not_believed(tmp_path: Path) -> None:
    ours, theirs = made(tmp_path / "ours"), made(tmp_path / "theirs")

    with tls_server(theirs) as port, pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(port, ours, "localhost")


def test_an_expired_certificate_is_refused_and_a_renewed_one_is_not(
    tmp_path: Path,
) -> None:
    tls = made(tmp_path / "tls", NOW - LIFE_OF_SERVER - timedelta(minutes=1))
    before = {path.name: path.read_bytes() for path in tls.iterdir()}

    with (
        tls_server(tls) as port,
        pytest.raises(ssl.SSLCertVerificationError, match="expired"),
    ):
        shake_hands(port, tls, "localhost")
    make_server_certificate(tls, "spring", NAMES, NOW)
    with tls_server(tls) as port:
        shake_hands(port, tls, "localhost")

    after = {path.name: path.read_bytes() for path in tls.iterdir()}
    changed = {name for name in before if before[name] != after[name]}
    assert (changed, after.keys()) == ({"server.crt", "server.key"}, before.keys())


def test_a_site_whose_clock_is_a_little_behind_is_served(tmp_path: Path) -> None:
    tls = made(tmp_path / "tls", NOW + timedelta(minutes=50))

    with tls_server(tls) as port:
        shake_hands(port, tls, "localhost")


def test_the_authority_signs_server_certificates_and_no_authorities(
    tmp_path: Path,
) -> None:
    authority = certificate(made(tmp_path / "tls") / "ca.crt")

    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (
        True,
        True,
        0,
    )
    assert (usage.value.key_cert_sign, usage.value.digital_signature) == (True, False)
    assert authority.not_valid_after_utc == NOW + LIFE_OF_AUTHORITY


def test_the_servers_certificate_serves_and_signs_nothing(tmp_path: Path) -> None:
    server = certificate(made(tmp_path / "tls") / "server.crt")

    limits = server.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = server.extensions.get_extension_for_class(x509.KeyUsage)
    purpose = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (limits.value.ca, usage.value.key_cert_sign) == (False, False)
    assert list(purpose.value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert server.not_valid_after_utc == NOW + timedelta(days=397)


def test_keys_are_their_owners_alone(tmp_path: Path) -> None:
    tls = made(tmp_path / "tls")

    modes = {path.name: path.stat().st_mode & 0o777 for path in tls.glob("*.key")}
    assert modes == {"ca.key": 0o600, "server.key": 0o600}


def test_days_are_counted_to_the_end_and_beyond(tmp_path: Path) -> None:
    tls = made(tmp_path / "tls")

    left = [
        days_left(tls / "server.crt", NOW + timedelta(days=n)) for n in (0, 397, 400)
    ]
    assert left == [397, 0, -3]


def test_a_server_certificate_never_outlives_its_authority(tmp_path: Path) -> None:
    tls = made(tmp_path / "tls")
    late = NOW + LIFE_OF_AUTHORITY - timedelta(days=30)

    make_server_certificate(tls, "spring", NAMES, late)

    assert days_left(tls / "server.crt", late) == 30


def test_an_authority_that_has_expired_signs_no_more(tmp_path: Path) -> None:
    tls = made(tmp_path / "tls")

    with pytest.raises(ConfigError, match=r"expired on .* tacit server init"):
        make_server_certificate(tls, "spring", NAMES, NOW + LIFE_OF_AUTHORITY)


def test_an_authority_is_never_replaced(tmp_path: Path) -> None:
    tls = made(tmp_path / "tls")
    before = read_authority(tls)

    with pytest.raises(ConfigError, match="never replaced"):
        make_authority(tls, "spring", NOW)

    assert read_authority(tls) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [("ca.key", None), ("ca.key", "x"), ("ca.crt", None), ("ca.crt", "x")],
)
def test_an_authority_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: str | None
) -> None:
    tls = made(tmp_path / "tls")
    (tls / name).unlink()
    if content is not None:
        (tls / name).write_text(content)

    with pytest.raises(ConfigError, match=f"{name} cannot be read .*backup"):
        make_server_certificate(tls, "spring", NAMES, NOW)


def test_a_key_and_a_certificate_of_two_authorities_do_not_sign(tmp_path: Path) -> None:
    ours, theirs = made(tmp_path / "ours"), made(tmp_path / "theirs")
    (ours / "ca.key").write_bytes((theirs / "ca.key").read_bytes())

    with pytest.raises(ConfigError, match="is not the key of"):
        make_server_certificate(ours, "spring", NAMES, NOW)
