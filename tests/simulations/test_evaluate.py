"""What a report says of an arm, from rankings made by hand."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulations.evaluate import (
    Facts,
    Outcome,
    difference,
    slice_differences,
    summary,
)
from simulations.ranking import Ranking

ITEMS = 40


def ranking(rank: list[int], seed: int = 0, **changes: Any) -> Ranking:
    rng = np.random.default_rng(seed)
    users = len(rank)
    made = Ranking(
        rank=np.array(rank),
        top=np.array([rng.permutation(ITEMS)[:10] for _ in rank]),
        items=ITEMS,
        sampled=np.ones(users, np.int64),
        scores=np.zeros(users),
        likes=np.ones(users, bool),
    )
    return replace(made, **changes)


def facts(users: int, *, vectors: bool = True) -> Facts:
    made = np.random.default_rng(1).normal(size=(ITEMS, 3)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return Facts(
        events=np.arange(users) + 4,
        fresh=np.arange(users) == 0,
        likers=np.arange(ITEMS),
        users=50,
        vectors=made if vectors else None,
    )


def outcome(arm: str = "federated", **changes: Any) -> Outcome:
    made = Outcome(
        arm,
        2.0,
        {"site-1": ranking([1, 3, 30]), "site-2": ranking([12, 2], seed=1)},
        {"site-1": facts(3), "site-2": facts(2), "site-3": facts(4)},
    )
    return replace(made, **changes)


def told(of: Outcome) -> dict[str, Any]:
    return summary(of, np.random.default_rng(0))


def test_means_are_over_the_users_of_all_sites_with_intervals_around_them() -> None:
    made = told(outcome())

    gains = [1.0, 0.5, 0.0, 0.0, 1 / np.log2(3)]
    assert made["ndcg@10"]["mean"] == pytest.approx(np.mean(gains))
    assert made["hr@5"]["mean"] == 0.6
    assert made["hr@20"]["mean"] == 0.8
    assert made["mrr@20"]["mean"] == pytest.approx((1 + 1 / 3 + 1 / 12 + 1 / 2) / 5)
    for name in ("ndcg", "hr", "mrr"):
        for cut in (5, 10, 20):
            figure = made[f"{name}@{cut}"]
            assert figure["low"] <= figure["mean"] <= figure["high"]


def test_a_summary_is_json_and_says_nothing_that_does_not_apply() -> None:
    made = told(outcome())

    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert not made.keys() & {"sampled", "ratings", "validation", "chosen", "label"}
    assert not made.keys() & {"exposure"}
    assert made["curve"] == []
    assert made["epsilon"] == 2.0


def test_an_arm_that_promises_nothing_is_labelled() -> None:
    made = told(outcome(epsilon=math.inf))

    assert made["epsilon"] is None
    assert made["label"] == "NOT PRIVATE"


def test_lists_are_described_and_without_texts_have_no_diversity() -> None:
    bare = {"site-1": facts(3, vectors=False), "site-2": facts(2)}

    made = told(outcome())

    assert 0 < made["coverage@10"]["mean"] < 1
    assert 0 < made["gini@10"]["mean"] < 1
    assert 0.5 < made["diversity@10"]["mean"] < 1.5
    assert made["novelty@10"]["mean"] > 0
    assert told(outcome(facts=bare))["diversity@10"] is None


def test_slices_are_those_with_users_and_unseen_sites_are_nowhere_else() -> None:
    made = told(outcome(unseen={"site-3": ranking([1, 1, 1, 1])}))

    slices = made["slices"]
    assert {name: part["users"] for name, part in slices.items()} == {
        "new-users": 4,
        "new-items": 2,
        "unseen-sites": 4,
    }
    assert slices["unseen-sites"]["hr@10"]["mean"] == 1
    assert slices["new-items"]["ndcg@10"]["mean"] == 0.5
    assert made["ndcg@10"] == told(outcome())["ndcg@10"]
    assert [*made["sites"]] == ["site-1", "site-2"]


def test_gains_within_a_slice_are_of_the_users_that_both_rank() -> None:
    better = outcome(unseen={"site-3": ranking([1, 1, 1, 1])})
    worse = outcome(unseen={"site-3": ranking([99, 99, 99, 1])})
    none = outcome()

    gains = slice_differences(better, worse, np.random.default_rng(0))
    assert gains["unseen-sites"]["mean"] == pytest.approx(0.75)
    assert gains["new-items"]["mean"] == 0
    alone = slice_differences(better, none, np.random.default_rng(0))
    assert {*alone} == {"new-users", "new-items"}


def test_the_worst_site_and_its_gap_to_the_best_are_named() -> None:
    made = told(outcome())

    assert made["worst_site"] == "site-2"
    found = [made["sites"][name]["ndcg@10"] for name in ("site-1", "site-2")]
    assert made["gap"] == pytest.approx(found[0] - found[1])
    assert made["sites"]["site-1"]["users"] == 3


def test_sampled_figures_stand_apart_with_how_many_negatives() -> None:
    made = told(outcome(negatives=99))

    assert made["sampled"]["negatives"] == 99
    assert made["sampled"]["hr@10"]["mean"] == 1
    assert made["hr@10"]["mean"] == 0.6


def test_a_curve_is_the_mean_after_each_round_and_who_stopped_keeps_the_last() -> None:
    curves = {
        "site-1": {1: np.array([11, 11]), 2: np.array([1, 11]), 3: np.array([1, 1])},
        "site-2": {1: np.array([1, 1])},
    }

    made = told(outcome(curves=curves))

    assert made["curve"] == [
        {"round": 1, "ndcg@10": 0.5},
        {"round": 2, "ndcg@10": 0.75},
        {"round": 3, "ndcg@10": 1.0},
    ]


def test_likes_are_told_from_what_was_not_liked_by_a_map_that_validation_gives() -> (
    None
):
    """Validation says: from a score of 2 on it is a like; the test obeys in 3 of 4."""
    scores, likes = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True])
    validation = {"site-1": ranking([1], scores=scores, likes=likes)}
    asked, right = np.array([0.2, 0.5, 2.5, 9.0]), np.array([False, True, True, True])
    test = {"site-1": ranking([1, 2, 3], scores=asked, likes=right)}

    made = told(outcome(sites=test, validation=validation))["ratings"]

    assert made["events"] == 4
    assert made["accuracy"] == 0.75
    assert made["precision"] == 1.0
    assert made["recall"] == pytest.approx(2 / 3)
    assert made["mae"] == pytest.approx(0.25)
    assert made["rmse"] == 0.5


def test_a_difference_is_paired_and_comes_with_its_significance() -> None:
    rng = np.random.default_rng(0)
    good = {"site-1": ranking(rng.integers(1, 4, 60).tolist())}
    poor = {"site-1": ranking(rng.integers(8, 30, 60).tolist())}
    one, other = outcome(sites=good), outcome("local", sites=poor)

    gain = difference(one, other, rng)
    none = difference(one, one, rng)

    assert 0 < gain["low"] < gain["mean"] < gain["high"]
    assert gain["p"] < 0.001
    assert none == {"mean": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


def test_what_was_chosen_and_what_an_attack_shows_are_told() -> None:
    made = told(outcome(chosen={"lambda": 100}, exposure=3.5))

    assert made["chosen"] == {"lambda": 100}
    assert made["exposure"] == {"target": 3.5}
