"""The histories that a site's data give, held as few arrays however many users."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.data import SiteData, UserHistory
from client.serving.events import Event
from client.serving.model import Ints, Mask, Served


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Histories:
    """Who did what, as the site's data have it.

    Args:
        users: Their ids, in order.
        starts: Where each one's events begin, int64 [users + 1].
        items: Positions in the data's own catalogue, int32 [events].
        times: Epoch seconds, int64 [events]; of one user, ascending.
        likes: Which events are likes, [events].
        item_ids: The data's catalogue.
    """

    users: tuple[str, ...]
    starts: Ints
    items: npt.NDArray[np.int32]
    times: Ints
    likes: Mask
    item_ids: tuple[str, ...]

    def __repr__(self) -> str:
        return "Histories(not shown)"

    def __contains__(self, user: str) -> bool:
        mine = self._mine(user)
        return bool(mine.stop > mine.start)

    def above(self, user: str, limit: int) -> tuple[str, ...]:
        """Return up to so many ids above ``user``, in their order."""
        begin = bisect_right(self.users, user)
        return self.users[begin : begin + limit]

    def places(self, model: Served) -> Ints:
        """Return where the model has each item of the data, or -1, [items]."""
        if model.catalogue.ids[: len(self.item_ids)] == self.item_ids:
            return np.arange(len(self.item_ids))
        found = {item: place for place, item in enumerate(model.catalogue.ids)}
        return np.array([found.get(item, -1) for item in self.item_ids], np.int64)

    def of(self, user: str, places: Ints) -> UserHistory:
        """Return what the data have of a user, by places of a model; oldest first.

        Args:
            user: Whose; of somebody unknown it is empty.
            places: Of the model; items that it does not have are left out.
        """
        mine = self._mine(user)
        items = places[self.items[mine]]
        there = items >= 0
        return UserHistory(
            user=user,
            items=items[there],
            times=self.times[mine][there],
            likes=self.likes[mine][there],
        )

    def events_of(self, user: str) -> list[Event]:
        """Return what the data have of a user as events without ids, newest first."""
        mine = self._mine(user)
        rows = zip(
            self.items[mine][::-1].tolist(),
            self.times[mine][::-1].tolist(),
            self.likes[mine][::-1].tolist(),
            strict=True,
        )
        return [
            Event(
                id="",
                user=user,
                kind="like" if like else "rate",
                item=self.item_ids[item],
                time=time,
            )
            for item, time, like in rows
        ]

    def _mine(self, user: str) -> slice:
        """Return where a user's events lie."""
        row = bisect_left(self.users, user)
        if row == len(self.users) or self.users[row] != user:
            return slice(0, 0)
        return slice(*self.starts[row : row + 2].tolist())


def histories_of(data: SiteData) -> Histories:
    """Return the histories of a site's data, ordered by user."""
    ordered = sorted(data.histories, key=lambda history: history.user)
    none = UserHistory(
        user="",
        items=np.zeros(0, np.int64),
        times=np.zeros(0, np.int64),
        likes=np.zeros(0, np.bool_),
    )
    counts = [len(history) for history in ordered]
    return Histories(
        users=tuple(history.user for history in ordered),
        starts=np.cumsum([0, *counts], dtype=np.int64),
        items=np.concatenate([none.items, *(one.items for one in ordered)]).astype(
            np.int32
        ),
        times=np.concatenate([none.times, *(one.times for one in ordered)]),
        likes=np.concatenate([none.likes, *(one.likes for one in ordered)]),
        item_ids=data.catalogue.ids,
    )
