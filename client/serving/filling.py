"""Fills a list place by place, from the best scored items first and from all at need.

It takes no item twice, none that may not be shown, and none above a rule's cap; it
stops when nothing is left that may come.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from client.serving.diversity import Spread
from client.serving.explore import Exploration
from client.serving.model import Ints, Mask, Served
from client.serving.pool import best_of
from client.serving.rules import Caps
from client.serving.score import Scores
from client.serving.settings import Rule

HEAD = 200  # best items that a list is first picked from, or 4 k if that is more


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scored:
    """Items with their scores.

    Attributes:
        places: Of the items, ascending; None for the whole catalogue in order.
        scores: Of the same items.
    """

    places: Ints | None
    scores: Scores

    def __repr__(self) -> str:
        return "Scored(not shown)"

    def where(self, places: Ints) -> Ints:
        """Return where the scores of items at ``places`` stand."""
        return places if self.places is None else np.searchsorted(self.places, places)

    def free(self, free: Mask) -> Mask:
        """Return which of the items are ``free``, a mask over the whole catalogue."""
        return free if self.places is None else free[self.places]

    def named(self, where: Ints) -> Ints:
        """Return the places of the items that stand at ``where``."""
        return where if self.places is None else self.places[where]


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """One place of a list: its item, whether by exploration, and with what chance."""

    place: int
    explored: bool
    propensity: float

    def __repr__(self) -> str:
        return "Row(not shown)"


class Filling:
    """A list that is being filled."""

    def __init__(
        self,
        model: Served,
        allowed: Mask,
        scored: Iterator[Scored],
        *,
        rules: Sequence[Rule] = (),
        diversity: float = 0.0,
        explore: float = 0.0,
    ) -> None:
        """Begin an empty list.

        Args:
            model: What is served.
            allowed: Which items may be shown, [n].
            scored: Items to fill it with, then more where those are used up; at least
                one, and fresh items are explored among those of the first.
            rules: Of the site, for their caps.
            diversity: From 0 (by score alone) to 1.
            explore: Chance that a place is given to a fresh item.
        """
        self._free = allowed.copy()
        self._scored, self._wider = next(scored), scored
        self._size, self._all = HEAD, len(model)
        self._head = np.zeros(0, np.int64)
        self._caps = Caps(model, rules)
        self._spread = Spread(model, diversity)
        fresh = self._scored.free(allowed & model.fresh) & (explore > 0)
        where = np.flatnonzero(fresh)
        self._exploration = Exploration(
            self._scored.named(where), self._scored.scores.total[where], explore
        )

    def rows(self, k: int, rng: np.random.Generator) -> list[Row]:
        """Return the list: k places, or fewer if nothing is left for the next."""
        self._size = max(HEAD, 4 * k)
        rows: list[Row] = []
        while len(rows) < k and self._refill():
            rows.append(self._next(rng))
        return rows

    def scores(self, places: Ints) -> Scores:
        """Return the scores of items that are in the list."""
        return self._scored.scores.at(self._scored.where(places))

    def _next(self, rng: np.random.Generator) -> Row:
        best = int(self._head[self._spread.best(self._free[self._head])])
        share = self._exploration.share(self._free)
        explored = bool(share and rng.random() < share)
        taken = self._exploration.drawn(self._free, rng.random()) if explored else best
        chance = share * self._exploration.chance(self._free, taken) if share else 0.0
        self._free[taken] = False
        for full in self._caps.take(taken):
            self._free[full] = False
        self._spread.take(taken)
        return Row(taken, explored, chance + (1 - share) * (taken == best))

    def _refill(self) -> bool:
        """See that the head holds an item that is free; return False if none is left.

        When the first ones are used up, all that were scored follow, then all items.
        """
        while not self._free[self._head].any():
            totals = self._scored.scores.total
            best = best_of(totals, self._scored.free(self._free), self._size)
            if len(best):
                self._head = self._scored.named(best)
                self._spread.over(self._head, totals[best])
                self._size = self._all
                continue
            wider = next(self._wider, None)
            if wider is None:
                return False
            self._scored = wider
        return True
