"""The likelihood ratio attack on answers alone, and what its verdicts prove.

Carlini et al. 2022 (arXiv 2112.03570), online: each run in turn is attacked, the others
are its shadows. Nothing here trains or asks a model; ``membership.py`` does.
"""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, rankdata

from simulations.audit.bounds import many_runs

BETA = 0.05  # chance that a rate is outside its two limits
THRESHOLD = 0.0  # of the bounds, fixed in advance: more likely in than out
LEAST_VARIANCE = 1e-12  # where all answers about a target are equal
ROC_POINTS = 60

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class Rate(TypedDict):
    """How many members are found at a false-positive rate.

    ``fpr`` was asked for; the threshold may let through up to ``fpr_high``. ``tpr`` was
    found, with its limits ``low`` and ``high``. Limits are Clopper and Pearson's, 95 %.
    """

    fpr: float
    fpr_high: float
    tpr: float
    low: float
    high: float


def likelihood_ratios(answers: Floats, inside: Bools) -> Floats:
    """Return log p(answer | in) - log p(answer | out) of every trial, [runs, users].

    A target's answers are taken as Gaussian, with a mean for the runs that it is in,
    one for the others, and one variance. Both come from all runs but the attacked one.

    Args:
        answers: What each run's model says of each target, [runs, users].
        inside: Whether the target was in, [runs, users].
    """
    ratios = np.empty_like(answers)
    for run in range(len(answers)):
        shadows = np.delete(answers, run, axis=0)
        was_in = np.delete(inside, run, axis=0)
        mean_in = shadows.mean(axis=0, where=was_in)
        mean_out = shadows.mean(axis=0, where=~was_in)
        rest = shadows - np.where(was_in, mean_in, mean_out)
        variance = np.square(rest).sum(axis=0) / (len(shadows) - 2)
        middle, apart = (mean_in + mean_out) / 2, mean_in - mean_out
        ratios[run] = (
            (answers[run] - middle) * apart / np.maximum(variance, LEAST_VARIANCE)
        )
    return ratios


def proven(members: Floats, others: Floats, delta: float) -> tuple[float, float]:
    """Return the lower bounds on epsilon and on mu, from many runs (PRIVACY 7.1)."""
    found = many_runs(
        tp=int((members > THRESHOLD).sum()),
        n_in=len(members),
        fp=int((others > THRESHOLD).sum()),
        n_out=len(others),
        delta=delta,
        beta=BETA,
    )
    return found.epsilon, found.mu


def limits(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % limits of a rate (Clopper and Pearson 1934)."""
    low = float(beta.ppf(BETA / 2, hits, trials - hits + 1)) if hits else 0.0
    most = hits == trials
    return low, 1.0 if most else float(beta.isf(BETA / 2, hits + 1, trials - hits))


def area(members: Floats, others: Floats) -> float:
    """Return the chance that a member's ratio is above another's; ties count half."""
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    above = ranks.sum() - len(members) * (len(members) + 1) / 2
    return float(above / (len(members) * len(others)))


def roc(members: Floats, others: Floats) -> list[tuple[float, float]]:
    """Return points (FPR, TPR), evenly over log FPR from one false positive to all."""
    falling = np.sort(others)[::-1]
    counts = np.unique(np.geomspace(1, len(others), ROC_POINTS).round().astype(int))
    return [
        (float(n / len(others)), float((members >= falling[n - 1]).mean()))
        for n in counts
    ]


def found_at(fpr: float, members: Floats, others: Floats) -> Rate:
    """Return how many members are above what ``fpr`` of the others are above.

    The limit of the FPR is right although the threshold comes from the same others: the
    true FPR at the k-th highest of them has the distribution that the limit inverts.
    """
    let_through = int(fpr * len(others))
    threshold = np.sort(others)[::-1][let_through]
    hits = int((members > threshold).sum())
    low, high = limits(hits, len(members))
    _, fpr_high = limits(let_through, len(others))
    return Rate(fpr=fpr, fpr_high=fpr_high, tpr=hits / len(members), low=low, high=high)
