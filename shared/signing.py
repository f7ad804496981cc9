"""Ed25519 keys in files, and signatures over text that names its own purpose."""

import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from shared.durable import sync_folder
from shared.errors import ConfigError

SIGNATURE = re.compile("[0-9a-f]{128}")  # one way to write it, not several
OTHERS = 0o077  # permission bits of anyone but the owner


def make_key(path: Path) -> Ed25519PrivateKey:
    """Make a key and put it at ``path``, readable by its owner alone, durably.

    Guarantee: there is a whole key or none, and no key is ever replaced.

    Raises:
        ConfigError: If the file exists or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".key-") as aside:
            aside.write(
                key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            )
            aside.flush()
            os.fsync(aside.fileno())
            os.link(aside.name, path)  # a rename would replace
        sync_folder(path.parent)
    except OSError as error:
        raise ConfigError(
            f"key {path} cannot be made: {error.strerror}; a key is never replaced"
        ) from None
    return key


def load_key(path: Path) -> Ed25519PrivateKey:
    """Return the key in ``path``.

    Raises:
        ConfigError: If it is missing, no Ed25519 key, or readable by others.
    """
    try:
        mode, pem = path.stat().st_mode, path.read_bytes()
        key = load_pem_private_key(pem, password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"key {path} cannot be read ({type(error).__name__}); restore it from its "
            "backup"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"key {path} is no Ed25519 key; restore it from its backup")
    if mode & OTHERS:
        raise ConfigError(
            f"key {path} has mode {mode & 0o777:03o}, so others may read it: chmod 600"
        )
    return key


def public_key(key: Ed25519PrivateKey) -> str:
    """Return the public half as 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def sign(key: Ed25519PrivateKey, text: str) -> str:
    """Return the signature of ``text`` as 128 hexadecimal digits."""
    return key.sign(text.encode()).hex()


@lru_cache(maxsize=4096)
def is_signed(public: str, text: str, signature: str) -> bool:
    """Return whether ``signature`` is that of ``text`` by the key ``public``.

    What was once found stays found: a chain that is read again costs its hashes alone.
    """
    if not SIGNATURE.fullmatch(signature):
        return False
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), text.encode())
    except (ValueError, InvalidSignature):
        return False
    return True
