"""The operator's certificates: a small authority of its own, and the server's.

Sites believe this authority and no other. Its key signs server certificates alone, and
never leaves the operator's folder.
"""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.durable import replace_file
from shared.errors import ConfigError
from shared.invitation import is_ip
from shared.secret_file import keep_secret

LIFE_OF_AUTHORITY = timedelta(days=3652)  # ten years
LIFE_OF_SERVER = timedelta(days=397)  # what browsers and TLS libraries still accept
SLACK = timedelta(hours=1)  # a site's clock may be behind ours
LOCAL = ("localhost", "127.0.0.1")  # the proxy's own way to the SuperLink


def make_authority(tls: Path, name: str, now: datetime) -> None:
    """Make a certificate authority: ``ca.crt`` and ``ca.key`` in ``tls``.

    Raises:
        ConfigError: If there is one: sites that believe it would be cut off.
    """
    if (tls / "ca.key").exists():
        raise ConfigError(f"{tls} has an authority; it is never replaced")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _named(f"{name} authority")
    built = (
        _about(subject, subject, key.public_key(), now, now + LIFE_OF_AUTHORITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, SHA256())
    )
    _keep_key(tls / "ca.key", key)
    replace_file(tls / "ca.crt", built.public_bytes(Encoding.PEM))


def make_server_certificate(
    tls: Path, name: str, addresses: Sequence[str], now: datetime
) -> None:
    """Make ``server.crt`` and ``server.key`` in ``tls``, in place of any before.

    The key is a new one each time. If the machine stops between the two files they do
    not fit together, and making them once more mends it.

    Args:
        tls: Folder with the authority.
        name: Name of the federation.
        addresses: DNS names and IP addresses under which sites reach the server;
            ``localhost`` and ``127.0.0.1`` are added.
        now: When it is made, with a time zone.

    Raises:
        ConfigError: If the authority cannot be read or has expired.
    """
    authority, authority_key = _authority(tls)
    ends = min(now + LIFE_OF_SERVER, authority.not_valid_after_utc)
    if ends <= now:
        raise ConfigError(
            f"authority {tls / 'ca.crt'} expired on {ends:%Y-%m-%d}; make a new folder "
            "with tacit server init and invite every site again"
        )
    key = ec.generate_private_key(ec.SECP256R1())
    known = x509.AuthorityKeyIdentifier.from_issuer_public_key(
        authority_key.public_key()
    )
    names = [_alternative(one) for one in dict.fromkeys([*addresses, *LOCAL])]
    built = (
        _about(_named(name), authority.subject, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(known, critical=False)
        .sign(authority_key, SHA256())
    )
    _keep_key(tls / "server.key", key)
    replace_file(tls / "server.crt", built.public_bytes(Encoding.PEM))


def read_authority(tls: Path) -> str:
    """Return the authority's certificate as PEM, for sites to believe.

    Raises:
        ConfigError: If it cannot be read.
    """
    return _certificate(tls / "ca.crt").public_bytes(Encoding.PEM).decode()


def days_left(path: Path, now: datetime) -> float:
    """Return for how many days the certificate in ``path`` is valid; below 0 is over.

    Raises:
        ConfigError: If it cannot be read.
    """
    return (_certificate(path).not_valid_after_utc - now) / timedelta(days=1)


def _about(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - SLACK)
        .not_valid_after(ends.astimezone(UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _alternative(address: str) -> x509.GeneralName:
    if is_ip(address):
        return x509.IPAddress(ipaddress.ip_address(address))
    return x509.DNSName(address)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _keep_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    keep_secret(
        path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )


def _authority(tls: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path = tls / "ca.key"
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"key {path} cannot be read ({type(error).__name__}); restore it from its "
            "backup"
        ) from None
    certificate = _certificate(tls / "ca.crt")
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or key.public_key() != certificate.public_key()
    ):
        raise ConfigError(
            f"{path} is not the key of {tls / 'ca.crt'}; restore both from one backup"
        )
    return certificate, key


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"certificate {path} cannot be read ({type(error).__name__}); restore it "
            "from its backup"
        ) from None
