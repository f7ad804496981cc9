"""How a site's recommendations fare: exact figures, for its own operator alone.

They stay at this site. Nothing that is served reads them; what is copied from here is
covered by no guarantee.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import polars as pl

from client.forgotten import forgotten_at
from client.serving.added_items import NewItem, beside
from client.serving.build import FROZEN, Built, build, chosen
from client.serving.feedback.arms import NAMES
from client.serving.feedback.exposure import Exposure, added_items, declared, exposure
from client.serving.feedback.findings import (
    Change,
    Duel,
    Group,
    Provider,
    Report,
    Slice,
)
from client.serving.feedback.intervals import (
    Estimate,
    Floats,
    difference,
    ratio,
    wilson,
)
from client.serving.feedback.log import newest_event, opened
from client.serving.feedback.segments import SEGMENTS
from client.serving.feedback.votes import Compared, compared
from client.serving.model import Ints, Served
from client.serving.settings import ServingSettings, read_settings
from client.site import Site
from shared.errors import DataError

LABEL = "These figures are exact and stay at this site."
RATIOS = {  # figure -> what is summed over users, and by what it is divided
    "ctr": ("chosen", "shown"),
    "conversion": ("converted", "lists"),
    "diversity": ("distance", "spread"),
    "novelty": ("surprise", "known"),
    "popular": ("top", "known"),
}
FEWEST = 20  # users on each side, before anybody is warned
MOST_PROVIDERS = 20


def report(site: Site, since: datetime | None, now: datetime) -> Report:
    """Return how the site's recommendations fare.

    Args:
        site: Whose.
        since: From when on; None for from the beginning.
        now: The time.

    Raises:
        StoreFailed: If the site has served nobody, or its store cannot be read.
        DataError: If nothing was shown since then.
        InputError: If data, release or encoder cannot be used.
    """
    settings, gone = read_settings(site.folder), forgotten_at(site.folder)
    built, begin = build(site, chosen(site)), int(since.timestamp()) if since else 0
    with opened(site.folder) as db:
        model = _with_added(built, added_items(db))
        shown = exposure(db, gone, model, built.data, begin)
        about = declared(db, built.data, settings.groups)
        fought = compared(db, 0, newest_event(db), begin)
    if shown.lists.is_empty():
        raise DataError(f"no list was shown at {site.settings.name} in this time")
    changes = _changes(shown)
    return Report(
        label=LABEL,
        site=site.settings.name,
        since=_iso(begin if since else int(shown.lists["time"][0])),
        until=now.isoformat(timespec="seconds"),
        whole=_slice("all", shown, model),
        days=_slices(shown, "day", sorted(set(shown.lists["day"])), model),
        releases=_slices(shown, "release", _releases(shown), model),
        changes=changes,
        segments=_slices(shown, "segment", SEGMENTS, model),
        groups=_groups(shown, about, model),
        providers=_providers(shown, model, settings),
        duels=_duels({u: lists for u, lists in fought.items() if u not in gone}),
        warnings=_warnings(shown, changes, site.folder),
    )


def _slices(
    shown: Exposure, column: str, names: Sequence[str], model: Served
) -> tuple[Slice, ...]:
    """Return figures for each value of a column that any list has."""
    there = {*shown.lists[column]}
    return tuple(
        _slice(name, shown.where(pl.col(column) == name), model)
        for name in names
        if name in there
    )


def _slice(name: str, shown: Exposure, model: Served) -> Slice:
    """Return all figures of what was shown."""
    found = {figure: ratio(_sums(shown.lists, figure)) for figure in RATIOS}
    return Slice(
        name=name,
        users=shown.lists["unit"].n_unique(),
        lists=len(shown.lists),
        **found,
        coverage=shown.places["place"].n_unique() / len(model),
    )


def _sums(lists: pl.DataFrame, figure: str) -> Floats:
    """Return numerator and denominator of a figure for each user, [users, 2]."""
    sums = lists.group_by("unit", maintain_order=True).agg(
        pl.col(column).sum().cast(pl.Float64) for column in RATIOS[figure]
    )
    return sums.drop("unit").to_numpy()


def _apart(lists: pl.DataFrame, second: pl.Expr, figure: str) -> Estimate | None:
    """Return by how much a figure is higher in some lists than in the others."""
    above, below = RATIOS[figure]
    sums = (
        lists.group_by("unit", maintain_order=True)
        .agg(
            pl.col(column).filter(side).sum().cast(pl.Float64).alias(f"{n}")
            for n, (column, side) in enumerate(
                [(above, ~second), (below, ~second), (above, second), (below, second)]
            )
        )
        .drop("unit")
        .to_numpy()
    )
    return difference(sums[:, :2], sums[:, 2:])


def _releases(shown: Exposure) -> list[str]:
    """Return the releases in the order in which they were first served."""
    return list(dict.fromkeys(shown.lists["release"]))


def _changes(shown: Exposure) -> tuple[Change, ...]:
    """Return how CTR and conversion changed with each release."""
    names, made = _releases(shown), []
    for before, after in pairwise(names):
        both = shown.lists.filter(pl.col("release").is_in([before, after]))
        newer = pl.col("release") == after
        made.append(
            Change(
                before=before,
                after=after,
                ctr=_apart(both, newer, "ctr"),
                conversion=_apart(both, newer, "conversion"),
            )
        )
    return tuple(made)


def _warnings(
    shown: Exposure, changes: Sequence[Change], folder: Path
) -> tuple[str, ...]:
    """Return what the operator should look at now: the release that is served."""
    served = shown.lists["release"][-1]
    users = dict(shown.lists.group_by("release").agg(pl.col("unit").n_unique()).rows())
    told = []
    for change in changes:
        enough = min(users[change.before], users[change.after]) >= FEWEST
        for name, found in (("CTR", change.ctr), ("conversion", change.conversion)):
            worse = found is not None and found.high < 0
            if found and worse and enough and change.after == served:
                between = f"{found.low:+.4f} to {found.high:+.4f}"
                told.append(
                    f"{change.after} does worse than {change.before}: {name} changed "
                    f"by {found.value:+.4f} (95 %: {between})"
                    f"{_way_back(change.before, folder)}"
                )
    return tuple(told)


def _way_back(release: str, folder: Path) -> str:
    """Return the command; to what was served before any release there is none."""
    back = f"tacit site rollback {release} {folder}"
    return "" if release == FROZEN else f"; to go back: {back}"


def _groups(shown: Exposure, about: pl.DataFrame, model: Served) -> tuple[Group, ...]:
    """Return figures of each group, the largest first, and its distance from others."""
    made = []
    for attribute in dict.fromkeys(about["attribute"].sort()):
        members = about.filter(pl.col("attribute") == attribute)
        for value in sorted(set(members["value"])):
            of_group = members.filter(pl.col("value") == value)["unit"]
            inside = pl.col("unit").is_in(of_group.implode())
            part = shown.where(inside)
            if not part.lists.is_empty():
                figures = _slice(value, part, model)
                gap = _apart(shown.lists, inside, "ctr")
                made.append(Group(attribute=attribute, figures=figures, gap=gap))
    return tuple(made)


def _providers(
    shown: Exposure, model: Served, settings: ServingSettings
) -> tuple[Provider, ...]:
    """Return the exposure of the providers that were shown most."""
    offered = model.attributes.get(settings.provider, {})
    units = shown.lists.select("list", "unit")
    placed = shown.places.join(units, on="list").select("unit", "place")
    counts = Counter(placed["place"].to_list())
    seen = {
        name: sum(counts[place] for place in places.tolist())
        for name, places in offered.items()
    }
    most = sorted(seen, key=lambda name: (-seen[name], name))[:MOST_PROVIDERS]
    return tuple(_provider(name, offered[name], placed, len(model)) for name in most)


def _provider(name: str, places: Ints, placed: pl.DataFrame, items: int) -> Provider:
    ours = pl.col("place").is_in(pl.Series(places).implode())
    sums = placed.group_by("unit", maintain_order=True).agg(
        ours.sum().cast(pl.Float64).alias("ours"), pl.len().cast(pl.Float64)
    )
    shown = ratio(sums.drop("unit").to_numpy())
    return Provider(name=name, shown=shown, catalogue=len(places) / items)


def _duels(fought: Mapping[str, Mapping[str, Compared]]) -> tuple[Duel, ...]:
    """Return who won in each segment, one user one voice."""
    ahead: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for user, lists in fought.items():
        for one in lists.values():
            first, second = sorted(one.arms, key=NAMES.index)
            winner = one.winner()
            won = 0 if winner is None else 1 if one.arms[winner] == first else -1
            ahead[one.segment, first, second][user] += won
    order = sorted(ahead, key=lambda k: (SEGMENTS.index(k[0]), NAMES.index(k[1]), k[2]))
    return tuple(_duel(*key, [*ahead[key].values()]) for key in order)


def _duel(segment: str, first: str, second: str, leads: Sequence[int]) -> Duel:
    won, lost = sum(lead > 0 for lead in leads), sum(lead < 0 for lead in leads)
    return Duel(
        segment=segment,
        first=first,
        second=second,
        won=won,
        lost=lost,
        tied=len(leads) - won - lost,
        share=wilson(won, won + lost) if won + lost else None,
    )


def _with_added(built: Built, items: list[NewItem]) -> Served:
    """Return what is served, with the items that were put over the API."""
    added = beside(items, built.served.catalogue)
    if not len(added):
        return built.served
    vectors = built.vectors(added.texts)
    return built.served.with_items(added, vectors)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
