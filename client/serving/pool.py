"""The few items of a large catalogue that can be the best: two lists united.

Text and the rest of a score (CF, prior, what was added) are searched apart, because an
index over both together fails as alpha moves; what either finds is then scored exactly.
Up to ``EXACT`` items there is no index, and every item is scored.
"""

import math
from pathlib import Path

import faiss
import numpy as np

from client.serving.model import Ints, Mask, Served
from shared.durable import replace_file
from shared.errors import ModelError
from shared.protocol import Array

EXACT = 50_000  # items up to which all of them are scored
DEPTH = 1000  # best items that each of the two lists gives
FEW = 4  # so many times the depth, and all that are allowed are scored
BREADTH = 2.5  # share of the lists that are searched, by root of the share wanted
PER_LIST = 64  # vectors of each list that the index is trained on


class Index:
    """Finds the items of a first block of vectors that lie in a direction.

    It holds each vector in 8 bits per number; scores from it are never used.
    """

    def __init__(self, lists: faiss.IndexIVF) -> None:
        self._lists = lists

    def __len__(self) -> int:
        return int(self._lists.ntotal)

    @classmethod
    def of(cls, model: Served) -> "Index | None":
        """Return the index of a large catalogue; None for one that needs none."""
        vectors = model.vectors.parts[0]
        if len(vectors) <= EXACT:
            return None
        count = int(np.sqrt(len(vectors)))
        made = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(vectors.shape[1]),
            vectors.shape[1],
            count,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
        )
        some = np.random.default_rng(0).choice(
            len(vectors), min(len(vectors), PER_LIST * count), replace=False
        )
        made.train(vectors[np.sort(some)])
        made.add(vectors)
        return cls(made)

    @classmethod
    def read(cls, path: Path, model: Served) -> "Index":
        """Read what ``save`` wrote of the same vectors; memory-mapped, so shared.

        Raises:
            ModelError: If the file is no index, or one of other vectors.
        """
        try:
            lists = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError:
            raise ModelError(
                f"{path} is no index: remove it, and serve again"
            ) from None
        found = (lists.ntotal, lists.d)
        if found != model.vectors.parts[0].shape or not isinstance(
            lists, faiss.IndexIVF
        ):
            raise ModelError(
                f"{path} is an index of {found[0]} vectors of width {found[1]}, not of "
                "this release: remove it, and serve again"
            )
        return cls(lists)

    def save(self, path: Path) -> None:
        """Write the index durably."""
        replace_file(path, faiss.serialize_index(self._lists).tobytes())

    def search(self, direction: Array, allowed: Mask, count: int) -> Ints:
        """Return about the ``count`` allowed items that lie farthest in ``direction``.

        Args:
            direction: Of any length, [width].
            allowed: Of the whole catalogue; later blocks than the first are ignored.
            count: How many; fewer come back if few are allowed.
        """
        inside = allowed[: len(self)]
        wanted = min(1.0, count / max(1, int(np.count_nonzero(inside))))
        breadth = min(1.0, BREADTH * wanted**0.5)
        bits = np.packbits(inside, bitorder="little")
        options = faiss.SearchParametersIVF()
        options.sel = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]  # its stub is of C++
        options.nprobe = math.ceil(self._lists.nlist * breadth)
        _, found = self._lists.search(direction[None], count, params=options)
        places: Ints = found[0][found[0] >= 0]
        return places


def pool_of(
    model: Served,
    index: Index,
    direction: Array | None,
    rest: Array,
    allowed: Mask,
    depth: int = DEPTH,
) -> Ints:
    """Return places that hold the best allowed items by text and rest, ascending.

    Guarantee: all of them are allowed; if no more than ``FEW`` x ``depth`` items are,
    it is all of these.

    Args:
        model: What is served.
        index: Of its first block; later ones are searched exactly.
        direction: What the text part is the product with, [width]; None for none.
        rest: All else in the score, [n].
        allowed: Which items may be shown, [n].
        depth: Length of each list.
    """
    if np.count_nonzero(allowed) <= FEW * depth:
        return np.flatnonzero(allowed)
    found = [best_of(rest, allowed, depth)]
    if direction is not None:
        found.append(index.search(direction, allowed, depth))
        found.append(_newest(model, len(index), direction, rest, allowed, depth))
    return np.unique(np.concatenate(found))


def best_of(values: Array, free: Mask, count: int) -> Ints:
    """Return where the ``count`` largest free values stand, largest first."""
    where = np.flatnonzero(free)
    found = values[where]
    if count < len(where):
        kept = np.argpartition(found, len(where) - count)[len(where) - count :]
        where, found = where[kept], found[kept]
    best: Ints = where[np.argsort(-found, kind="stable")]
    return best


def _newest(
    model: Served, begin: int, direction: Array, rest: Array, allowed: Mask, depth: int
) -> Ints:
    """Return the best of the items that the index does not hold, scored exactly."""
    total = rest[begin:].copy()
    done = 0
    for part in model.vectors.parts[1:]:
        total[done : done + len(part)] += part @ direction
        done += len(part)
    return begin + best_of(total, allowed[begin:], depth)
