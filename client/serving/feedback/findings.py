"""What a report on recommendations holds: plain values, exact, for a site's operator.

Where there is nothing to count a figure is None, and never 0.
"""

from dataclasses import dataclass

from client.serving.feedback.intervals import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Figures of some of the lists; None where there is nothing to count.

    Attributes:
        name: Of the slice.
        users: How many were shown such lists; each list of a visitor is one more.
        lists: How many were shown.
        ctr: Share of the items shown that were then chosen: viewed, clicked or more.
        conversion: Share of lists of which an item was liked, bought or rated well.
        diversity: Mean distance (1 - cosine) between the texts of a list's items.
        novelty: Mean -log2 of the share of users who met an item shown.
        popular: Share of places that went to the tenth of items that most users met.
        coverage: Share of the catalogue that was shown at all.
    """

    name: str
    users: int
    lists: int
    ctr: Estimate | None
    conversion: Estimate | None
    diversity: Estimate | None
    novelty: Estimate | None
    popular: Estimate | None
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Figures of users who declared a value, and how far their CTR is from others'."""

    attribute: str
    figures: Slice
    gap: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """From one release to the next: how much higher CTR and conversion became."""

    before: str
    after: str
    ctr: Estimate | None
    conversion: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider's share of the places shown, and of the catalogue."""

    name: str
    shown: Estimate | None
    catalogue: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """Two levels that lists compared, by users: whom the first won, lost, or neither.

    Attributes:
        segment: Of the users.
        first, second: The levels.
        won, lost, tied: Users.
        share: Of the users who chose, those whom the first won.
    """

    segment: str
    first: str
    second: str
    won: int
    lost: int
    tied: int
    share: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything; ``label`` says what it is."""

    label: str
    site: str
    since: str
    until: str
    whole: Slice
    days: tuple[Slice, ...]
    releases: tuple[Slice, ...]
    changes: tuple[Change, ...]
    segments: tuple[Slice, ...]
    groups: tuple[Group, ...]
    providers: tuple[Provider, ...]
    duels: tuple[Duel, ...]
    warnings: tuple[str, ...]
