"""Divide one population over several sites, evenly or as unlike as in life."""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from client.data import SiteData, UserHistory
from shared.catalogue import Catalogue
from shared.errors import ConfigError, DataError

How = Literal["iid", "size", "taste", "domain"]

SIZE_EXPONENT = 1.0  # site k is as large as (k + 1) ** -1: Zipf
TASTE_CONCENTRATION = 0.5  # Dirichlet; small: each taste lives at few sites
FEWEST_LIKES = 3  # in a domain, to be a user of its site
_USUAL_ATTRIBUTES = ("domain", "genres")

Ints = npt.NDArray[np.int64]


def partition(
    data: SiteData,
    *,
    sites: int,
    how: How,
    rng: np.random.Generator,
    attribute: str | None = None,
) -> list[SiteData]:
    """Divide the users over ``sites`` sites, none of them empty.

    Guarantee: no user is at two sites; only "domain" leaves users out, those without
    three likes in any one domain.

    Args:
        data: The population.
        sites: How many sites to make.
        how: "iid" at random and evenly; "size" at random with sizes by a power law;
            "taste" by the users' usual attribute value, Dirichlet over the sites;
            "domain" gives each site its own part of the catalogue, and the users who
            like most of it.
        rng: Decides who goes where.
        attribute: What taste and domain go by; by default "domain", else "genres", else
            the catalogue's first.
    """
    if how not in get_args(How):
        raise ConfigError(f"{how=} is not one of {', '.join(get_args(How))}")
    if not 1 <= sites <= len(data.histories):
        raise DataError(f"{sites=} for these users; ask for fewer, and at least 1")
    if how == "domain":
        return _by_domain(data, sites, _values(data.catalogue, attribute))
    users = rng.permutation(len(data.histories))
    if how == "iid":
        groups = np.array_split(users, sites)
    elif how == "size":
        groups = np.split(users, np.cumsum(_power_law(len(users), sites))[:-1])
    else:
        tastes = _tastes(data.histories, _values(data.catalogue, attribute))
        groups = _by_taste(users, tastes, sites, rng)
    members = [[data.histories[user] for user in sorted(group)] for group in groups]
    return [
        SiteData(data.catalogue, tuple(users), data.people_of(users))
        for users in members
    ]


def _values(catalogue: Catalogue, attribute: str | None) -> list[str]:
    """Return each item's first value of the attribute, "" where it has none."""
    known = sorted(catalogue.attributes)
    usual = [name for name in (*_USUAL_ATTRIBUTES, *known) if name in known]
    name = attribute or next(iter(usual), "")
    if name not in known:
        raise DataError(
            f"{attribute=} is not an attribute of these items; "
            f"choose one of: {', '.join(known) or '(none there: use iid or size)'}"
        )
    return [values[0] if values else "" for values in catalogue.attributes[name]]


def _power_law(users: int, sites: int) -> Ints:
    """Return sizes that fall with the site's number, each at least 1."""
    weights = np.arange(1, sites + 1) ** -SIZE_EXPONENT
    ends = np.rint(np.cumsum(weights) / weights.sum() * (users - sites))
    sizes: Ints = np.diff(ends.astype(np.int64), prepend=0) + 1
    return sizes


def _tastes(histories: Sequence[UserHistory], values: Sequence[str]) -> list[str]:
    """Return the value that each user likes most often, or meets if they like none."""
    tastes = []
    for history in histories:
        items = history.items[history.likes] if history.likes.any() else history.items
        common = Counter(values[item] for item in items).most_common(1)
        tastes.append(common[0][0] if common else "")
    return tastes


def _by_taste(
    users: Ints, tastes: Sequence[str], sites: int, rng: np.random.Generator
) -> list[Ints]:
    """Deal the users of each taste to the sites in proportions drawn for that taste."""
    groups: list[list[int]] = [[] for _ in range(sites)]
    for taste in sorted(set(tastes)):
        alike = [user for user in users.tolist() if tastes[user] == taste]
        shares = rng.dirichlet(np.full(sites, TASTE_CONCENTRATION))
        for user, site in zip(
            alike, rng.choice(sites, len(alike), p=shares), strict=True
        ):
            groups[site].append(user)
    for group in groups:
        if not group:  # the largest can spare one: there are enough users
            group.append(max(groups, key=len).pop())
    return [np.array(group) for group in groups]


def _by_domain(data: SiteData, sites: int, values: Sequence[str]) -> list[SiteData]:
    """Give each site some values' items, and the users who do most there."""
    domain_of = np.array(_domains(values, sites))
    places = np.zeros(len(values), dtype=np.int64)
    catalogues = []
    for site in range(sites):
        members = np.flatnonzero(domain_of == site)
        places[members] = np.arange(len(members))
        catalogues.append(data.catalogue.subset(members.tolist()))
    homes: list[list[UserHistory]] = [[] for _ in range(sites)]
    for history in data.histories:
        where = domain_of[history.items]
        events = np.bincount(where, minlength=sites)
        likes = np.bincount(where[history.likes], minlength=sites)
        home = int(np.argmax(np.where(likes >= FEWEST_LIKES, events, 0)))
        if likes[home] >= FEWEST_LIKES:
            there = history.events(where == home)
            homes[home].append(
                UserHistory(
                    user=there.user,
                    items=places[there.items],
                    times=there.times,
                    likes=there.likes,
                )
            )
    if not all(homes):
        raise DataError(
            f"{homes.count([])} of {sites} domains would have no user with "
            f"{FEWEST_LIKES} likes; ask for fewer sites or another attribute"
        )
    return [
        SiteData(catalogue, tuple(users), data.people_of(users))
        for catalogue, users in zip(catalogues, homes, strict=True)
    ]


def _domains(values: Sequence[str], sites: int) -> list[int]:
    """Return each item's site: the most frequent value goes to the emptiest site."""
    counts = Counter(values).most_common()
    if len(counts) < sites:
        raise DataError(
            f"{sites=} but the items have {len(counts)} values to divide by; "
            "ask for fewer sites or another attribute"
        )
    items_at = [0] * sites
    site_of = {}
    for value, count in counts:
        site = items_at.index(min(items_at))
        site_of[value] = site
        items_at[site] += count
    return [site_of[value] for value in values]
