"""Cold start, measured: what newcomers are served, against plain popularity.

Users and items are dealt into folds. For each fold a federation of its own is trained
on a world without the fold's users and items; then these come, and are ranked for as
``tacit site serve`` ranks. So everybody and everything is a newcomer once.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table

from client.serving.model import Ints, Mask, Served
from client.serving.rank import Wish, rank
from client.serving.taste import Past
from shared.accounting import noise_for
from shared.metrics import Floats, ndcg
from shared.protocol import Array
from simulations import arms, scores
from simulations.arms import Trained
from simulations.newcomers import Fold, Opened, before, open_doors
from simulations.ranking import CUT
from simulations.resampling import Figure, intervals
from simulations.run import prepare
from simulations.split import HeldOut, Split, UserSplit
from simulations.stage import Stage
from simulations.world import World

FOLDS = 5
GROUP_EPSILON = 1.0  # of the release that the slice of declared attributes rests on
DIVERSE = 0.3

HOW: Mapping[str, str] = {
    "nothing": "a new user of whom nothing is known",
    "nothing, diverse": f"the same, with diversity {DIVERSE:g}",
    "attributes": "a new user who declared what the data have of them, and did nothing "
    f"yet; what their groups like is a release of epsilon {GROUP_EPSILON:g} on top, or "
    "exact where the run is not private",
    "query": "a new user with one request: the values of all attributes of the very "
    "item that is looked for; popularity is not told them",
    "one event": "a new user with one event, the newest like before the looked-for one",
    "new item": "a known user with their history; the item that is looked for came "
    "after training, and stands among all by its text alone",
    "new item, among new": "the same, ranked among the new items alone, of which "
    "popularity knows nothing",
}

Ranks = tuple[int, int]  # of the looked-for item: as served, and by popularity


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """NDCG@10 of one kind of newcomer; mean, low and high (95 % bootstrap over users).

    Attributes:
        name: Of the slice.
        how: Who and what it is made of.
        ndcg: Of what is served.
        popularity: Of exact popularity (NOT PRIVATE) on the same events.
        gain: Of the difference, user by user.
        users: How many, with one held-out event each.
    """

    name: str
    how: str
    ndcg: Mapping[str, float]
    popularity: Mapping[str, float]
    gain: Mapping[str, float]
    users: int


def cold_start(stage: Stage, folds: int = FOLDS) -> tuple[Slice, ...]:
    """Train one federation for each fold, and measure every kind of newcomer.

    A new user's event on a new item is in no slice: it would be in two at once.

    Args:
        stage: Of the run. What is trained lies in ``cold`` below its folder; the sites
            of a fold have budgets of their own, as those of an arm have.
        folds: How many.
    """
    seed = stage.scenario.simulation.seed
    found: dict[str, list[Ranks]] = {name: [] for name in HOW}
    for fold in (Fold(seed, number, folds) for number in range(folds)):
        for opened, split in _opened(stage, fold):
            for name, ranks in _ranked(opened, split, fold):
                found[name].append(ranks)
    rng = np.random.default_rng([seed, 3])
    return tuple(_slice(name, ranks, rng) for name, ranks in found.items() if ranks)


def section(slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """Return the slices as ``report.json`` has them under ``cold``."""
    return [asdict(each) for each in slices]


def table(made: Sequence[Mapping[str, Any]]) -> Table:
    """Return the slices of a report for a person to read."""
    shown = Table(
        title="Newcomers, NDCG@10; 95 % bootstrap over users",
        caption="\n".join(f"{each['name']}: {each['how']}." for each in made),
        caption_justify="left",
    )
    for column in ("newcomer", "served", "popularity", "difference", "users"):
        shown.add_column(column)
    for each in made:
        shown.add_row(
            each["name"],
            *(
                "{mean:.4f} [{low:.4f}, {high:.4f}]".format(**each[figure])
                for figure in ("ndcg", "popularity")
            ),
            "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**each["gain"]),
            str(each["users"]),
        )
    return shown


def _opened(stage: Stage, fold: Fold) -> Iterator[tuple[Opened, Split]]:
    """Yield each site after training without the fold, and all that its users did."""
    asked = stage.scenario.simulation
    known, trained = _train(stage, fold)
    sigma = 0.0
    if not asked.no_dp:
        sigma = noise_for(GROUP_EPSILON, asked.delta, q=1.0, steps=1)
    popular = scores.exact_popularity(known.world)
    for place, site in enumerate(trained):
        opened = open_doors(
            site.folder,
            arms.newest_version(site, known.bench.start),
            stage.world.training[place],
            popular[place],
            sigma,
            np.random.default_rng([asked.seed, 4, fold.number, place]),
        )
        yield opened, stage.world.splits[place]


def _train(stage: Stage, fold: Fold) -> tuple[Stage, list[Trained]]:
    """Train a federation without the fold's users and items; return its stage too."""
    stage = stage.of("federated")
    asked, folder = stage.scenario.simulation, stage.out / "cold" / str(fold.number + 1)
    training = tuple(before(data, fold) for data in stage.world.training)
    world = World(stage.world.names, training, (), stage.world.unseen)
    bench = prepare(folder, stage.scenario, world, stage.crew)
    own = replace(stage, out=folder, world=world, bench=bench)
    trained = arms.train_together(
        own,
        folder,
        private=not asked.no_dp,
        names=world.trains,
        alone=False,
        watch=lambda told: stage.tell("cold", asked.rounds * fold.of, told),
    )
    return own, trained


