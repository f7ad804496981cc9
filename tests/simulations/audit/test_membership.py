"""Membership inference: right where the answer is known, loud on the twin, no louder
than the claim on the private model."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom, norm

from client.examples import UserExample
from client.noise import insecure_streams, normal
from client.prior import log_prior, release_popularity
from client.sampler import Uniform
from shared.accounting import epsilon
from shared.errors import ConfigError
from shared.protocol import Array, Mechanism
from simulations.audit import bounds
from simulations.audit.likelihood import (
    Bools,
    Floats,
    Rate,
    area,
    found_at,
    likelihood_ratios,
    limits,
    proven,
    roc,
)
from simulations.audit.membership import (
    ALPHA,
    ITEMS,
    LIKES,
    STEPS,
    Attack,
    attack,
    charged,
    finding,
    judged,
    mechanism_for,
    recall,
    served,
)
from simulations.audit.observe import observed_steps
from simulations.audit.subject import make_users

CLAIM = Mechanism(q=1.0, sigma=8.0, clip=0.3, steps=20, prior_sigma=2.2)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of activations for all models."""
    return tmp_path_factory.mktemp("activations")


def gaussian_answers(
    separation: float, runs: int = 128, users: int = 60, seed: int = 0
) -> tuple[Floats, Bools]:
    """Answers of standard deviation 1, higher by ``separation`` where a user is in.

    Each user has an offset and a scale of their own, as likes differ in how well known
    they are.
    """
    rng = np.random.default_rng(seed)
    inside = rng.random((runs, users)) < 0.5
    plain = rng.normal(size=(runs, users)) + separation * inside
    return plain * rng.uniform(0.5, 2, users) + rng.normal(0, 5, users), inside


def supposed(separation: float, claimed: float | None, **shape: int) -> Attack:
    """What is said of answers that are so far apart."""
    answers, inside = gaussian_answers(separation, **shape)
    return judged(answers, inside, CLAIM, claimed=claimed, delta=1e-5)


def users(count: int, seed: int = 3) -> list[UserExample]:
    rng = np.random.default_rng(seed)
    return make_users(count, items=ITEMS, likes=LIKES, rng=rng)


def test_the_likelihood_ratio_is_that_of_gaussians_fitted_to_the_other_runs() -> None:
    """The oracle: one trial at a time, by scipy's densities."""
    answers, inside = gaussian_answers(1.5, runs=20, users=3)
    wanted = np.empty_like(answers)
    for run in range(20):
        rest = np.arange(20) != run
        for user in range(3):
            was_in = answers[rest & inside[:, user], user]
            was_out = answers[rest & ~inside[:, user], user]
            squares = len(was_in) * was_in.var() + len(was_out) * was_out.var()
            scale = math.sqrt(squares / 17)
            wanted[run, user] = norm.logpdf(
                answers[run, user], was_in.mean(), scale
            ) - norm.logpdf(answers[run, user], was_out.mean(), scale)

    assert np.allclose(likelihood_ratios(answers, inside), wanted)


def test_whether_the_attacked_run_held_the_user_does_not_reach_its_own_ratio() -> None:
    answers, inside = gaussian_answers(1.0, runs=24, users=5)
    ratios = likelihood_ratios(answers, inside)

    other = inside.copy()
    other[7] = ~other[7]

    assert np.array_equal(likelihood_ratios(answers, other)[7], ratios[7])
    assert not np.array_equal(likelihood_ratios(answers, other)[8], ratios[8])


