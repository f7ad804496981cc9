"""How a site adapts alpha and exploring to what its users chose, segment by segment.

It sees the number of the asking user's own likes, public coins and released tallies; no
count of any other user's doings.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from client.serving.feedback.arms import LEVELS, NAMES, USUAL, Arm, places_of
from client.serving.feedback.segments import SEGMENTS, segment_of
from client.serving.feedback.tallies import Tallies
from client.serving.feedback.thompson import Belief, belief

COMPARED: Final = 0.2  # share of lists that compare two ways to serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How one list is to be made.

    Attributes:
        segment: Of the asking user.
        arm_a: How to rank.
        arm_b: What to interleave it with; None for a list of ``arm_a`` alone.
        team_a, team_b: What ``ShownList.arms`` calls the two; empty if there is but
            one, for its items vote for nothing.
    """

    segment: str
    arm_a: Arm
    arm_b: Arm | None = None
    team_a: str = ""
    team_b: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """Chooses how to serve, from released tallies; None for before the first release.

    Args:
        tallies: What was released so far.
        axes: What may be compared: ``alpha``, ``explore``; none for the usual way only.
    """

    tallies: Tallies | None
    axes: tuple[str, ...] = tuple(LEVELS)
    _beliefs: dict[str, Belief] = field(init=False, default_factory=dict)
    _best: dict[str, Arm] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        for segment in SEGMENTS:
            found = (
                belief(np.zeros((len(NAMES), 2)), 0.0)
                if self.tallies is None
                else belief(self.tallies.of_segment(segment), self.tallies.noise)
            )
            self._beliefs[segment] = found
            self._best[segment] = self._arm(found)

    def choose(self, likes: int, rng: np.random.Generator) -> Choice:
        """Return how to make a list for a user with so many likes.

        Most lists are made in the way that is known to be best; every fifth compares
        two levels of one axis, drawn by Thompson sampling, the rest alike.

        Args:
            likes: Of the asking user alone.
            rng: Public coins.
        """
        segment = segment_of(likes)
        best = self.best(segment)
        if not self.axes or rng.random() >= COMPARED:
            return Choice(segment=segment, arm_a=best)
        axis = self.axes[int(rng.integers(len(self.axes)))]
        two = self._beliefs[segment][places_of(axis)].two(rng)
        a, b = (best.at(axis, LEVELS[axis][level]) for level in two)
        return Choice(
            segment=segment,
            arm_a=a,
            arm_b=b,
            team_a=a.level(axis),
            team_b=b.level(axis),
        )

    def best(self, segment: str) -> Arm:
        """Return the way to serve a segment that the released tallies speak for."""
        return self._best[segment]

    def _arm(self, found: Belief) -> Arm:
        """Return the best level of each axis, as one way to serve."""
        arm = USUAL
        for axis in self.axes:
            levels = LEVELS[axis]
            usual = levels.index(getattr(USUAL, axis))
            arm = arm.at(axis, levels[found[places_of(axis)].best(usual)])
        return arm
