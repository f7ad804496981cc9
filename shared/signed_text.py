"""A small TOML file that ends with a signature over all the rest of it.

Only the very text that was signed is read back: with one byte changed, added or gone it
is refused.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar, cast

import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.config import key_of, read
from shared.errors import ConfigError
from shared.signing import is_signed, public_key, sign

SIGNATURE = "signature"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SignedText(Generic[T]):
    """One kind of signed file.

    Attributes:
        kind: The frozen dataclass that it holds.
        name: What a person calls it; also the purpose that the signature names.
        signer: The field with the public key whose signature counts.
        title: Comment on top, ending in a newline.
    """

    kind: type[T]
    name: str
    signer: str
    title: str

    def write(self, content: T, key: Ed25519PrivateKey) -> str:
        """Return the text of ``content``, signed.

        Raises:
            ConfigError: If a value is out of range, or names another signer.
        """
        checked = read(self.kind, _flat(content), self.name)
        if getattr(checked, self.signer) != public_key(key):
            raise ConfigError(
                f"{self.name}: the key to sign with is not its {self.signer} key"
            )
        return self._text(checked, sign(key, self._statement(checked)))

    def read(self, text: str) -> T:
        """Rebuild what was signed, believing nothing.

        Raises:
            ConfigError: If the text is not TOML, holds anything unknown, missing or out
                of range, or is not what the key that it names has signed.
        """
        try:
            flat = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{self.name} is not valid TOML: {error}") from None
        signature = str(flat.pop(SIGNATURE, ""))
        content = read(self.kind, flat, self.name)
        signed = is_signed(
            getattr(content, self.signer), self._statement(content), signature
        )
        if not signed or self._text(content, signature) != text:
            raise ConfigError(
                f"{self.name}: this is not the text that its {self.signer} key signed; "
                "it was changed on its way: ask for it again"
            )
        return content

    def _statement(self, content: T) -> str:
        """Return what the signature is over; it names its own purpose."""
        line = json.dumps(
            _flat(content), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return f"tacit {self.name}\n{line}"

    def _text(self, content: T, signature: str) -> str:
        flat = {**_flat(content), SIGNATURE: signature}
        return self.title + tomli_w.dumps(flat, multiline_strings=True)


def _flat(content: object) -> Mapping[str, Any]:
    """Return the fields under the keys that stand in the file."""
    return {key_of(name): value for name, value in asdict(cast("Any", content)).items()}
