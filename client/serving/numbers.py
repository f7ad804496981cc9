"""Values of attributes read as numbers: a year, a price, a decade.

It refuses what only contains a number: ``Heat (1995)`` is a title.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DECADE = re.compile(r"(\d{3})0s", re.ASCII)
NUMBER = re.compile(r"[+-]?\d{1,300}(\.\d{1,300})?", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """The values of one attribute that read as numbers, one row for item and value.

    Attributes:
        places: Of the items, [m].
        low, high: First and last number that each value covers, [m].
    """

    places: npt.NDArray[np.int64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    def within(self, low: float | None, high: float | None) -> npt.NDArray[np.int64]:
        """Return the places of items with a value that meets the bounds, both included.

        A decade meets them if one of its years does.
        """
        least, most = (
            -math.inf if low is None else low,
            math.inf if high is None else high,
        )
        return self.places[(self.high >= least) & (self.low <= most)]


def span(value: str) -> tuple[float, float] | None:
    """Return the first and last number of a value, or None if it is no number.

    ``1994`` and ``19.99`` are themselves; ``1990s`` goes from 1990 to 1999.
    """
    value = value.strip()
    if decade := DECADE.fullmatch(value):
        first = float(decade[1]) * 10
        return first, first + 9
    if NUMBER.fullmatch(value) and math.isfinite(float(value)):
        return float(value), float(value)
    return None


def spans_of(places: Mapping[str, npt.NDArray[np.int64]]) -> Spans:
    """Return the spans of an attribute's values from the places that have each."""
    read = [(span(value), where) for value, where in places.items()]
    kept = [(bounds, where) for bounds, where in read if bounds is not None]
    counts = [len(where) for _, where in kept]
    return Spans(
        np.concatenate([np.zeros(0, np.int64), *(where for _, where in kept)]),
        np.repeat([low for (low, _), _ in kept], counts).astype(np.float64),
        np.repeat([high for (_, high), _ in kept], counts).astype(np.float64),
    )
