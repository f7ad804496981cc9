"""Ways to serve that lists are compared on: a shift of alpha, more or less exploring.

Two ways that are compared differ on one axis alone, so a vote says which of its levels
won and which lost.
"""

from dataclasses import dataclass
from typing import Final

LEVELS: Final[dict[str, tuple[float, ...]]] = {
    "alpha": (-0.2, 0.0, 0.2),  # added to the usual alpha
    "explore": (0.0, 1.0, 2.0),  # times the usual share of new items
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to serve; the usual one by default.

    Attributes:
        alpha: Added to the alpha that would be used; keep the sum in 0..1.
        explore: Factor of the share of places that is kept for new items.
    """

    alpha: float = 0.0
    explore: float = 1.0

    def level(self, axis: str) -> str:
        """Return the name of its level on an axis, such as ``alpha -0.2``."""
        return level_name(axis, float(getattr(self, axis)))

    def at(self, axis: str, value: float) -> "Arm":
        """Return the same way to serve at another level of an axis."""
        return Arm(**{"alpha": self.alpha, "explore": self.explore, axis: value})


def level_name(axis: str, value: float) -> str:
    """Return what the log of shown lists calls a level."""
    return f"{axis} {value:+g}" if axis == "alpha" else f"{axis} x{value:g}"


USUAL: Final = Arm()
NAMES: Final = tuple(
    level_name(axis, value) for axis, values in LEVELS.items() for value in values
)


def places_of(axis: str) -> slice:
    """Return where the levels of an axis lie in ``NAMES``."""
    first = NAMES.index(level_name(axis, LEVELS[axis][0]))
    return slice(first, first + len(LEVELS[axis]))
