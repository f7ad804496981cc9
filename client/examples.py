"""One user is one training example, with everything they did (DESIGN D1).

A user's likes are capped, and in each step split at random into history and targets.
Each user draws from a stream of their own: one user's example never depends on another.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.data import UserHistory
from shared.protocol import Recipe

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
KEPT = 64  # most recent likes of a user that can take part, K_max
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
LAST = np.uint64(2**64 - 1)  # sorts behind every shifted number


@dataclass(frozen=True, slots=True)
class UserExample:
    """What a user trains with: a stream number of their own; kept likes, in order."""

    stream: int
    likes: Ints

    def __repr__(self) -> str:
        return "UserExample(...)"


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples of U users in fixed shapes; what is padding has weight zero.

    Attributes:
        items: [U, H + M] catalogue positions: history, then targets.
        history: [U, H] weights of the history, each row summing to 1 (or all 0).
        targets: [U, M] weights of the targets, each row summing to 1 (or all 0).
        coins: [U, m] uniform draws that pick each user's negatives.
    """

    items: Ints
    history: Floats
    targets: Floats
    coins: Floats

    def __len__(self) -> int:
        return len(self.items)


def make_examples(histories: Sequence[UserHistory]) -> list[UserExample]:
    """Return one example per user, in order; a user without likes has an empty one."""
    return [
        UserExample(_stream_of(history.user), history.items[history.likes][-KEPT:])
        for history in histories
    ]


def _stream_of(user: str) -> int:
    """Return a number that names the user's random stream, whoever else is there."""
    return int.from_bytes(hashlib.sha256(user.encode()).digest()[:8], "big")


def draw_batch(
    examples: Sequence[UserExample], recipe: Recipe, step_key: Sequence[int]
) -> Batch:
    """Return the batch of one step.

    Guarantee: the row of a user depends on that user, ``recipe`` and ``step_key``
    alone; adding or removing others leaves it unchanged.

    Args:
        examples: The users who were drawn.
        recipe: Gives H, M and m.
        step_key: Public numbers that name the step, e.g. (seed, site, round, step).
    """
    counts = np.array([len(example.likes) for example in examples], np.int64)
    longest = max(recipe.history + recipe.targets, counts.max(initial=0))
    likes = np.zeros((len(examples), longest), np.int64)
    real = np.arange(longest) < counts[:, None]
    likes[real] = np.concatenate([likes[:0, 0], *(one.likes for one in examples)])
    streams = np.array([example.stream for example in examples], np.uint64)
    numbers = _numbers(streams, step_key, recipe.negatives + longest)
    order = np.where(real, numbers[:, recipe.negatives :] >> 1, LAST).argsort(axis=1)
    shuffled = np.take_along_axis(likes, order, axis=1)
    aimed = np.minimum(np.minimum(recipe.targets, np.maximum(1, counts // 2)), counts)
    past = np.minimum(recipe.history, counts - aimed)
    after = np.minimum(aimed[:, None] + np.arange(recipe.history), longest - 1)
    history, remembered = _padded(np.take_along_axis(shuffled, after, axis=1), past)
    targets, wanted = _padded(shuffled[:, : recipe.targets], aimed)
    coins = (numbers[:, : recipe.negatives] >> 40).astype(np.float32) * 2.0**-24
    return Batch(
        np.concatenate([history, targets], axis=1),
        remembered,
        wanted,
        coins.astype(np.float32),
    )


def _padded(items: Ints, counts: Ints) -> tuple[Ints, Floats]:
    """Keep the first ``counts`` items of each row; return them and equal weights."""
    kept = np.arange(items.shape[1]) < counts[:, None]
    weights = kept / np.maximum(1, counts)[:, None]
    return np.where(kept, items, 0), weights.astype(np.float32)


def _numbers(
    streams: npt.NDArray[np.uint64], step_key: Sequence[int], count: int
) -> npt.NDArray[np.uint64]:
    """Return ``count`` numbers for each stream, [U, count].

    A number depends on its stream, the key and its place in the row alone. SplitMix64
    (Steele et al. 2014, section 3), for all streams at once: it decides the order of
    data, which is public, and protects nobody.
    """
    key = hashlib.sha256(repr(list(step_key)).encode()).digest()[:8]
    begin = _mixed(streams ^ np.uint64(int.from_bytes(key, "big")))
    return _mixed(begin[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return each 64-bit number with its bits mixed, one to one."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def recency_weights(count: int, width: int, power: float) -> Floats:
    """Return weights 1 / rank**power, newest first, summing to 1, padded by zeros."""
    weights = np.zeros(width, np.float32)
    weights[:count] = 1.0 / np.arange(1, count + 1) ** power
    return weights / max(float(weights.sum()), 1e-9)
