"""What all arms come to, by the same figures for the same users and events.

Everything here is exact: a simulation owns its data and may show it, labelled so.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from shared.metrics import (
    Floats,
    coverage,
    decisions,
    diversity,
    gini,
    hit,
    mrr,
    ndcg,
    novelty,
    rating_errors,
)
from shared.protocol import Array
from simulations.ranking import CUT, Ints, Mask, Ranking
from simulations.resampling import (
    Figure,
    Shown,
    exposure_intervals,
    intervals,
    significance,
)

CUTS = (5, 10, 20)
NEW_USER = 5  # most events of a new user
BY_RANK: Mapping[str, Callable[[Ints, int], Floats]] = {
    "ndcg": ndcg,
    "hr": hit,
    "mrr": mrr,
}
BOTH = ("ndcg@10", "hr@10")
UNSEEN = "unseen-sites"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Facts:
    """What is known of one site's users and items, whichever arm ranks.

    Attributes:
        events: [users] how many events each had before the test event.
        fresh: [users] whether no site trained on any event of the test item.
        likers: [items] how many of the users that were trained on like each item.
        users: How many users were trained on, all sites together.
        vectors: [items, width] frozen text vectors of length 1.
    """

    events: Ints
    fresh: Mask
    likers: Ints
    users: int
    vectors: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What one arm makes of all sites.

    Attributes:
        arm: Its name.
        epsilon: What its sites spent on it at most, recomputed from their ledgers;
            infinite where nothing is promised.
        sites: Site that trains -> ranking of its test events.
        facts: Site, unseen ones too -> what is known of it.
        negatives: How many stand in the sampled ranking; 0 where there is none.
        unseen: Site that never trained -> ranking of its test events.
        validation: Site -> ranking of its validation events.
        curves: Site -> round -> [users] ranks of its validation events.
        chosen: Hyper-parameters that were chosen on validation events.
        exposure: How often the item that an attack promotes is shown, against chance;
            None without an attack.
    """

    arm: str
    epsilon: float
    sites: Mapping[str, Ranking]
    facts: Mapping[str, Facts] = field(default_factory=dict)
    negatives: int = 0
    unseen: Mapping[str, Ranking] = field(default_factory=dict)
    validation: Mapping[str, Ranking] = field(default_factory=dict)
    curves: Mapping[str, Mapping[int, Ints]] = field(default_factory=dict)
    chosen: Mapping[str, float] = field(default_factory=dict)
    exposure: float | None = None

    def rank(self) -> Ints:
        """Return the places of all users' held-out items, site after site."""
        return np.asarray(joined(self.sites, "rank"))


def joined(sites: Mapping[str, Ranking], what: str) -> Any:
    """Return one field of all sites' rankings, site after site."""
    return np.concatenate([getattr(ranking, what) for ranking in sites.values()])


def summary(outcome: Outcome, rng: np.random.Generator) -> dict[str, Any]:
    """Return the figures of one arm, as ``report.json`` has them under ``metrics``.

    Means are over the users of the sites that train, with 95 % bootstrap intervals.
    """
    made: dict[str, Any] = {**_by_rank(outcome.rank(), rng)}
    made |= _lists(outcome, rng)
    if outcome.negatives:
        found = _both(joined(outcome.sites, "sampled"), rng)
        made["sampled"] = {"negatives": outcome.negatives, **found}
    made["slices"] = _slices(outcome, rng)
    made |= _per_site(outcome)
    ratings = _ratings(outcome)
    if ratings:
        made["ratings"] = ratings
    if outcome.validation:
        found = _both(joined(outcome.validation, "rank"), rng)
        made["validation"] = {"ndcg@10": found["ndcg@10"]}
    made["curve"] = _curve(outcome)
    if outcome.chosen:
        made["chosen"] = dict(outcome.chosen)
    if outcome.exposure is not None:
        made["exposure"] = {"target": outcome.exposure}
    made["epsilon"] = outcome.epsilon if math.isfinite(outcome.epsilon) else None
    if made["epsilon"] is None:
        made["label"] = "NOT PRIVATE"
    return made


def difference(
    one: Outcome, other: Outcome, rng: np.random.Generator
) -> dict[str, float]:
    """Return NDCG@10 of ``one`` minus ``other`` with a paired 95 % interval.

    ``p`` is that of a paired, two-sided test by flips of signs.
    """
    return _difference(one.rank(), other.rank(), rng)


