"""Activations of public item texts on disk: computed once per text, memory-mapped.

The store grows only. ``tokens.f32`` holds one row of channels per token; ``index.json``
says where each text's rows lie. The index is replaced atomically after the rows are
durable, so a crash leaves an older, whole store. Only catalogue texts belong here:
they are public; behaviour never comes near it.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.protocol import Array

Compute = Callable[[Sequence[str]], Iterator[list[Array]]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Padded activations: ``tokens`` [n, longest, channels], ``mask`` [n, longest]."""

    tokens: Array
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Activations:
    """The stored activations of one catalogue, in its order."""

    tokens: Array  # memory-mapped [all tokens, channels]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def rows(self, items: npt.NDArray[np.int64]) -> Rows:
        """Return the activations of ``items`` [n], padded to the longest of them."""
        lengths = self.lengths[items]
        place = np.arange(int(lengths.max(initial=1)))
        mask = place < lengths[:, None]
        index = self.starts[items][:, None] + np.minimum(place, lengths[:, None] - 1)
        return Rows(self.tokens[index], mask)


class ActivationStore:
    """One growing file of activations for one encoder, cut and tokenizer."""

    def __init__(
        self, folder: Path, key: Sequence[object], channels: int, compute: Compute
    ) -> None:
        name = hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:16]
        self._folder, self._channels, self._compute = folder / name, channels, compute
        self._folder.mkdir(parents=True, exist_ok=True)

    def open(self, texts: Sequence[str]) -> Activations:
        """Return the activations of ``texts``; those not yet stored are computed."""
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        with self._locked():
            index = self._read_index()
            missing = {
                key: text
                for key, text in zip(keys, texts, strict=True)
                if key not in index
            }
            if missing:
                self._append(index, missing)
        total = max((start + length for start, length in index.values()), default=0)
        tokens = np.memmap(
            self._folder / "tokens.f32",
            np.float32,
            mode="r",
            shape=(total, self._channels),
        )
        places = np.array([index[key] for key in keys], np.int64).reshape(-1, 2)
        return Activations(tokens, places[:, 0].copy(), places[:, 1].copy())

    def _append(
        self, index: dict[str, tuple[int, int]], missing: dict[str, str]
    ) -> None:
        """Compute, write and then announce the rows of the missing texts."""
        end = max((start + length for start, length in index.values()), default=0)
        path = self._folder / "tokens.f32"
        path.touch()
        with path.open("r+b") as file:
            file.truncate(end * self._channels * 4)  # rows of a crashed writer
            file.seek(0, os.SEEK_END)
            waiting = iter(missing)
            for batch in self._compute(list(missing.values())):
                for rows in batch:
                    file.write(np.ascontiguousarray(rows, "<f4").tobytes())
                    index[next(waiting)] = (end, len(rows))
                    end += len(rows)
            file.flush()
            os.fsync(file.fileno())
        fresh = self._folder / "index.json.new"
        fresh.write_text(json.dumps(index))
        fresh.replace(self._folder / "index.json")

    def _read_index(self) -> dict[str, tuple[int, int]]:
        """Return text digest -> (first row, number of rows)."""
        path = self._folder / "index.json"
        if not path.exists():
            return {}
        return {
            key: (start, length)
            for key, (start, length) in json.loads(path.read_text()).items()
        }

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time read or grow the store."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
