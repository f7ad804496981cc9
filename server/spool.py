"""The updates of one round on disk, one row of float32 each.

It refuses to hold them in memory: what is read is a block of columns of bounded size,
so a server's memory does not grow with the sites times the adapter. The file has no
name; it is gone with the round, or with the process if that is killed.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.adapter import norm
from shared.protocol import Adapter, Array

BLOCK = 1 << 22  # values that are read at once: 16 MiB
WIDTH = 4  # bytes of a value

Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """Where an update lies, and what is known of it without reading it.

    Attributes:
        site: Whose it is.
        place: Number of the row in its spool, from 0.
        norm: Joint L2 norm.
    """

    site: str
    place: int
    norm: float


class Spool:
    """Rows of values: the tensors of an update in the order of their names.

    Args:
        folder: On the disk that has room for all updates of a round.
        shapes: Tensor name -> shape, the same in every update.
        block: Most values that are read at once.
    """

    def __init__(
        self, folder: Path, shapes: Mapping[str, tuple[int, ...]], block: int = BLOCK
    ) -> None:
        self._shapes = dict(sorted(shapes.items()))
        self._values = sum(map(math.prod, shapes.values()))
        self._block = block
        self._rows = 0
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  # see close

    def close(self) -> None:
        """Give the disk its room back."""
        self._file.close()

    def append(self, site: str, delta: Adapter) -> Row:
        """Write an update of exactly the agreed shapes and return where it lies."""
        row = Row(site, self._rows, norm(delta))
        flat = np.concatenate([delta[name].ravel() for name in self._shapes])
        left = flat.astype(np.float32, copy=False).data.cast("B")
        self._file.seek(row.place * self._values * WIDTH)
        while left:
            left = left[self._file.write(left) :]
        self._rows += 1
        return row

    def blocks(self, rows: Sequence[Row]) -> Iterator[Array]:
        """Yield the values of ``rows`` from the first column to the last.

        Yields:
            Arrays of shape [rows, columns] that are of nearly the same size.
        """
        for start, end in self._edges(len(rows), self._block):
            yield self._read(rows, start, end)

    def wide_blocks(self, rows: Sequence[Row]) -> Iterator[Wide]:
        """Yield the same as float64, in smaller blocks: sums need several of a size."""
        for start, end in self._edges(len(rows), self._block // 4):
            yield self._read(rows, start, end).astype(np.float64)

    def products(self, rows: Sequence[Row]) -> Wide:
        """Return the inner product of each two updates, [rows, rows]."""
        total = np.zeros((len(rows), len(rows)))
        for block in self.wide_blocks(rows):
            total += block @ block.T
        return total

    def tensors(self, flat: Array) -> dict[str, Array]:
        """Return one row's values by name, each tensor in its shape."""
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        return {
            name: part.reshape(shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

    def _edges(self, rows: int, block: int) -> Iterator[tuple[int, int]]:
        """Yield first and last column of each block, all of nearly the same width."""
        width = max(1, block // max(1, rows))
        parts = math.ceil(self._values / width)
        yield from pairwise(self._values * i // parts for i in range(parts + 1))

    def _read(self, rows: Sequence[Row], start: int, end: int) -> Array:
        block = np.empty((len(rows), end - start), np.float32)
        for row, values in zip(rows, block, strict=True):
            left = values.data.cast("B")
            self._file.seek((row.place * self._values + start) * WIDTH)
            while left:
                got = self._file.readinto(left)
                if not got:
                    raise OSError("the updates of the round end too early")
                left = left[got:]
        return block
