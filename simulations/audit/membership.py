"""Black-box membership inference: does the served model tell who it was trained on?

LiRA (Carlini et al. 2022, arXiv 2112.03570), online, with a whole user as the unit. The
attacker knows a target's likes and asks the model for scores as a partner could; it
sees no parameter. What it proves is a lower bound: it can refute the claimed epsilon,
and it says nothing unless it succeeds on the twin that promises none. Too few runs for
shadow models are refused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import log_softmax, ndtr

from client.examples import UserExample
from client.model import HybridModel
from client.noise import insecure_streams
from client.prior import log_prior, release_popularity
from client.train import train_round
from shared.accounting import GaussianEvent, noise_for
from shared.accounting import epsilon as epsilon_of
from shared.errors import ConfigError
from shared.protocol import Mechanism, Recipe
from simulations.audit.bounds import gaussian_mu
from simulations.audit.finding import Figure, Finding
from simulations.audit.likelihood import (
    Bools,
    Floats,
    Rate,
    area,
    found_at,
    likelihood_ratios,
    proven,
    roc,
)
from simulations.audit.odds import best_tpr
from simulations.audit.subject import make_model, make_users

ITEMS, LIKES = 144, 8  # the smallest catalogue that is generated; likes of one user
STRANGERS = 200  # users of no run: what a model says of them is its own mood
Q, STEPS, CLIP = 1.0, 20, 0.3  # everyone in every step: the exact curve is Gaussian
PRIOR_SHARE = 0.4  # of the budget for popularity, as share of mu^2
RECIPE = Recipe(  # few users and large steps: the twin remembers each of them
    learning_rate=0.05,
    head_learning_rate=0.05,
    factors=8,
    history=8,
    targets=4,
    negatives=8,
    recency=0.0,
)
ALPHA = 0.5  # of the attacker's requests: text and CF speak alike
LEAST_SHADOWS = 3  # runs with, and as many without, every target


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """What was attacked, and how far the attack came. All are JSON's types.

    A trial is one target in one run, and the limits take trials as independent. Those
    of one run share its noise: the variance of its false positives is then 3.9 times
    what the limits suppose, but 1.1 times once the strangers' scores are taken off
    (measured, epsilon 3, 128 runs).

    Attributes:
        claimed: Epsilon of the releases that ran, at ``delta``; None for the twin.
        delta: Delta of the claim and of ``epsilon_bound``.
        sigma, prior_sigma, q, steps: The mechanism of every run.
        users, runs: Targets, and runs; each in turn is attacked.
        members, non_members: Trials with the target in the run, and without.
        auc: Area under the ROC of all trials together.
        roc: Points (FPR, TPR) of it, evenly spread over the logarithm of FPR.
        one_percent, tenth_percent: Members found at 1 % and at 0.1 % FPR; None where
            there are under 1000 non-members for the latter.
        epsilon_bound: Lower bound on epsilon, from one threshold fixed in advance.
        mu_bound: Lower bound on mu from the same, on the Gaussian curve.
        user_aucs: Area under each target's own ROC, in rising order; from the answers
            themselves, which a ratio with exact shadows would only shift and stretch.
        user_auc_median: The median of these.
        user_auc_highest: That of the most exposed target.
        user_auc_spread: Standard deviation of one target's area by chance alone, half
            of the runs with it (Mann and Whitney 1947).
    """

    claimed: float | None
    delta: float
    sigma: float
    prior_sigma: float
    q: float
    steps: int
    users: int
    runs: int
    members: int
    non_members: int
    auc: float
    roc: Sequence[Sequence[float]]
    one_percent: Rate
    tenth_percent: Rate | None
    epsilon_bound: float
    mu_bound: float
    user_aucs: Sequence[float]
    user_auc_median: float
    user_auc_highest: float
    user_auc_spread: float


def attack(
    cache: Path,
    *,
    epsilon: float | None = 3.0,
    delta: float = 1e-5,
    users: int = 60,
    runs: int = 128,
    seed: int = 0,
) -> Attack:
    """Train ``runs`` models, each on the targets that coins put in, and attack each.

    Nobody's data is read, so the noise comes from ``seed`` and the audit repeats.

    Args:
        cache: Folder of the activations.
        epsilon: Budget of popularity and training together; None for the twin: exact
            counts, no clip, no noise.
        delta: Delta of the budget and of the bound on epsilon.
        users: Number of targets; also the public divisor.
        runs: Number of models; each is attacked with all others as shadows.
        seed: Of likes, coins and noise.

    Raises:
        ConfigError: If the budget cannot be held, or runs are too few.
    """
    rng = np.random.default_rng(seed)
    everyone = make_users(users + STRANGERS, items=ITEMS, likes=LIKES, rng=rng)
    targets, strangers = everyone[:users], everyone[users:]
    inside = rng.random((runs, users)) < 0.5
    _require_shadows(inside)
    mechanism = mechanism_for(epsilon, delta)
    answers = np.empty((runs, users))
    for run in range(runs):
        members = [targets[n] for n in np.flatnonzero(inside[run])]
        model = served(cache, members, mechanism, users=users, key=(seed, run))
        answers[run] = recall(model, targets) - recall(model, strangers).mean()
    claimed = None if epsilon is None else epsilon_of(charged(mechanism), delta)
    return judged(answers, inside, mechanism, claimed=claimed, delta=delta)


def mechanism_for(epsilon: float | None, delta: float) -> Mechanism:
    """Return the least noise that keeps popularity and training within ``epsilon``."""
    if epsilon is None:
        return Mechanism(q=Q, sigma=0.0, clip=CLIP, steps=STEPS, prior_sigma=0.0)
    whole = noise_for(epsilon, delta, q=1.0, steps=1)
    prior_sigma = math.ceil(100 * whole / math.sqrt(PRIOR_SHARE)) / 100
    release = GaussianEvent(q=1.0, sigma=prior_sigma, steps=1)
    sigma = noise_for(epsilon, delta, q=Q, steps=STEPS, others=[release])
    return Mechanism(q=Q, sigma=sigma, clip=CLIP, steps=STEPS, prior_sigma=prior_sigma)


def charged(mechanism: Mechanism) -> list[GaussianEvent]:
    """Return the releases of one run: popularity, then the steps."""
    return [
        GaussianEvent(q=1.0, sigma=mechanism.prior_sigma, steps=1),
        GaussianEvent(q=mechanism.q, sigma=mechanism.sigma, steps=mechanism.steps),
    ]


def served(
    cache: Path,
    members: Sequence[UserExample],
    mechanism: Mechanism,
    *,
    users: int,
    key: tuple[int, int],
) -> HybridModel:
    """Return what a site with these ``members`` serves after one round."""
    streams, sigma = insecure_streams(*key), mechanism.prior_sigma
    popularity = release_popularity(members, ITEMS, sigma, streams.noise)
    prior = log_prior(popularity, sigma)
    model = make_model(cache, items=ITEMS, recipe=RECIPE, prior=prior)
    train_round(model, members, mechanism, users=users, streams=streams, key=key)
    return model


def recall(model: HybridModel, users: Sequence[UserExample]) -> Floats:
    """Return how well the model expects each user's likes, [users].

    It is the mean log-probability of a like when all the others were shown. That is
    what training made likelier, and it asks for nothing but scores.
    """
    shown = [np.delete(user.likes, n) for user in users for n in range(LIKES)]
    hidden = np.concatenate([user.likes for user in users])
    chances = log_softmax(model.score(shown, ALPHA).astype(np.float64), axis=1)
    told: Floats = chances[np.arange(len(hidden)), hidden].reshape(-1, LIKES).mean(1)
    return told


def judged(
    answers: Floats,
    inside: Bools,
    mechanism: Mechanism,
    *,
    claimed: float | None,
    delta: float,
) -> Attack:
    """Return what the answers [runs, users] say of the mechanism."""
    ratios = likelihood_ratios(answers, inside)
    members, others = ratios[inside], ratios[~inside]
    epsilon_bound, mu_bound = proven(members, others, delta)
    told = zip(answers.T, inside.T, strict=True)
    aucs = sorted(area(answer[was_in], answer[~was_in]) for answer, was_in in told)
    runs, users = answers.shape
    return Attack(
        claimed=claimed,
        delta=delta,
        sigma=mechanism.sigma,
        prior_sigma=mechanism.prior_sigma,
        q=mechanism.q,
        steps=mechanism.steps,
        users=users,
        runs=runs,
        members=len(members),
        non_members=len(others),
        auc=area(members, others),
        roc=roc(members, others),
        one_percent=found_at(0.01, members, others),
        tenth_percent=(
            found_at(0.001, members, others) if len(others) >= 1000 else None
        ),
        epsilon_bound=epsilon_bound,
        mu_bound=mu_bound,
        user_aucs=aucs,
        user_auc_median=float(np.median(aucs)),
        user_auc_highest=aucs[-1],
        user_auc_spread=math.sqrt((runs + 1) / (3 * runs**2)),
    )


def finding(private: Attack, twin: Attack) -> Finding:
    """Return whether the attack refutes the claim, if it can be heard at all.

    It is heard if on the twin it finds more members at 1 % FPR than the claim would let
    it. It refutes if that is so of the private model, at 1 % or at 0.1 %, or if a bound
    is above the claim. What was found counts by its lower limit, what the claim allows
    is taken at the upper limit of the FPR, so each comparison errs in at most ``BETA``
    of the cases, and that only if the attack is as good as any can be.

    Raises:
        ConfigError: If the first promises nothing, or the second something.
    """
    claimed, delta = private.claimed, private.delta
    if claimed is None or twin.claimed is not None:
        raise ConfigError(
            "membership: give first the attack on a private model, then its twin's"
        )

    def allowed(rate: Rate) -> float:
        return best_tpr(claimed, delta, rate["fpr_high"])

    rates = [private.one_percent]
    rates += [private.tenth_percent] if private.tenth_percent else []
    mu = gaussian_mu(claimed, delta)
    heard = twin.one_percent["low"] > allowed(twin.one_percent)
    refuted = (
        private.epsilon_bound > claimed
        or private.mu_bound > mu
        or any(rate["low"] > allowed(rate) for rate in rates)
    )
    found, of_twin = private.one_percent, twin.one_percent
    says = (
        f"{private.runs} models asked about {private.users} users: epsilon is at least "
        f"{private.epsilon_bound:.2f}, the claim is {claimed:.2f}; of the members "
        f"{found['tpr']:.1%} are found at 1 % false positives (95 % limits "
        f"{found['low']:.1%} and {found['high']:.1%}), and the claim allows "
        f"{best_tpr(claimed, delta, 0.01):.1%}; of the twin's, without privacy, "
        f"{of_twin['tpr']:.1%}"
    )
    if refuted:
        says += "; that refutes the claim"
    if not heard:
        says += "; the attack is too weak on the twin to say anything"
    figures: dict[str, Figure] = {
        "claimed": claimed,
        "delta": delta,
        "epsilon_bound": private.epsilon_bound,
        "mu_claimed": mu,
        "mu_bound": private.mu_bound,
        "auc": private.auc,
        "auc_allowed": float(ndtr(mu / math.sqrt(2))),
        "user_auc_median": private.user_auc_median,
        "user_auc_highest": private.user_auc_highest,
        "one_percent": private.one_percent,
        "tenth_percent": private.tenth_percent,
        "allowed": [allowed(rate) for rate in rates],
        "twin_auc": twin.auc,
        "twin_one_percent": of_twin,
        "twin_epsilon_bound": twin.epsilon_bound,
    }
    return Finding(
        audit="membership.lira",
        holds=heard and not refuted,
        says=says,
        figures=figures,
    )


def _require_shadows(inside: Bools) -> None:
    """Demand enough runs with and without every target."""
    runs, times_in = len(inside), inside.sum(axis=0)
    fewest = int(np.minimum(times_in, runs - times_in).min())
    if fewest < LEAST_SHADOWS:
        raise ConfigError(
            f"{runs=}: the coins put some target into, or left it out of, only "
            f"{fewest} of them, and {LEAST_SHADOWS} are needed; give more runs"
        )
