"""The popularity that sites share: one more tensor of what is exchanged, or none.

It is no part of the encoder. It stands for one catalogue, by whose digest it is called,
so that only sites whose items stand in the same order can share one.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from shared.protocol import MOST_VALUES, Array

T = TypeVar("T")
PREFIX = "popularity."
DIGEST = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedItems:
    """Which catalogue a popularity stands for, without its items; it is public.

    Attributes:
        digest: First 16 hexadecimal digits of ``order`` of its item ids.
        items: How many they are.
    """

    digest: str
    items: int

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = []
        if not DIGEST.fullmatch(self.digest):
            faults.append(f"digest={self.digest!r} is not 16 hexadecimal digits")
        if not 1 <= self.items <= MOST_VALUES:
            faults.append(f"items={self.items} is not in 1..{MOST_VALUES}")
        return faults

    @property
    def tensor(self) -> str:
        """Name of the one tensor that is exchanged for it."""
        return PREFIX + self.digest

    def flat(self) -> dict[str, Array]:
        """Return that tensor as it is before any site released anything."""
        return {self.tensor: np.zeros(self.items, np.float32)}


def items_of(ids: Sequence[str]) -> SharedItems:
    """Return which catalogue has these item ids, in their order."""
    return SharedItems(digest=order(ids).hex()[:16], items=len(ids))


def order(ids: Sequence[str]) -> bytes:
    """Return the SHA-256 of item ids in their order."""
    return hashlib.sha256("\0".join(ids).encode()).digest()


def shared_part(tensors: Mapping[str, T]) -> dict[str, T]:
    """Return the popularity among exchanged tensors, or their shapes."""
    return {name: of for name, of in tensors.items() if name.startswith(PREFIX)}


def encoder_part(tensors: Mapping[str, T]) -> dict[str, T]:
    """Return what of the exchanged tensors, or their shapes, is the encoder's."""
    return {name: of for name, of in tensors.items() if not name.startswith(PREFIX)}
