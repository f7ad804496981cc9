"""A site's public identity: its name and the two keys by which it is known.

The site signs it with its ledger's key, which shows that it has that key; nothing in it
is secret. The operator admits it (``tacit server admit site.pub``).
"""

import re
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_public_key,
)

from shared.invitation import HEX
from shared.protocol import is_safe
from shared.signed_text import SignedText

TITLE = """\
# Public identity of a site of Tacit, signed by the key of its ledger. No secret in it.
# The operator takes it with: tacit server admit THIS-FILE
"""
NODE = re.compile("ecdsa-sha2-nistp384 [A-Za-z0-9+/=]{1,512}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a site is.

    Attributes:
        site: Its name.
        node: Public key of its SuperNode: one OpenSSH line, ECDSA P-384, no comment.
        ledger: Ed25519 public key of its ledger, 64 hexadecimal digits.
    """

    site: str
    node: str
    ledger: str

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        checks = [
            (is_safe(self.site), f"site={self.site!r} is no site's name"),
            (
                _is_node_key(self.node),
                "node is not an ECDSA P-384 public key as one OpenSSH line without a "
                "comment",
            ),
            (bool(HEX.fullmatch(self.ledger)), "ledger is not 64 hexadecimal digits"),
        ]
        return [fault for holds, fault in checks if not holds]


_SIGNED = SignedText(Identity, "identity", "ledger", TITLE)


def to_text(identity: Identity, key: Ed25519PrivateKey) -> str:
    """Return ``site.pub``, signed by the ledger's key.

    Raises:
        ConfigError: If a value is out of range, or ``key`` is not the ledger's.
    """
    return _SIGNED.write(identity, key)


def identity_from(text: str) -> Identity:
    """Read ``site.pub`` strictly.

    Guarantee: whoever wrote the text has the ledger's key, and nobody changed it since.

    Raises:
        ConfigError: If it is anything else; all faults at once.
    """
    return _SIGNED.read(text)


def _is_node_key(line: str) -> bool:
    """Return whether the line is a key of that kind, written in the one way."""
    if not NODE.fullmatch(line):
        return False
    try:
        key = load_ssh_public_key(line.encode())
    except (ValueError, NotImplementedError, UnsupportedAlgorithm):
        return False
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() == line
