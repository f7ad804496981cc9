"""Adapter tensors as one contiguous buffer: float32, float16, or int8 with scales.

What is opened must be exactly what packing writes again; anything else is refused.
Packing comes after the noise and sees nothing else: post-processing, which costs no
budget (Dwork and Roth 2014, proposition 2.1).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.adapter import add, subtract
from shared.errors import ModelError
from shared.protocol import FLOAT32, WIRES, Adapter, Array

Shapes = Mapping[str, tuple[int, ...]]
Values = npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.int8]

LEVELS = 127  # of int8 on either side of zero; -128 is never written
DIGITS = 17  # binary ones of a scale: with the 7 of a level they fit float32's 24
LEAST = 2.0**-119  # a tensor that is nowhere larger than this is zero as int8


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Tensors in the order of their sorted names, one after the other.

    Attributes:
        values: All of them, [n]; the type says the form.
        scales: What one level of each tensor is worth, float32, as int8; else empty.
    """

    values: Values
    scales: Array

    @property
    def form(self) -> str:
        """One of ``WIRES``, if this is what ``pack`` made."""
        return self.values.dtype.name

    def same(self, other: "Packed") -> bool:
        """Return whether both hold the same bytes."""
        return (self.form, self.values.tobytes(), self.scales.tobytes()) == (
            other.form,
            other.values.tobytes(),
            other.scales.tobytes(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A version of the adapter, as what it adds to the one before.

    Attributes:
        packed: What is added.
        before: Digest of the version that it is added to.
        after: Digest of the version that it gives, bit for bit.
    """

    packed: Packed
    before: str
    after: str


def pack(delta: Adapter, form: str) -> Packed:
    """Return the tensors as one buffer of this form.

    Guarantee: float32 is exact. As int8 no value moves by more than half its tensor's
    scale, which is max|x| / 127, rounded up to ``DIGITS`` binary digits so that level
    times scale is exact; a tensor below ``LEAST`` is zero. The bytes are a function of
    ``delta`` alone.

    Raises:
        ModelError: If the form is unknown, or cannot hold a value.
    """
    odd = [f"{name}: {a.dtype}" for name, a in delta.items() if a.dtype != np.float32]
    if odd:
        raise ModelError(f"only float32 may be packed, not {', '.join(odd)}")
    parts = [np.ravel(array) for _, array in sorted(delta.items())]
    if form == FLOAT32:
        return Packed(_joined(parts, np.float32), np.zeros(0, np.float32))
    if form not in WIRES:
        raise ModelError(f"wire form {form!r} is not one of {', '.join(WIRES)}")
    if not all(np.isfinite(part).all() for part in parts):
        raise ModelError(f"a value that is not finite cannot travel as {form}")
    if form == "float16":
        return Packed(_halves(_joined(parts, np.float32)), np.zeros(0, np.float32))
    scales = [_scale(part) for part in parts]
    levels = [_levels(part, scale) for part, scale in zip(parts, scales, strict=True)]
    return Packed(_joined(levels, np.int8), np.array(scales, np.float32))


def unpack(packed: Packed, shapes: Shapes) -> dict[str, Array]:
    """Return the tensors of a buffer, as float32.

    Guarantee: only what ``pack`` writes for these tensors is read, so that both ends
    know the same bytes for them.

    Raises:
        ModelError: If length, form, a level or a scale is not what ``pack`` writes.
    """
    sizes = {name: math.prod(shapes[name]) for name in sorted(shapes)}
    count = len(sizes) if packed.form == "int8" else 0
    if (packed.values.shape, packed.scales.shape) != ((sum(sizes.values()),), (count,)):
        raise ModelError("a packed adapter does not have the length of its tensors")
    tensors, start = {}, 0
    for number, (name, size) in enumerate(sizes.items()):
        part = packed.values[start : start + size].astype(np.float32)
        if count:
            with np.errstate(over="ignore", invalid="ignore"):
                part *= packed.scales[number]
        tensors[name] = part.reshape(shapes[name])
        start += size
    if not pack(tensors, packed.form).same(packed):
        raise ModelError("a packed adapter is not in the bytes that packing writes")
    return tensors


def feed_back(
    delta: Adapter, carried: Adapter, form: str
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return what travels of ``delta`` and ``carried``, and what it leaves over.

    Error feedback (Seide et al. 2014; Karimireddy et al. 2019, algorithm 1): what one
    round's packing leaves out is carried to the next, so that nothing is lost for good.

    Guarantee: both are a function of the two changes and the form alone.

    Args:
        delta: The change of this round.
        carried: What the rounds before left over; empty for nothing.
        form: One of ``WIRES``.

    Raises:
        ModelError: If the form cannot hold a value.
    """
    whole = add(delta, carried) if carried else dict(delta)
    shapes = {name: array.shape for name, array in whole.items()}
    sent = unpack(pack(whole, form), shapes)
    return sent, subtract(whole, sent)


def _joined(parts: Iterable[npt.NDArray[np.generic]], kind: type[np.generic]) -> Values:
    whole = np.concatenate([np.zeros(0, kind), *parts])
    joined: Values = whole.astype(kind, copy=False)
    return joined


def _halves(values: Values) -> Values:
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        largest = np.finfo(np.float16).max
        raise ModelError(f"a value is over {largest:.0f}, the largest of float16")
    return halves


def _scale(part: Array) -> float:
    """Return what one level is worth, with ``DIGITS`` binary digits at most."""
    largest = float(np.abs(part).max(initial=0.0))
    if largest < LEAST:
        return 0.0
    share, exponent = math.frexp(largest / LEVELS)
    scale = math.ldexp(math.ceil(math.ldexp(share, DIGITS)), exponent - DIGITS)
    if scale * LEVELS > float(np.finfo(np.float32).max):
        raise ModelError("a value is too large to travel as int8")
    return scale


def _levels(part: Array, scale: float) -> npt.NDArray[np.int8]:
    """Return the nearest level of each value; halves go to the even one."""
    if scale == 0:
        return np.zeros(part.shape, np.int8)
    return np.rint(part.astype(np.float64) / scale).astype(np.int8)
