"""Axes of charts: values as pixels, linear or in powers of ten, and round ticks.

An axis without a value that it could show is refused.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypedDict

from shared.errors import ConfigError

Kind = Literal["linear", "whole", "log"]  # whole: marked at whole numbers alone


class Axis(TypedDict):
    """One axis: what it shows, its kind, and from where to where."""

    label: str
    kind: Kind
    low: float | None
    high: float | None


def axis(
    label: str,
    kind: Kind = "linear",
    *,
    low: float | None = None,
    high: float | None = None,
) -> Axis:
    """Return an axis; where it does not say from where to where, the values decide."""
    return Axis(label=label, kind=kind, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Values of one axis as pixels: ``low`` at ``start``, ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float
    kind: Kind

    def holds(self, value: float) -> bool:
        """Return whether a value lies on the axis."""
        return self.low <= value <= self.high

    def __call__(self, value: float) -> float:
        """Return the pixel of a value that the axis holds."""
        low, high = self.low, self.high
        if self.kind == "log":
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        share = (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return the values to be marked, all on the axis."""
        if self.kind == "log":
            marked = _powers(self.low, self.high)
        else:
            marked = _steps(self.low, self.high, 1.0 if self.kind == "whole" else 0.0)
        return [value for value in marked if self.holds(value)]


def scale(given: Axis, values: Iterable[float], start: float, end: float) -> Scale:
    """Return the scale of an axis for ``values``, from pixel ``start`` to ``end``.

    Raises:
        ConfigError: If none of the values can be shown.
    """
    log = given["kind"] == "log"
    shown = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not shown:
        raise ConfigError(f"chart: no value to show on the axis {given['label']!r}")
    low = min(shown) if given["low"] is None else given["low"]
    high = max(shown) if given["high"] is None else given["high"]
    if not low < high:
        low, high = (low / 2, low * 2) if log else (low - 0.5, low + 0.5)
    return Scale(low=low, high=high, start=start, end=end, kind=given["kind"])


def tick(value: float) -> str:
    """Return a number as an axis shows it: 0.001, 2.5, 40,000, 1e-5."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.10g}"


def _steps(low: float, high: float, least: float) -> list[float]:
    """Return up to seven round values from ``low`` to ``high``, ``least`` apart."""
    rough = max((high - low) / 6, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Return powers of ten, with 2 and 5 of each where they are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    digits = (1, 2, 5) if last - first <= 2 else (1,)
    stride = 1 + (last - first) // 9
    return [
        float(f"{digit}e{power}")
        for power in range(first, last + 1, stride)
        for digit in digits
    ]
