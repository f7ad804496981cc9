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
    rows = [
        _draw(example, recipe, np.random.default_rng([*step_key, example.stream]))
        for example in examples
    ]
    items, history, targets, coins = (
        np.stack(column) for column in zip(*rows, strict=True)
    )
    return Batch(items, history, targets, coins)


def _draw(
    example: UserExample, recipe: Recipe, rng: np.random.Generator
) -> tuple[Ints, Floats, Floats, Floats]:
    """Split one user's likes at random; at least half of them stay history."""
    shuffled = rng.permutation(example.likes)
    aimed = min(recipe.targets, max(1, len(shuffled) // 2))
    targets, history = shuffled[:aimed], shuffled[aimed : aimed + recipe.history]
    return (
        np.concatenate(
            [_padded(history, recipe.history), _padded(targets, recipe.targets)]
        ),
        recency_weights(len(history), recipe.history, 0.0),
        recency_weights(len(targets), recipe.targets, 0.0),
        rng.random(recipe.negatives, np.float32),
    )


def _padded(items: Ints, width: int) -> Ints:
    """Return ``items`` followed by zeros up to ``width``."""
    return np.concatenate([items, np.zeros(width - len(items), np.int64)])


def recency_weights(count: int, width: int, power: float) -> Floats:
    """Return weights 1 / rank**power, newest first, summing to 1, padded by zeros."""
    weights = np.zeros(width, np.float32)
    weights[:count] = 1.0 / np.arange(1, count + 1) ** power
    return weights / max(float(weights.sum()), 1e-9)