def _ranked(opened: Opened, split: Split, fold: Fold) -> Iterator[tuple[str, Ranks]]:
    """Yield the slice and the ranks of every event of a newcomer."""
    ids, known = opened.whole.catalogue.ids, opened.built.served
    users: list[UserSplit] = []
    others: list[UserSplit] = []
    for user in split.users:
        new_item = fold.holds("item", ids[opened.places[user.test.item]])
        if fold.holds("user", user.train.user) != new_item:
            (others if new_item else users).append(user)
    requests = _requests(opened, users)
    for user, request in zip(users, requests, strict=True):
        for name, wish in _of_user(opened, user, request).items():
            yield name, _ranks(opened, known, wish, user.test)
    for user in others:
        for name, wish in _of_item(opened, user.test).items():
            yield name, _ranks(opened, opened.whole, wish, user.test)


def _requests(opened: Opened, users: Sequence[UserSplit]) -> list[Array | None]:
    """Return what each user asks for, as the encoder reads it; None for no words."""
    attributes = opened.whole.catalogue.attributes.values()
    words = [
        ", ".join(
            value
            for values in attributes
            for value in values[opened.places[user.test.item]]
        )
        for user in users
    ]
    vectors = opened.built.vectors(words)
    return [
        vector if said else None for vector, said in zip(vectors, words, strict=True)
    ]


def _of_user(opened: Opened, user: UserSplit, request: Array | None) -> dict[str, Wish]:
    """Return what is ranked for a new user, by what is known of them."""
    known = len(opened.built.served)
    allowed = _unseen(opened, user.test)[:known]
    nothing = Wish(allowed=allowed, k=CUT)
    wishes = {
        "nothing": nothing,
        "nothing, diverse": replace(nothing, diversity=DIVERSE),
    }
    likes = _likes(opened, user.test)
    likes = likes[likes < known][:1]
    bonus = opened.bonuses.get(user.train.user)
    if bonus is not None:
        wishes["attributes"] = replace(nothing, adjustment=bonus)
    if request is not None:
        wishes["query"] = replace(nothing, query=request)
    if len(likes):
        wishes["one event"] = replace(nothing, past=_past(likes))
    return wishes


def _of_item(opened: Opened, event: HeldOut) -> dict[str, Wish]:
    """Return what is ranked for a known user, who will choose a new item."""
    allowed = _unseen(opened, event)
    wish = Wish(allowed=allowed, past=_past(_likes(opened, event)), k=CUT)
    fresh = replace(wish, allowed=allowed & opened.whole.fresh)
    return {"new item": wish, "new item, among new": fresh}


def _unseen(opened: Opened, event: HeldOut) -> Mask:
    """Return which items of ``whole`` a user has not met before an event."""
    allowed = np.ones(len(opened.whole), np.bool_)
    allowed[opened.places[event.seen]] = False
    return allowed


def _likes(opened: Opened, event: HeldOut) -> Ints:
    """Return what a user liked before an event, newest first, each item once."""
    likes = opened.places[event.before.items[event.before.likes][::-1]]
    return np.array(list(dict.fromkeys(likes.tolist())), np.int64)


def _past(likes: Ints) -> Past:
    return Past(items=likes, strengths=np.ones(len(likes), np.float32), seen=likes)


def _ranks(opened: Opened, model: Served, wish: Wish, event: HeldOut) -> Ranks:
    """Return where the looked-for item stands; behind every item as popular as it."""
    target = opened.places[event.item]
    top = rank(model, wish, np.random.default_rng(0)).places
    found = np.flatnonzero(top == target)
    popular = opened.popular[: len(model)]
    ahead = np.count_nonzero(popular[wish.allowed] >= popular[target])
    return int(found[0]) + 1 if len(found) else CUT + 1, int(ahead)


def _slice(name: str, ranks: Sequence[Ranks], rng: np.random.Generator) -> Slice:
    served, popular = (ndcg(np.array(each), CUT) for each in zip(*ranks, strict=True))
    return Slice(
        name=name,
        how=HOW[name],
        ndcg=_figure(served, rng),
        popularity=_figure(popular, rng),
        gain=_figure(served - popular, rng),
        users=len(ranks),
    )


def _figure(values: Floats, rng: np.random.Generator) -> Figure:
    return intervals(values[:, None], rng)[0]
