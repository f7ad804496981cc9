"""What groups of people like, released with noise, for users who have done little yet.

A group is everybody who declared the same value of an attribute, such as an age band.
What its members like is counted by topic, one vote a user, and read only from the
release that ``tacit site tune`` charged to the ledger; without one there is no bonus.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from client.serving.model import Ints
from client.serving.taste import HALF_WAY
from client.serving.topics import Topics
from shared.protocol import Array

Floats = npt.NDArray[np.float64]

BUCKETS = 256  # of an attribute: values are hashed, so that no list of them leaks
SPREAD = 0.15  # how far a group's share of a topic is taken to be from everybody's
LARGEST = 1.0  # bonus of one attribute, up or down


def cells(topics: Topics, groups: Sequence[str]) -> int:
    """Return how many numbers a release of these groups holds."""
    return len(topics) * (1 + BUCKETS * len(groups))


def group_votes(
    about: Mapping[str, str], liked: Ints, topics: Topics, groups: Sequence[str]
) -> Array:
    """Return one user's vote, [cells]: how their likes spread over the topics.

    It stands once in the row of everybody and once in that of each group the user
    belongs to. Which cells there are depends on public values alone.

    Guarantee: its L2 norm is at most 1, whatever the user did or declared.

    Args:
        about: What the user declared.
        liked: Places of the items that the user likes; repeats count once.
        topics: Of the catalogue.
        groups: Attributes of users that groups are made by.
    """
    votes = np.zeros((1 + BUCKETS * len(groups), len(topics)), np.float64)
    spread = np.bincount(topics.of_item[np.unique(liked)], minlength=len(topics))
    length = np.linalg.norm(spread) * np.sqrt(1 + len(groups))
    if length:
        rows = [0, *(row for row in _rows(about, groups) if row)]
        votes[rows] = spread / length
    flat: Array = votes.ravel().astype(np.float32)
    return flat / np.float32(max(1.0, float(np.linalg.norm(flat))))


def group_bonus(
    released: Array,
    sigma: float,
    about: Mapping[str, str],
    topics: Topics,
    groups: Sequence[str],
    likes: float = 0.0,
) -> Array:
    """Return what a user's groups add to the score of every item, [n].

    For each group it is the log of the topic's share there over its share among
    everybody. The difference counts by its posterior mean under a normal prior of
    standard deviation ``SPREAD``, against noise and chance; little is left of a small
    group. It fades with the user's own likes as text gives way to CF.

    Args:
        released: Sum of votes plus noise, [cells].
        sigma: Standard deviation of the noise in each cell.
        about: What the user declared.
        topics: Those that were voted on.
        groups: As they were when that was released.
        likes: How much the user has liked so far.
    """
    rows = released.reshape(-1, len(topics)).astype(np.float64)
    everybody = np.maximum(rows[0], sigma + 1e-9)
    usual = everybody / everybody.sum()
    bonus = np.zeros(len(topics))
    for row in _rows(about, groups):
        if row:
            # no vote's entry is above this, nor then a sum's variance over its mean
            largest = 1 / np.sqrt(1 + len(groups))
            bonus += _log_lift(rows[row], usual, sigma, largest)
    fade = HALF_WAY / (HALF_WAY + likes)
    return (fade * bonus)[topics.of_item].astype(np.float32)


def _rows(about: Mapping[str, str], groups: Sequence[str]) -> list[int]:
    """Return the row of each group, 0 where the user declared nothing."""
    return [
        1 + number * BUCKETS + _bucket(name, about[name]) if about.get(name) else 0
        for number, name in enumerate(groups)
    ]


def _bucket(name: str, value: str) -> int:
    said = f"{name}\0{value}".encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:4], "big") % BUCKETS


def _log_lift(group: Floats, usual: Floats, sigma: float, largest: float) -> Floats:
    """Return the log lift of each topic in a group, shrunk and bounded."""
    expected = group.sum() * usual
    if group.sum() <= 2 * sigma * np.sqrt(len(group)):  # its size is itself noise
        return np.zeros(len(group))
    apart = group / expected - 1
    chance = (sigma**2 + largest * expected) / expected**2
    kept = SPREAD**2 / (SPREAD**2 + chance)
    lift: Floats = np.log(np.maximum(1 + kept * apart, 1e-6))
    return np.clip(lift, -LARGEST, LARGEST)
