"""What one audit found: a verdict, a sentence and the figures behind it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Figure = float | int | str | None | Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one audit of the code or of a ledger.

    Attributes:
        audit: Name of the audit, such as ``replay.unit``.
        holds: Whether what it checks was found to hold.
        says: One sentence for a person, with the numbers that decided.
        figures: These numbers for a program; JSON values alone.
    """

    audit: str
    holds: bool
    says: str
    figures: Mapping[str, Figure]

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON's types."""
        return asdict(self)
