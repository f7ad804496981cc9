"""What the serving store keeps beside events: lists as shown, edits of interests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Team = Literal["", "a", "b"]
State = Literal["pinned", "muted", "forgotten", "none"]


class Edit(NamedTuple):
    """What a user said of an interest, and when (epoch seconds)."""

    state: State
    time: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ShownItem:
    """One place of a list.

    Attributes:
        item: Its identifier.
        team: Which arm gave it, of an interleaved list; else empty.
        explored: Whether it took a place kept for new items.
        propensity: Chance of this item at its place in its own ranking, given those
            before it there; of an interleaved list the draft's coins are no part of it.
    """

    item: str
    team: Team = ""
    explored: bool = False
    propensity: float = 1.0

    def __repr__(self) -> str:
        return "ShownItem(not shown)"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ShownList:
    """A list of recommendations as one user was shown it; it never leaves the site.

    Attributes:
        id: Of the list; events name it in ``shown``.
        time: Epoch seconds.
        user: Empty for an anonymous visitor.
        release: What it was made with.
        segment: Of the user, such as ``few``.
        alpha: The weight of text that was used.
        explore: The share of places that was kept for new items.
        arms: Names of the two that were interleaved, of team a and of team b; empty
            where the list is of one ranking.
        items: In the order shown.
    """

    id: str
    time: int
    user: str
    release: str
    segment: str
    alpha: float
    explore: float
    arms: tuple[str, ...] = ()
    items: Sequence[ShownItem]

    def __repr__(self) -> str:
        return "ShownList(not shown)"
