"""Leave two out: what to train on, and the two later likes to be predicted.

The protocol of the formal-DP reference on MovieLens 100K: of each user's likes, in the
order of the history, the last is for the test, the last but one for validation. A user
with fewer than three likes has none left to train on and is left out altogether, as in
the reference (there, one user of 943, who likes nothing).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.data import UserHistory

FEWEST_LIKES = 3


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One like to be predicted, and what a model may know when it is.

    Args:
        item: Its position in the catalogue.
        before: The user's events strictly before it, likes or not.
    """

    item: int
    before: UserHistory

    @property
    def seen(self) -> npt.NDArray[np.int64]:
        """Return the items, of any rating, that are not candidates any more."""
        return self.before.items


@dataclass(frozen=True, slots=True)
class UserSplit:
    """One user's two held-out likes."""

    validation: HeldOut
    test: HeldOut

    @property
    def train(self) -> UserHistory:
        """Return what the user's site may train on: events before both."""
        return self.validation.before


@dataclass(frozen=True, slots=True, repr=False)
class Split:
    """Every user who can be evaluated, in the order of the histories."""

    users: tuple[UserSplit, ...]

    @property
    def train(self) -> tuple[UserHistory, ...]:
        """Return the training histories: nothing at or after a validation event."""
        return tuple(user.train for user in self.users)


def leave_two_out(histories: Iterable[UserHistory]) -> Split:
    """Hold out the last two likes of every user with at least three.

    Guarantee: train, validation and test of a user are disjoint and in order.
    """
    users = []
    for history in histories:
        likes = np.flatnonzero(history.likes)
        if len(likes) >= FEWEST_LIKES:
            validation, test = likes[-2:].tolist()
            users.append(
                UserSplit(_hold_out(history, validation), _hold_out(history, test))
            )
    return Split(tuple(users))


def _hold_out(history: UserHistory, place: int) -> HeldOut:
    return HeldOut(int(history.items[place]), history.events(slice(place)))
