"""The popularity that sites share: one more tensor of what is exchanged, or none.

It is no part of the encoder. It stands for one catalogue, by whose digest it is called,
so that only sites whose items stand in the same order can share one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")
PREFIX = "popularity."


def order(ids: Sequence[str]) -> bytes:
    """Return the SHA-256 of item ids in their order."""
    return hashlib.sha256("\0".join(ids).encode()).digest()


def tensor_of(ids: Sequence[str]) -> str:
    """Return the name of the tensor for a catalogue."""
    return PREFIX + order(ids).hex()[:16]


def shared_part(tensors: Mapping[str, T]) -> dict[str, T]:
    """Return the popularity among exchanged tensors, or their shapes."""
    return {name: of for name, of in tensors.items() if name.startswith(PREFIX)}


def encoder_part(tensors: Mapping[str, T]) -> dict[str, T]:
    """Return what of the exchanged tensors, or their shapes, is the encoder's."""
    return {name: of for name, of in tensors.items() if not name.startswith(PREFIX)}
