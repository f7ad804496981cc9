"""Activations of public item texts on disk: computed once per text, memory-mapped.

The store grows only. ``tokens.bin`` holds one row of channels per token; ``index.json``
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

import torch
from torch import Tensor

from shared.protocol import Array

FILE = "tokens.bin"
TOKENS = 2048  # of texts that go through whole layers together
Compute = Callable[[Sequence[str]], Iterator[list[Array]]]


@dataclass(frozen=True, slots=True)
class Rows:
    """Padded activations: ``tokens`` [n, longest, channels], ``mask`` [n, longest]."""

    tokens: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Activations:
    """The stored activations of one catalogue, in its order.

    Attributes:
        tokens: [all tokens of the store, channels], mapped from its file; on another
            device, those of the catalogue alone.
        starts: int64[items], each text's first row.
        lengths: int64[items], how many rows it has.
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: str) -> "Activations":
        """Return the same activations on a device: the texts' own rows, together."""
        if device == "cpu":
            return self
        lengths = self.lengths.to(device)
        tokens = self.tokens[self.places(torch.arange(len(self)))].to(device)
        return Activations(tokens, lengths.cumsum(0) - lengths, lengths)

    def places(self, items: Tensor) -> Tensor:
        """Return the rows of all tokens of ``items`` [n], one after the other."""
        lengths = self.lengths[items]
        ends = lengths.cumsum(0)
        shift = self.starts[items] - (ends - lengths)
        within = torch.arange(int(lengths.sum()), device=lengths.device)
        return within + shift.repeat_interleave(lengths)

    def by_length(self, items: Tensor) -> Iterator[Tensor]:
        """Yield the positions of ``items`` in parts of one length, up to ``TOKENS``.

        So no text is padded, and how it is rounded does not depend on the lengths of
        those that it is read with, which may be another user's.
        """
        order = self.lengths[items].argsort(stable=True)
        counts = torch.bincount(self.lengths[items]).tolist()
        for length, texts in enumerate(torch.split(order, counts)):
            if len(texts):
                yield from torch.split(texts, max(1, TOKENS // length))

    def rows(self, items: Tensor) -> Rows:
        """Return the activations of ``items`` [n], padded to the longest of them."""
        lengths = self.lengths[items].unsqueeze(1)
        longest = int(lengths.max()) if len(items) else 1
        place = torch.arange(longest, device=lengths.device)
        index = self.starts[items].unsqueeze(1) + torch.minimum(place, lengths - 1)
        return Rows(self.tokens[index], place < lengths)


class ActivationStore:
    """One growing file of activations for one encoder, cut and tokenizer."""

    def __init__(
        self,
        folder: Path,
        key: Sequence[object],
        channels: int,
        compute: Compute,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        name = hashlib.sha256(json.dumps(list(key)).encode()).hexdigest()[:16]
        self._folder, self._channels, self._compute = folder / name, channels, compute
        self._dtype = dtype
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
        tokens = torch.from_file(
            str(self._folder / FILE), size=total * self._channels, dtype=self._dtype
        ).view(total, self._channels)
        places = torch.tensor([index[key] for key in keys]).reshape(-1, 2)
        return Activations(tokens, *places.T.contiguous())

    def _append(
        self, index: dict[str, tuple[int, int]], missing: dict[str, str]
    ) -> None:
        """Compute, write and then announce the rows of the missing texts."""
        end = max((start + length for start, length in index.values()), default=0)
        path = self._folder / FILE
        path.touch()
        with path.open("r+b") as file:
            row_bytes = self._channels * self._dtype.itemsize
            file.truncate(end * row_bytes)  # rows of a crashed writer go
            file.seek(0, os.SEEK_END)
            waiting = iter(missing)
            for batch in self._compute(list(missing.values())):
                for rows in batch:
                    stored = torch.from_numpy(rows).to(self._dtype).contiguous()
                    file.write(stored.view(torch.uint8).numpy().tobytes())
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