def slice_differences(
    one: Outcome, other: Outcome, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """Return the same for every slice that both have."""
    parts, others = _sliced(one), _sliced(other)
    return {
        name: _difference(parts[name], others[name], rng)
        for name in parts
        if name in others
    }


def _difference(
    ranks: Ints, others: Ints, rng: np.random.Generator
) -> dict[str, float]:
    gain = ndcg(ranks, CUT) - ndcg(others, CUT)
    figure = intervals(gain[:, None], rng)[0]
    return {**figure, "p": significance(gain, rng)}


def _by_rank(rank: Ints, rng: np.random.Generator) -> dict[str, Figure]:
    """Return every metric of ranks at every cut."""
    named = {
        f"{name}@{cut}": metric(rank, cut)
        for name, metric in BY_RANK.items()
        for cut in CUTS
    }
    figures = intervals(np.stack([*named.values()], axis=1), rng)
    return dict(zip(named, figures, strict=True))


def _lists(outcome: Outcome, rng: np.random.Generator) -> dict[str, Figure | None]:
    """Return what the lists are like, whatever is right: coverage, Gini and so on."""
    sites = [Shown(ranking.top, ranking.items) for ranking in outcome.sites.values()]
    known = [outcome.facts[name] for name in outcome.sites]
    tops = [ranking.top for ranking in outcome.sites.values()]
    news = [
        novelty(top, facts.likers, facts.users)
        for top, facts in zip(tops, known, strict=True)
    ]
    unlike = [
        diversity(top, facts.vectors)
        for top, facts in zip(tops, known, strict=True)
        if facts.vectors is not None
    ]
    shown = {"coverage@10": coverage, "gini@10": gini}
    return {
        **exposure_intervals(shown, sites, rng),
        "novelty@10": _mean(news, rng),
        "diversity@10": _mean(unlike, rng) if len(unlike) == len(tops) else None,
    }


def _mean(parts: Sequence[Floats], rng: np.random.Generator) -> Figure:
    return intervals(np.concatenate(parts)[:, None], rng)[0]


def _slices(outcome: Outcome, rng: np.random.Generator) -> dict[str, Any]:
    """Return the figures of new users, new items and sites that never trained."""
    return {
        name: {"users": len(part), **_both(part, rng)}
        for name, part in _sliced(outcome).items()
    }


def _sliced(outcome: Outcome) -> dict[str, Ints]:
    """Return the ranks of each slice in which there is anybody."""
    rank = outcome.rank()
    known = [outcome.facts[name] for name in outcome.sites]
    events = np.concatenate([facts.events for facts in known])
    slices = {
        "new-users": rank[events <= NEW_USER],
        "new-items": rank[np.concatenate([facts.fresh for facts in known])],
    }
    if outcome.unseen:
        slices[UNSEEN] = joined(outcome.unseen, "rank")
    return {name: part for name, part in slices.items() if len(part)}


def _both(rank: Ints, rng: np.random.Generator) -> dict[str, Figure]:
    figures = intervals(np.stack([ndcg(rank, CUT), hit(rank, CUT)], axis=1), rng)
    return dict(zip(BOTH, figures, strict=True))


def _per_site(outcome: Outcome) -> dict[str, Any]:
    """Return the figures of each site; the worst that trains, and its gap."""
    sites = {
        name: {
            "users": len(ranking.rank),
            "ndcg@10": float(ndcg(ranking.rank, CUT).mean()),
            "hr@10": float(hit(ranking.rank, CUT).mean()),
        }
        for name, ranking in outcome.sites.items()
    }
    found = {name: site["ndcg@10"] for name, site in sites.items()}
    worst = min(found, key=lambda name: found[name])
    gap = max(found.values()) - found[worst]
    return {"sites": sites, "worst_site": worst, "gap": gap}


def _ratings(outcome: Outcome) -> dict[str, Any]:
    """Return how well likes are told from events that were met and not liked.

    The chance of a like is the score through the monotone map that fits the events up
    to validation best; it is judged on the events since, up to the test.
    """
    if not outcome.validation:
        return {}
    likes = joined(outcome.validation, "likes")
    truth = joined(outcome.sites, "likes")
    if likes.all() or truth.all():
        return {}
    chance = _monotone(
        joined(outcome.validation, "scores"), likes, joined(outcome.sites, "scores")
    )
    return {
        "events": len(truth),
        "predicts": "the chance of a like, against 0 or 1",
        **rating_errors(chance, truth.astype(np.float64)),
        **decisions(chance >= 0.5, truth),
    }


def _monotone(scores: Floats, likes: Mask, asked: Floats) -> Floats:
    """Return the isotonic fit of ``likes`` over ``scores`` at the scores ``asked``."""
    at, where, count = np.unique(scores, return_inverse=True, return_counts=True)
    share = np.bincount(where.reshape(-1), likes) / count
    fitted = isotonic_regression(share, weights=count).x
    return np.asarray(np.interp(asked, at, fitted), np.float64)


def _curve(outcome: Outcome) -> list[dict[str, float]]:
    """Return NDCG@10 of all validation events by what there was after each round.

    A site that stopped earlier stays with what it had.
    """
    curves = outcome.curves.values()
    rounds = sorted({number for curve in curves for number in curve if number})
    return [
        {"round": number, "ndcg@10": float(ndcg(_after(outcome, number), CUT).mean())}
        for number in rounds
    ]


def _after(outcome: Outcome, number: int) -> Ints:
    """Return the ranks of all validation events after a round."""
    return np.concatenate(
        [curve[_newest(curve, number)] for curve in outcome.curves.values()]
    )


def _newest(rounds: Iterable[int], upto: int) -> int:
    there = sorted(rounds)
    return max((number for number in there if number <= upto), default=there[0])