@pytest.mark.parametrize("separation", [0.5, 1.0, 3.0])
def test_gaussians_of_known_separation_give_their_own_area_and_rates(
    separation: float,
) -> None:
    """AUC is Phi(d / sqrt 2), TPR is Phi(Phi^-1(FPR) + d) (1905.02383, eq. 6).

    The means are fitted to some 64 answers each: that costs a little separation.
    """
    got = supposed(separation, None, runs=256)

    assert got.auc == pytest.approx(ndtr(separation / math.sqrt(2)), abs=0.015)
    assert got.user_auc_median == pytest.approx(got.auc, abs=0.02)
    for rate in (got.one_percent, got.tenth_percent):
        assert rate is not None
        wanted = norm.cdf(norm.ppf(rate["fpr"]) + separation)
        assert rate["low"] * 0.6 < wanted < rate["high"] * 1.6
    assert 0.8 * separation < got.mu_bound < separation


@pytest.mark.parametrize("separation", [0.0, 0.5, 1.5])
def test_the_bound_on_mu_is_seldom_above_the_true_one(separation: float) -> None:
    """At most 5 % of 100; 12 would come about once in 300."""
    found = [
        supposed(separation, None, runs=40, users=10, seed=n).mu_bound
        for n in range(100)
    ]

    assert sum(mu > separation for mu in found) <= 12


def test_answers_that_tell_nothing_stay_at_chance() -> None:
    got = supposed(0.0, None)

    assert got.auc == pytest.approx(0.5, abs=0.03)
    assert got.epsilon_bound == 0.0
    assert got.mu_bound == 0.0
    assert got.one_percent["low"] < 0.01


def test_one_users_area_spreads_by_chance_as_is_said() -> None:
    got = supposed(0.0, None, runs=100, users=400)

    assert np.std(got.user_aucs) == pytest.approx(got.user_auc_spread, rel=0.15)
    assert got.user_auc_highest == max(got.user_aucs)


def test_the_most_exposed_user_stands_out_of_the_others() -> None:
    answers, inside = gaussian_answers(0.0)
    answers[:, 7] += 20 * inside[:, 7]

    got = judged(answers, inside, CLAIM, claimed=3.0, delta=1e-5)

    assert got.user_auc_highest > 0.99
    assert got.user_aucs[-2] < 0.5 + 4 * got.user_auc_spread


@given(
    members=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    others=st.lists(st.integers(0, 6), min_size=1, max_size=12),
)
def test_the_area_is_the_share_of_pairs_in_the_right_order(
    members: list[int], others: list[int]
) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in members for b in others]

    got = area(np.array(members, float), np.array(others, float))

    assert got == pytest.approx(np.mean(pairs))


@given(hits=st.integers(0, 300), more=st.integers(0, 300))
def test_limits_are_the_rates_at_which_such_a_count_has_a_chance_of_one_in_forty(
    hits: int, more: int
) -> None:
    trials = max(1, hits + more)

    low, high = limits(hits, trials)

    assert low <= hits / trials <= high
    if hits:
        assert binom.sf(hits - 1, trials, low) == pytest.approx(0.025)
    if hits < trials:
        assert binom.cdf(hits, trials, high) == pytest.approx(0.025)


@given(tp=st.integers(0, 90), fp=st.integers(0, 80))
def test_the_bounds_are_those_of_many_runs(tp: int, fp: int) -> None:
    """Found apart from ``simulations/audit/bounds.py``, and yet the same."""
    members = np.where(np.arange(90) < tp, 1.0, -1.0)
    others = np.where(np.arange(80) < fp, 1.0, -1.0)
    wanted = bounds.many_runs(tp=tp, n_in=90, fp=fp, n_out=80, delta=1e-5)

    got = proven(members, others, 1e-5)

    assert got == pytest.approx((wanted.epsilon, wanted.mu), abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.01, 0.05, 0.3]))
