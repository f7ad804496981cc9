"""A world before some of its users and items came, and its sites once they have.

Nothing that was trained before has seen a newcomer's events, or a new item's text.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from client.data import SiteData, UserHistory
from client.serving.build import Built, build, chosen
from client.serving.model import Ints, Mask, Served
from client.serving.people import cells, group_bonus, group_votes
from client.serving.topics import find_topics
from client.site import open_site
from shared.errors import DataError
from shared.protocol import Array


@dataclass(frozen=True, slots=True)
class Fold:
    """Which users and items come late; by hash, so the same ones at every site."""

    seed: int
    number: int
    of: int

    def holds(self, kind: Literal["user", "item"], name: str) -> bool:
        """Return whether a user or an item is of this fold."""
        drawn = hashlib.sha256(f"{self.seed}:{kind}:{name}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") % self.of == self.number

    def new_items(self, ids: tuple[str, ...]) -> Mask:
        """Return which of these items are of this fold."""
        return np.array([self.holds("item", item) for item in ids], np.bool_)


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Opened:
    """A trained site, with the items that came since.

    Attributes:
        built: What was trained, with the items that were known.
        whole: The same with the new items after them.
        places: Where each item of the site's first catalogue stands in ``whole``.
        popular: Exact popularity in ``whole``; 0 for new items.
        bonuses: User -> what their groups add to the score of every known item.
    """

    built: Built
    whole: Served
    places: Ints
    popular: Array
    bonuses: Mapping[str, Array]


def before(data: SiteData, fold: Fold) -> SiteData:
    """Return a site's data as they were before the fold's users and items came.

    Raises:
        DataError: If nobody would be left.
    """
    new = fold.new_items(data.catalogue.ids)
    places = np.cumsum(~new) - 1
    histories = []
    for history in data.histories:
        left = history.events(~new[history.items])
        if left.likes.any() and not fold.holds("user", history.user):
            histories.append(
                UserHistory(
                    user=left.user,
                    items=places[left.items],
                    times=left.times,
                    likes=left.likes,
                )
            )
    if not histories:
        raise DataError(
            "a site would have no user left before the newcomers came: use fewer sites"
        )
    catalogue = data.catalogue.subset(np.flatnonzero(~new).tolist())
    return SiteData(catalogue, tuple(histories), data.people_of(histories))


def open_doors(
    site: Path,
    release: Path,
    data: SiteData,
    popular: Array,
    sigma: float,
    rng: np.random.Generator,
) -> Opened:
    """Return a site as it serves once everybody and everything is there.

    Args:
        site: Folder of a site that was trained on what was ``before``.
        release: Folder of the adapter that was trained.
        data: Of the site, newcomers included.
        popular: Exact popularity of the items that were trained on.
        sigma: Noise multiplier of the release of what groups like; 0 is exact.
        rng: Of that noise. It serves no real person, so it need not be secret.
    """
    opened = open_site(site)
    built = build(opened, chosen(opened, release))
    known = {item: place for place, item in enumerate(built.served.catalogue.ids)}
    ids = data.catalogue.ids
    added = data.catalogue.subset(
        [place for place, item in enumerate(ids) if item not in known]
    )
    places = known | {item: len(known) + n for n, item in enumerate(added.ids)}
    return Opened(
        built=built,
        whole=built.served.with_items(added, built.vectors(added.texts)),
        places=np.array([places[item] for item in ids]),
        popular=np.append(popular, np.zeros(len(added), np.float32)),
        bonuses=_bonuses(built, data, sigma, rng),
    )


def _bonuses(
    built: Built, data: SiteData, sigma: float, rng: np.random.Generator
) -> dict[str, Array]:
    """Return what the groups of each user add, by the votes of who was there before."""
    topics = find_topics(built.served)
    groups = sorted({name for about in data.people.values() for name in about})
    released = sigma * rng.normal(size=cells(topics, groups))
    for history in built.data.histories:
        about, liked = data.people.get(history.user, {}), history.items[history.likes]
        released += group_votes(about, liked, topics, groups)
    votes = released.astype(np.float32)
    return {
        user: group_bonus(votes, sigma, about, topics, groups)
        for user, about in data.people.items()
    }
