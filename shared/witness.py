"""The signed end of a ledger, kept where the ledger is not.

A hash chain cannot see its own end cut off. Whoever keeps the newest witness can: a
ledger that does not contain it was rolled back or cloned, and its site must not train.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.durable import replace_file
from shared.errors import LedgerBroken
from shared.signing import is_signed

HEX = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What a site signs after each entry; all of it is public.

    Attributes:
        site: The site's name.
        key: Its public key, 64 hexadecimal digits.
        entries: How many entries the ledger had.
        head: Hash of the last of them.
        signature: Of ``statement`` by the key; also the signature of that entry.
    """

    site: str
    key: str
    entries: int
    head: str
    signature: str

    def holds(self) -> bool:
        """Return whether the signature is the key's."""
        said = statement(self.site, self.entries - 1, self.head)
        return is_signed(self.key, said, self.signature)

    def fields(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def to_json(self) -> str:
        """Return the witness as one line."""
        return json.dumps(self.fields(), sort_keys=True)


def statement(site: str, n: int, digest: str) -> str:
    """Return what the signature of entry ``n`` is over; it names its own purpose."""
    return f"tacit ledger entry\n{site}\n{n}\n{digest}"


def witness_from(fields: Mapping[str, object]) -> Witness:
    """Rebuild a witness, believing nothing.

    Raises:
        LedgerBroken: If a field is missing, unknown or malformed, or the signature is
            not that of the key it names.
    """
    kinds = {"site": str, "key": str, "entries": int, "head": str, "signature": str}
    if {name: type(value) for name, value in fields.items()} == kinds:
        made = Witness(**fields)  # type: ignore[arg-type]  # the types are checked above
        if made.entries >= 1 and HEX.fullmatch(made.head) and made.holds():
            return made
    raise LedgerBroken("witness: not the signed end of a ledger; ask for it again")


def keep_witness(path: Path, witness: Witness) -> None:
    """Replace the witness in ``path``, durably and whole."""
    replace_file(path, f"{witness.to_json()}\n".encode())


def kept_witness(path: Path) -> Witness | None:
    """Return the witness in ``path``, or None if there is no such file.

    Raises:
        LedgerBroken: If the file holds anything but a witness.
    """
    try:
        return witness_from(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise LedgerBroken(
            f"witness {path} cannot be read; put the newest witness of this site that "
            "the server has in its place"
        ) from None