def test_no_more_of_the_others_are_accused_than_was_asked_for(
    seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    members, others = rng.normal(1, 1, 150), rng.normal(0, 1, 130)
    accused = int(share * 130)
    threshold = sorted(others)[-accused - 1]

    rate = found_at(share, members, others)

    assert sum(others > threshold) <= share * 130
    assert rate["tpr"] == np.mean(members > threshold)
    assert rate["low"] <= rate["tpr"] <= rate["high"]
    assert rate["fpr_high"] > share * 0.75


def test_the_limit_of_the_fpr_holds_although_the_threshold_comes_from_the_data() -> (
    None
):
    """Two-sided at 95 %, so above in 2.5 % of 400 cases; 20 would be far too many."""
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(400):
        others = rng.normal(size=300)
        threshold = np.sort(others)[::-1][3]
        missed += norm.sf(threshold) > found_at(0.01, others, others)["fpr_high"]

    assert 1 <= missed < 20


@given(seed=st.integers(0, 2**32 - 1))
def test_the_roc_rises_from_one_false_positive_to_everyone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    members, others = rng.normal(1, 1, 80), rng.normal(0, 1, 70)

    points = np.array(roc(members, others))

    assert points[0, 0] == pytest.approx(1 / 70)
    assert points[0, 1] == np.mean(members >= others.max())
    assert points[-1, 0] == 1.0
    assert (np.diff(points, axis=0)[:, 0] > 0).all()
    assert (np.diff(points, axis=0)[:, 1] >= 0).all()


def test_a_tenth_of_a_percent_is_told_from_a_thousand_non_members_on() -> None:
    few, many = supposed(1.0, None, runs=30), supposed(1.0, None, runs=40)

    assert few.non_members < 1000 <= many.non_members
    assert few.tenth_percent is None
    assert many.tenth_percent is not None


def test_what_was_found_is_json() -> None:
    made = supposed(0.4, 3.0)

    read = Attack(**json.loads(json.dumps(asdict(made), allow_nan=False)))

    assert read.one_percent == made.one_percent
    assert read.roc == [list(point) for point in made.roc]
    assert replace(read, roc=made.roc) == made
    json.dumps(finding(made, supposed(3.0, None)).to_dict(), allow_nan=False)


def test_a_weak_attack_on_the_private_model_and_a_strong_one_on_the_twin_hold() -> None:
    found = finding(supposed(0.5, 3.0), supposed(4.0, None))

    assert found.holds
    assert "refutes" not in found.says


@pytest.mark.parametrize("separation", [1.2, 4.0])
def test_a_model_that_tells_more_than_its_claim_allows_is_refuted(
    separation: float,
) -> None:
    """Epsilon 3 at 1e-5 is mu 0.72."""
    found = finding(supposed(separation, 3.0), supposed(4.0, None))

    assert not found.holds
    assert found.says.endswith("that refutes the claim")


@pytest.mark.parametrize(
    "more",
    [
        {"epsilon_bound": 3.1},
        {"mu_bound": 0.8},
        {"one_percent": Rate(fpr=0.01, fpr_high=0.02, tpr=0.2, low=0.15, high=0.3)},
        {"tenth_percent": Rate(fpr=0.001, fpr_high=0.002, tpr=0.1, low=0.05, high=0.2)},
    ],
)
def test_any_one_of_the_figures_can_refute_the_claim(more: dict[str, Any]) -> None:
    private, twin = supposed(0.5, 3.0), supposed(4.0, None)

    assert finding(private, twin).holds
    assert not finding(replace(private, **more), twin).holds


@pytest.mark.parametrize("claimed", [1.0, 3.0, 8.0])
def test_the_twin_passed_off_as_private_is_refuted(claimed: float) -> None:
    twin = supposed(4.0, None)

    assert not finding(replace(twin, claimed=claimed), twin).holds


def test_an_attack_that_fails_on_the_twin_proves_nothing() -> None:
    found = finding(supposed(0.0, 3.0), supposed(0.5, None))

    assert not found.holds
    assert "too weak on the twin" in found.says


def test_private_and_twin_may_not_be_confused() -> None:
    private, twin = supposed(0.5, 3.0), supposed(4.0, None)

    for pair in ((twin, private), (private, private), (twin, twin)):
        with pytest.raises(ConfigError, match="then its twin's"):
            finding(*pair)


def test_runs_that_are_too_few_for_shadows_are_refused(cache: Path) -> None:
    with pytest.raises(ConfigError, match=r"runs=6: .* give more runs"):
        attack(cache, epsilon=None, runs=6)


@pytest.mark.slow
def test_the_noise_is_the_least_that_keeps_both_releases_within_the_budget() -> None:
    mechanism = mechanism_for(3.0, 1e-5)
    less = replace(mechanism, sigma=mechanism.sigma - 0.01)

    assert epsilon(charged(mechanism), 1e-5) <= 3.0
    assert epsilon(charged(less), 1e-5) > 3.0


def test_a_served_model_took_the_steps_that_are_charged(cache: Path) -> None:
    with observed_steps() as steps:
        served(cache, users(5), CLAIM, users=10, key=(0, 0))

    assert len(steps) == charged(CLAIM)[1].steps == STEPS
    assert charged(CLAIM)[0].sigma == CLAIM.prior_sigma


def test_a_model_is_served_with_the_popularity_that_its_site_released(
    cache: Path,
) -> None:
    """Shown nothing, the model knows no more than that."""
    members, noise = users(5), insecure_streams(0, 4).noise
    released = release_popularity(members, ITEMS, CLAIM.prior_sigma, noise)
    nothing = np.zeros(0, np.int64)

    model = served(cache, members, CLAIM, users=10, key=(0, 4))

    wanted = log_prior(released, CLAIM.prior_sigma)
    assert np.allclose(model.score([nothing], 1.0)[0], wanted, atol=1e-6)


def test_recall_is_what_a_user_is_expected_to_like_when_shown_all_the_rest(
    cache: Path,
) -> None:
    """The oracle: one like at a time, the softmax written out."""
    model, asked = (
        served(cache, users(6), CLAIM, users=10, key=(0, 0)),
        users(3, seed=8),
    )
    wanted = []
    for user in asked:
        chances: list[float] = []
        for like in user.likes:
            shown: npt.NDArray[np.int64] = user.likes[user.likes != like]
            score = model.score([shown], ALPHA)[0].astype(np.float64)
            chances.append(math.log(np.exp(score)[like] / np.exp(score).sum()))
        wanted.append(np.mean(chances))

    assert np.allclose(recall(model, asked), wanted, atol=1e-5)


@pytest.mark.slow
def test_the_twin_without_privacy_gives_its_users_away(cache: Path) -> None:
    got = attack(cache, epsilon=None, users=5, runs=12, seed=1)

    assert got.claimed is None
    assert got.sigma == got.prior_sigma == 0.0
    assert got.auc > 0.95


def scaled(factor: float) -> object:
    """The noise of training, too small by a factor."""

    def less(count: int, uniform: Uniform) -> Array:
        return np.float32(factor) * normal(count, uniform)

    return less


@pytest.fixture(scope="module")
def twin(cache: Path) -> Attack:
    return attack(cache, epsilon=None, runs=40)


@pytest.mark.parametrize(
    "claimed",
    [
        pytest.param(1.0, marks=pytest.mark.exhaustive),
        pytest.param(3.0, marks=pytest.mark.slow),
    ],
)
def test_the_private_model_tells_no_more_than_it_claims(
    cache: Path, twin: Attack, claimed: float
) -> None:
    private = attack(cache, epsilon=claimed, runs=40)

    found = finding(private, twin)

    assert private.claimed is not None
    assert claimed - 0.01 < private.claimed <= claimed
    assert found.holds, found.says


@pytest.mark.slow
def test_training_without_its_noise_is_refuted(
    cache: Path, twin: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Popularity is noised, gradients are clipped, the ledger says 3."""
    monkeypatch.setattr("client.train.normal", scaled(0.0))

    found = finding(attack(cache, runs=40), twin)

    assert not found.holds
    assert "refutes" in found.says


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures(cache: Path) -> None:
    made: Sequence[Attack] = [attack(cache, users=8, runs=16) for _ in range(2)]

    assert made[0] == made[1]
