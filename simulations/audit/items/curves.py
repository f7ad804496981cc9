"""The charts of the report: their points, as plain JSON.

Sites with the same history share a chart. A site without a finite epsilon has none.
"""

from collections.abc import Sequence

import numpy as np

from shared.accounting import GaussianEvent, cross_check
from shared.errors import PrivacyError
from simulations.audit.accounts import Account
from simulations.audit.canaries import OneRun
from simulations.audit.items.wording import epsilon_text, listed, number
from simulations.audit.membership import Attack
from simulations.audit.odds import best_tpr, delta_curve
from simulations.audit.plots import Histogram, Level, LineChart, Series
from simulations.charts.axes import axis

MOST_DRAWN = 4  # histories, the worst first
RECOMPUTED = 8  # most charges after which all accountants are asked
EPSILONS, BEYOND = 41, 1.25  # points of the delta curve, up to this times epsilon
LEAST_DELTA = 1e-10
BINS = 40
LEAST_RATE = 1e-3  # of the ROC's axes
RATES = 61  # points of its ceiling
ACCOUNTANTS = {
    "pld": "PLD, recomputed",
    "rdp": "RDP (Opacus)",
    "prv": "PRV (Opacus)",
}


def spending_charts(accounts: Sequence[Account]) -> list[LineChart]:
    """Return epsilon over the charges, by each accountant, with the budget."""
    return [_spending(group) for group in _drawn(accounts)]


def delta_charts(accounts: Sequence[Account]) -> list[LineChart]:
    """Return one chart of delta over epsilon, if any site has a finite epsilon."""
    groups = _drawn(accounts)
    if not groups:
        return []
    most = BEYOND * max(group[0].epsilon for group in groups)
    grid = np.linspace(0, most, EPSILONS).tolist()
    deltas = {group[0].facts["delta"] for group in groups}
    return [
        LineChart(
            kind="lines",
            title="Delta over epsilon: every pair on a curve holds",
            x=axis("epsilon", low=0.0),
            y=axis("delta", "log", low=LEAST_DELTA, high=1.0),
            series=[
                Series(
                    name=f"{_names(group)}: epsilon {epsilon_text(group[0].epsilon)}",
                    label="",
                    points=_delta_points(group[0], grid),
                )
                for group in groups
            ],
            levels=[Level(label=f"delta {number(d)}", y=d) for d in sorted(deltas)],
        )
    ]


def score_chart(run: OneRun) -> Histogram:
    """Return the scores of the canaries that were in and of those that were not."""
    scores = np.array([*run.scores_in, *run.scores_out])
    edges = np.histogram_bin_edges(scores, BINS)
    groups = {"in the run": run.scores_in, "not in the run": run.scores_out}
    return Histogram(
        kind="histogram",
        title=f"Scores of {run.canaries:,} canaries at a claimed epsilon of "
        f"{epsilon_text(run.claimed)}",
        across="score: noised gradients in the canary's direction, in clipping norms",
        up="canaries",
        edges=[round(float(edge), 3) for edge in edges],
        groups=[
            {"name": name, "counts": np.histogram(values, edges)[0].tolist()}
            for name, values in groups.items()
        ],
    )


def roc_chart(private: Attack, twin: Attack) -> LineChart:
    """Return the ROC of membership inference, with what the claim allows at most."""
    rates = np.geomspace(LEAST_RATE, 1, RATES).tolist()
    epsilon, delta = private.claimed or 0.0, private.delta
    allowed = [[rate, best_tpr(epsilon, delta, rate)] for rate in rates]
    return LineChart(
        kind="lines",
        title="Members found over non-members accused (both axes in powers of ten)",
        x=axis("non-members accused (FPR)", "log", low=LEAST_RATE, high=1.0),
        y=axis("members found (TPR)", "log", low=LEAST_RATE, high=1.0),
        series=[
            Series(
                name=f"most that epsilon {epsilon_text(epsilon)} allows",
                label="",
                points=allowed,
            ),
            Series(name="private model", label="", points=private.roc),
            Series(name="twin without privacy", label="", points=twin.roc),
            Series(
                name="chance", label="", points=[[LEAST_RATE, LEAST_RATE], [1.0, 1.0]]
            ),
        ],
        levels=[],
    )


def _delta_points(account: Account, epsilons: list[float]) -> list[list[float]]:
    events = account.chain.events if account.chain else []
    deltas = delta_curve(events, epsilons)
    return [list(point) for point in zip(epsilons, deltas, strict=True)]


def _spending(group: Sequence[Account]) -> LineChart:
    """Return the chart of sites with one history."""
    account = group[0]
    planned, chain = account.planned(), account.chain
    events = chain.events if chain else []
    recorded = [[n, body["after"]] for n, body in enumerate(planned, 1)]
    series = [
        Series(
            name="PLD, as the site recorded it",
            label=f"{epsilon_text(recorded[-1][1])} recorded",
            points=recorded,
        )
    ]
    found = _recomputed(events, account.facts["delta"])
    for accountant, name in ACCOUNTANTS.items():
        values = [(n, by[accountant]) for n, by in found]
        points = [[n, value] for n, value in values if value is not None]
        if points:
            last = epsilon_text(points[-1][1])
            label = f"{last} {accountant.upper()}"
            series.append(Series(name=name, label=label, points=points))
    budget = account.facts["budget"]
    return LineChart(
        kind="lines",
        title=f"Epsilon over the charges of {_names(group)}",
        x=axis("charge", "whole", low=0.0),
        y=axis("epsilon", low=0.0),
        series=series,
        levels=[Level(label=f"budget {number(budget)}", y=budget)] if budget else [],
    )


def _recomputed(
    events: Sequence[GaussianEvent], delta: float
) -> list[tuple[int, dict[str, float | None]]]:
    """Return what the accountants say after some of the charges, the last one too."""
    stride = -(-len(events) // RECOMPUTED)
    found = []
    for count in range(len(events), 0, -stride):
        try:
            found.append((count, cross_check(events[:count], delta)))
        except PrivacyError:  # an alarm: item 7 tells it, and no point is drawn
            continue
    return found[::-1]


def undrawn(accounts: Sequence[Account]) -> list[str]:
    """Return a sentence on the sites that have no line in a chart for want of room."""
    names = [a.site for group in _histories(accounts)[MOST_DRAWN:] for a in group]
    return [f"Not drawn, for they spent less: {listed(names)}."] if names else []


def _drawn(accounts: Sequence[Account]) -> list[list[Account]]:
    return _histories(accounts)[:MOST_DRAWN]


def _histories(accounts: Sequence[Account]) -> list[list[Account]]:
    """Return accounts that spent, those that charged and promised the same together."""
    groups: dict[tuple[object, ...], list[Account]] = {}
    for account in accounts:
        if account.private and account.chain and account.epsilon > 0:
            after = tuple(body["after"] for body in account.planned())
            promised = (account.facts["delta"], account.facts["budget"])
            key = (*promised, tuple(account.chain.events), after)
            groups.setdefault(key, []).append(account)
    return list(groups.values())


def _names(group: Sequence[Account]) -> str:
    return listed([account.site for account in group])
