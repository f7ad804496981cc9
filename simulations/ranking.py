"""How one arm ranks one site's held-out events: the only way to be ranked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.metrics import Floats, ranks, sampled_ranks, top_items
from shared.protocol import Array
from simulations.split import HeldOut, Split

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Score = Callable[[Sequence[Ints]], Array]  # histories, newest first -> [users, items]

CUT = 10  # length of a list of recommendations
MOST_USERS = 2048  # scored at a time
MOST_SCORES = 16_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """How one arm ranked the held-out items of one site's users.

    Attributes:
        rank: [users] place of the held-out item, from 1.
        top: [users, 10] recommended items.
        items: Size of the site's catalogue.
        sampled: [users] its place among the user's sampled negatives.
        scores: [events] score of every event since the user's last like: what was met
            and not liked, and the held-out like.
        likes: [events] which of these were liked.
    """

    rank: Ints
    top: Ints
    items: int
    sampled: Ints
    scores: Floats
    likes: Mask


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """What one arm makes of one site.

    Attributes:
        test: Of the test events.
        validation: Of the validation events, where nothing was trained on them.
        curve: Round -> [users] ranks of the validation events by what there was then.
    """

    test: Ranking
    validation: Ranking | None = None
    curve: Mapping[int, Ints] = field(default_factory=dict)


def rank_site(
    score: Score, split: Split, items: int, *, which: str = "test"
) -> Ranking:
    """Rank every user's held-out item among all items they have not met."""
    held = [getattr(user, which) for user in split.users]
    chunk = min(MOST_USERS, max(1, MOST_SCORES // items))
    negatives = split.negatives[:, : None if which == "test" else 0]
    parts = [
        _rank(score, held[first : first + chunk], negatives[first:], items)
        for first in range(0, len(held), chunk)
    ]

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    return Ranking(
        rank=joined("rank"),
        top=joined("top"),
        items=items,
        sampled=joined("sampled"),
        scores=joined("scores"),
        likes=joined("likes"),
    )


def _rank(
    score: Score, held: Sequence[HeldOut], negatives: Ints, items: int
) -> Ranking:
    scores = score([event.likes for event in held])
    seen = [event.seen for event in held]
    targets = np.array([event.item for event in held])
    rated = [event.rated for event in held]
    owner = np.repeat(np.arange(len(held)), [len(likes) for _, likes in rated])
    places = np.concatenate([place for place, _ in rated])
    return Ranking(
        ranks(scores, targets, seen),
        top_items(scores, seen, min(CUT, items)),
        items,
        sampled_ranks(scores, targets, negatives[: len(held)]),
        scores[owner, places].astype(np.float64),
        np.concatenate([likes for _, likes in rated]),
    )


def constant(popular: Array) -> Score:
    """Return scores that are the same for every user."""
    return lambda histories: np.tile(popular, (len(histories), 1))
