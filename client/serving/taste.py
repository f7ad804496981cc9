"""What one user's own history says of their taste, as two vectors and a weight.

It sees that one user's history and public values, and never anybody else's.
"""

from dataclasses import dataclass, field

import numpy as np

from client.examples import recency_weights
from client.serving.model import Ints, Served
from shared.protocol import Array

HALF_WAY = 5.0  # likes at which the default alpha is half-way; as in client/model.py
HALF_TRUST = 3.0  # squared likes at which a history counts half; as in client/model.py
# What speaks against weighs this much beside 1 for what speaks for: Rocchio's usual
# 0.15 to 0.75 (Manning et al. 2008, Introduction to Information Retrieval, eq. 9.3).
AGAINST = np.float32(0.2)


def _no_places() -> Ints:
    return np.zeros(0, np.int64)


def _no_strengths() -> Array:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Past:
    """What one user did, by places in the served catalogue; each place once in each.

    Attributes:
        items: What says something for their taste, newest first.
        strengths: How much each of ``items`` says, float32; a plain like is 1.
        seen: Places of all that they have met.
        against: Skipped or disliked places, newest first.
        hidden: Places that must not come back, whatever is asked.
    """

    items: Ints = field(default_factory=_no_places)
    strengths: Array = field(default_factory=_no_strengths)
    seen: Ints = field(default_factory=_no_places)
    against: Ints = field(default_factory=_no_places)
    hidden: Ints = field(default_factory=_no_places)

    def __repr__(self) -> str:
        return "Past(not shown)"


NOBODY = Past()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Taste:
    """One user as the model sees them.

    Attributes:
        text: Where their texts point, [width]: of length 1; ``AGAINST`` long if all
            that is known speaks against; zeros if nothing is known.
        likes: Mean factors of what they liked, then 1 for the bias, [f + 1].
        alpha: Weight of text against CF.
    """

    text: Array
    likes: Array
    alpha: float

    def __repr__(self) -> str:
        return "Taste(not shown)"


def taste_of(model: Served, past: Past, alpha: float | None = None) -> Taste:
    """Return the taste that speaks from ``past``.

    With plain likes alone the scores are those of ``HybridModel.score``: an item counts
    by its strength x 1 / rank**recency, among the newest ``shown`` that count at all.

    Args:
        model: What is served.
        past: Of the user.
        alpha: Weight of text against CF; by default it falls from 1 towards the
            recipe's as the strengths add up.
    """
    items, strengths = counted(model, past)
    weights: Array = _weights(model, len(items)) * strengths
    weights /= max(float(weights.sum()), 1e-9)
    against = past.against[: model.recipe.shown]
    likes = np.ones(model.factors.parts[0].shape[1], np.float32)
    likes[:-1] = weights @ model.factors.rows(items)[:, :-1]
    towards: Array = weights @ model.vectors.rows(items)
    if len(against):
        away = _weights(model, len(against)) @ model.vectors.rows(against)
        towards -= AGAINST * (away if len(items) else unit(away))
    text = unit(towards) if len(items) else towards
    liked = float(strengths.sum())
    trust = np.float32(liked**2 / (liked**2 + HALF_TRUST))
    if alpha is None:
        alpha = _default_alpha(liked, model.recipe.alpha)
    return Taste(text * trust if len(items) else text, likes * trust, float(alpha))


def counted(model: Served, past: Past) -> tuple[Ints, Array]:
    """Return the history items that count, newest first, and their strengths."""
    counts = past.strengths > 0
    shown = model.recipe.shown
    return past.items[counts][:shown], past.strengths[counts][:shown]


def unit(vector: Array) -> Array:
    """Return the vector at length 1; zeros stay zeros."""
    length = max(float(np.linalg.norm(vector)), 1e-12)
    scaled: Array = vector / np.float32(length)
    return scaled


def _weights(model: Served, count: int) -> Array:
    return recency_weights(count, count, model.recipe.recency)


def _default_alpha(likes: float, alpha: float) -> float:
    """Return what ``default_alpha`` of client/model.py does, for one number."""
    return alpha + (1 - alpha) * HALF_WAY / (HALF_WAY + likes)
