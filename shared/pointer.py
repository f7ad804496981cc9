"""Which release is in force: a pointer that the operator signs and numbers.

Its number only grows, so that nobody who carries it can take a site back to an older
release: to go back, the operator signs a newer pointer to it.
"""

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.errors import ModelError
from shared.protocol import MOST_ROUNDS, SAFE_NAME
from shared.release import Release
from shared.signing import is_signed, public_key, sign
from shared.witness import HEX

NAME = re.compile(rf"(?P<run>{SAFE_NAME.pattern})/(?P<round>[1-9][0-9]{{0,6}})")
KINDS = {
    **dict.fromkeys(("release", "digest", "time", "key", "signature"), str),
    "number": int,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What an operator signs to put a release in force; all of it is public.

    Attributes:
        number: From 1; larger than that of every earlier pointer.
        release: Name of the release, such as ``spring/3``.
        digest: The digest of its manifest.
        time: When it was signed, UTC.
        key: The operator's public key, 64 hexadecimal digits.
        signature: Of all the rest by this key.
    """

    number: int
    release: str
    digest: str
    time: str
    key: str
    signature: str

    def to_json(self) -> str:
        """Return the pointer as one line."""
        return json.dumps(asdict(self), sort_keys=True)


def point(release: Release, number: int, time: str, key: Ed25519PrivateKey) -> Pointer:
    """Return a signed pointer to ``release``."""
    said = {
        "number": number,
        "release": release.name,
        "digest": release.digest,
        "time": time,
        "key": public_key(key),
    }
    return Pointer(**said, signature=sign(key, _statement(said)))  # type: ignore[arg-type]  # as written above


def pointer_from(line: str, operator: str = "") -> Pointer:
    """Rebuild a pointer, believing nothing.

    Args:
        line: What ``to_json`` gave.
        operator: Public key of who must have signed it; empty for the key that it
            names, where the line is one's own and was checked when it came.

    Raises:
        ModelError: If it is malformed, or not signed by this key.
    """
    try:
        fields = json.loads(line)
        kinds = {name: type(value) for name, value in fields.items()}
    except (ValueError, AttributeError, RecursionError):
        kinds, fields = {}, {}
    if kinds != KINDS or not _is_sound(fields):
        raise ModelError("pointer to the release in force: malformed; sign a new one")
    said = {name: value for name, value in fields.items() if name != "signature"}
    wanted = operator or fields["key"]
    signed = is_signed(wanted, _statement(said), fields["signature"])
    if fields["key"] != wanted or not signed:
        raise ModelError(
            f"pointer {fields['number']} to the release in force is not signed by the "
            f"operator's key {wanted[:16]}..."
        )
    return Pointer(**fields)


def parts(name: str) -> tuple[str, int]:
    """Return run and round of a release's name.

    Raises:
        ModelError: If it is not like ``spring/3``.
    """
    found = NAME.fullmatch(name)
    if not found or int(found["round"]) > MOST_ROUNDS:
        raise ModelError(f"{name!r} is no release's name; it is RUN/ROUND, as spring/3")
    return found["run"], int(found["round"])


def _is_sound(fields: dict[str, Any]) -> bool:
    return bool(
        fields["number"] >= 1
        and NAME.fullmatch(fields["release"])
        and HEX.fullmatch(fields["digest"])
    )


def _statement(said: dict[str, Any]) -> str:
    """Return what the signature is over; it names its own purpose."""
    line = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return f"tacit release in force\n{line}"
