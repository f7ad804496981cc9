"""What users do, as it comes in: one event, its kinds, and what each says of taste."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "view", "click", "like", "rate", "buy", "skip", "hide", "search", "review"
]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Event:
    """One thing that one user did.

    Attributes:
        id: Of the event, chosen by its sender; the same one of a user counts once.
        user: The site's own identifier.
        kind: What it was.
        item: The item's identifier; empty for a search.
        rating: From 1 to 5, of ``rate`` and perhaps ``review``; else None.
        text: Of a search or a review as it comes in; it is never kept.
        time: Epoch seconds.
        shown: Id of the list of recommendations that it answers; empty for none.
        sentiment: Of a review's text, from -1 to 1; 0 for none.
    """

    id: str
    user: str
    kind: Kind
    item: str = ""
    rating: float | None = None
    text: str = ""
    time: int
    shown: str = ""
    sentiment: float = 0.0

    def __repr__(self) -> str:
        return "Event(not shown)"


STRENGTHS: dict[Kind, float] = {
    "view": 0.25,
    "click": 0.5,
    "like": 1.0,
    "buy": 1.5,
    "skip": 0.0,
    "hide": 0.0,
    "search": 0.0,
}
LIKED = 4.0  # a rating from here on is a like
DISLIKED = -0.3  # the sentiment of a review without a rating that is against its item


def strength(event: Event) -> float:
    """Return how much an event says for its item, from 0; a plain like is 1.

    A rating from ``LIKED`` on counts as a like; a review as its rating, or else as its
    sentiment if that is positive.
    """
    if event.rating is not None:
        return 1.0 if event.rating >= LIKED else 0.0
    if event.kind == "review":
        return max(0.0, event.sentiment)
    return STRENGTHS.get(event.kind, 0.0)


def is_against(event: Event) -> bool:
    """Return whether an event speaks against its item; one faint word does not."""
    if event.rating is not None:
        return event.rating <= LIKED - 2
    return event.kind in {"skip", "hide"} or event.sentiment <= DISLIKED
