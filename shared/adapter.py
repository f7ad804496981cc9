"""Arithmetic on adapters: LoRA tensors by name, as float32 arrays.

Refuses nothing by itself; ``check`` is what a receiver calls before it believes one.
"""

import hashlib
import json
import math
from collections.abc import Mapping

import numpy as np

from shared.errors import ModelError
from shared.protocol import Adapter, Array

_ROUNDING = 1 - 2.0**-22  # covers the last bit that float32 may round upwards


def norm(delta: Adapter) -> float:
    """Return the joint L2 norm over all tensors, summed in float64."""
    squares = (np.square(array, dtype=np.float64).sum() for array in delta.values())
    return math.sqrt(math.fsum(squares))


def clip(delta: Adapter, max_norm: float) -> dict[str, Array]:
    """Scale ``delta`` so that its joint norm is at most ``max_norm``.

    Guarantee: a clipped update is never longer than ``max_norm``, and a short one is
    returned unchanged. This is robustness, not differential privacy.

    Args:
        delta: Finite tensors.
        max_norm: Above zero.
    """
    length = norm(delta)
    if length <= max_norm:
        return dict(delta)
    scale = max_norm / length * _ROUNDING
    return {
        name: (array.astype(np.float64) * scale).astype(np.float32)
        for name, array in delta.items()
    }


def add(adapter: Adapter, delta: Adapter) -> dict[str, Array]:
    """Return ``adapter + delta``; both hold the same names and shapes."""
    return {name: array + delta[name] for name, array in adapter.items()}


def subtract(after: Adapter, before: Adapter) -> dict[str, Array]:
    """Return ``after - before``; both hold the same names and shapes."""
    return {name: array - before[name] for name, array in after.items()}


def digest(adapter: Adapter) -> str:
    """Return the SHA-256 over sorted names, shapes and little-endian float32 values."""
    summary = hashlib.sha256()
    for name, array in sorted(adapter.items()):
        summary.update(json.dumps([name, array.shape]).encode() + b"\n")
        summary.update(array.astype("<f4").tobytes())
    return summary.hexdigest()


def check(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Demand exactly the agreed names and shapes, float32, and finite values.

    Raises:
        ModelError: With one line for each tensor that does not fit.
    """
    faults = [f"{name}: missing" for name in sorted(shapes.keys() - adapter.keys())]
    faults += [f"{name}: not agreed" for name in sorted(adapter.keys() - shapes.keys())]
    for name in sorted(adapter.keys() & shapes.keys()):
        faults += _faults(name, adapter[name], shapes[name])
    if faults:
        raise ModelError("\n  ".join(["adapter does not fit:", *faults]))


def _faults(name: str, array: Array, shape: tuple[int, ...]) -> list[str]:
    """Return what is wrong with one tensor; never its values."""
    if array.shape != shape:
        return [f"{name}: shape {array.shape}, expected {shape}"]
    if array.dtype != np.float32:
        return [f"{name}: {array.dtype}, expected float32"]
    bad = array.size - int(np.isfinite(array).sum())
    return [f"{name}: {bad} of {array.size} values are not finite"] if bad else []
