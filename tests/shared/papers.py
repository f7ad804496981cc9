"""What travels between an operator and a site, for tests."""

from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.certificates import make_authority
from shared.identity import Identity
from shared.invitation import Invitation
from shared.signing import public_key
from tests.standin import key_of


@lru_cache(maxsize=1)
def authority() -> str:
    """The certificate of an authority, as PEM."""
    with TemporaryDirectory() as folder:
        make_authority(Path(folder), "test", datetime.now(UTC))
        return (Path(folder) / "ca.crt").read_text("ascii")


def an_invitation(**changes: object) -> Invitation:
    """A sound invitation, by the operator whose key is ``key_of("operator")``."""
    sound = Invitation(
        site="north",
        address="tacit.example.org:9443",
        ca=authority(),
        operator=public_key(key_of("operator")),
        base="a" * 64,
        bundle="b" * 64,
        tacit="0.1.0",
        flwr="1.41.0",
    )
    return replace(sound, **changes)  # type: ignore[arg-type]  # wrong types are tried too


def node_line(curve: ec.EllipticCurve | None = None) -> str:
    """The public line of a fresh node key."""
    key = ec.generate_private_key(curve or ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def an_identity(site: str = "north", **changes: str) -> Identity:
    """A sound identity, whose ledger's key is ``key_of(site)``."""
    sound = Identity(site=site, node=node_line(), ledger=public_key(key_of(site)))
    return replace(sound, **changes)
