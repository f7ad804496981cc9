"""What to train on, and the two later likes of each user that are to be predicted.

Leave two out is the protocol of the formal-DP reference on MovieLens 100K: of each
user's likes, in the order of the history, the last is for the test, the last but one
for validation. Leave one out holds the same two likes out while hyper-parameters are
chosen, and then trains on everything before the test.

A user with fewer than three likes has none left to train on and is left out altogether,
as in the reference (there, one user of 943, who likes nothing).

Where some items are cold, no site trains on any event of them, and the test is the last
like of a cold item that two likes of other items precede; a user without one is tested
on the last like of another item, as usual. Validation is the last like before the test,
of an item that is not cold. What a user did before the test, with cold items too, is
known when it is asked for.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from client.data import UserHistory
from shared.errors import DataError

FEWEST_LIKES = 3

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


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
    def seen(self) -> Ints:
        """Return the items, of any rating, that are not candidates any more."""
        return self.before.items

    @property
    def likes(self) -> Ints:
        """Return what the user liked before, newest first."""
        return self.before.items[self.before.likes][::-1]

    @property
    def rated(self) -> tuple[Ints, Mask]:
        """Return the events since the user's last like, this one too; which are likes.

        All but this one were met and not liked: no arm is trained on them.
        """
        since = int(np.flatnonzero(self.before.likes).max(initial=-1)) + 1
        met = np.append(self.before.items[since:], self.item)
        return met, np.arange(len(met)) == len(met) - 1


@dataclass(frozen=True, slots=True)
class UserSplit:
    """One user's two held-out likes, and what may be trained on.

    Args:
        tuning: What hyper-parameters are fitted on: nothing at or after validation.
        train: What the user's site trains on: nothing at or after the test.
        validation: By which hyper-parameters are chosen.
        test: By which arms are compared.
    """

    tuning: UserHistory
    train: UserHistory
    validation: HeldOut
    test: HeldOut


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Split:
    """Every user who can be evaluated, in the order of the histories.

    Attributes:
        users: Their held-out events.
        negatives: [users, n] items for the sampled ranking of each test event; n is 0
            where none is asked for.
    """

    users: tuple[UserSplit, ...]
    negatives: Ints

    @property
    def train(self) -> tuple[UserHistory, ...]:
        """Return the training histories, one for each user."""
        return tuple(user.train for user in self.users)

    @property
    def validates(self) -> bool:
        """Return whether nothing is trained on validation events."""
        return all(user.train is user.tuning for user in self.users)


def leave_two_out(histories: Iterable[UserHistory], cold: Mask | None = None) -> Split:
    """Hold out the last two likes of every user with at least three.

    Guarantee: train, validation and test of a user are disjoint and in order.

    Args:
        histories: Of the users.
        cold: [items] which items are cold; by default none is.
    """
    users = []
    for history in histories:
        places = _places(history, cold)
        if places:
            validation, test = (_hold_out(history, place) for place in places)
            train = _warm(validation.before, cold)
            users.append(UserSplit(train, train, validation, test))
    return Split(tuple(users), np.zeros((len(users), 0), np.int64))


def leave_one_out(histories: Iterable[UserHistory], cold: Mask | None = None) -> Split:
    """Hold out as ``leave_two_out``, but train on everything before the test.

    Guarantee: train and test of a user are disjoint and in order.
    """
    split = leave_two_out(histories, cold)
    users = tuple(
        replace(user, train=_warm(user.test.before, cold)) for user in split.users
    )
    return replace(split, users=users)


def _places(history: UserHistory, cold: Mask | None) -> tuple[int, int] | None:
    """Return where validation and test stand in a history; None leaves it out."""
    likes = np.flatnonzero(history.likes)
    late = np.zeros(len(likes), bool) if cold is None else cold[history.items[likes]]
    warm = likes[~late]
    if len(warm) < FEWEST_LIKES - 1:
        return None
    fresh = likes[late & (likes > warm[FEWEST_LIKES - 2])]
    if len(fresh):
        test = int(fresh[-1])
    elif len(warm) >= FEWEST_LIKES:
        test = int(warm[-1])
    else:
        return None
    return int(warm[warm < test][-1]), test


def _hold_out(history: UserHistory, place: int) -> HeldOut:
    return HeldOut(int(history.items[place]), history.events(slice(place)))


def _warm(history: UserHistory, cold: Mask | None) -> UserHistory:
    """Return the events that a site may train on."""
    return history if cold is None else history.events(~cold[history.items])


def cold_items(ids: Sequence[str], share: float, seed: int) -> Mask:
    """Return which items are cold: by hash, so the same ones at every site."""

    def drawn(item: str) -> float:
        digest = hashlib.sha256(f"{seed}:cold:{item}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    return np.array([drawn(item) < share for item in ids], np.bool_)


def with_negatives(
    split: Split, items: int, count: int, rng: np.random.Generator
) -> Split:
    """Draw ``count`` items for each test event that the user had not met before it.

    Raises:
        DataError: If a user met so many items that fewer are left.
    """
    drawn = np.zeros((len(split.users), count), np.int64)
    for row, user in enumerate(split.users):
        unmet = np.ones(items, bool)
        unmet[user.test.seen], unmet[user.test.item] = False, False
        others = np.flatnonzero(unmet)
        if len(others) < count:
            raise DataError(
                f"negatives={count} but a user has only {len(others)} of {items} items "
                "left that were not met; ask for fewer"
            )
        drawn[row] = rng.choice(others, count, replace=False)
    return replace(split, negatives=drawn)
