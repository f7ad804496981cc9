"""Metrics against answers known by construction and a slow, obvious version.

``test_metric_oracles.py`` holds the same metrics against ranx and torchmetrics.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.metrics import (
    coverage,
    decisions,
    diversity,
    gini,
    hit,
    mrr,
    ndcg,
    novelty,
    ranks,
    rating_errors,
    sampled_ranks,
    top_items,
)


def slow_rank(scores: np.ndarray, target: int, seen: np.ndarray) -> int:
    others = [j for j in range(len(scores)) if j != target and j not in set(seen)]
    return 1 + sum(bool(scores[j] >= scores[target]) for j in others)


def slow_gini(shown: np.ndarray) -> float:
    """Half the mean difference of all pairs, over the mean."""
    return float(np.abs(shown[:, None] - shown).mean() / (2 * shown.mean()))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_ranks_equal_counting_by_hand_with_ties_against_the_item(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (6, 12)).astype(np.float32)
    targets = rng.integers(0, 12, 6)
    seen = [
        rng.permutation(np.delete(np.arange(12), t))[: rng.integers(0, 6)]
        for t in targets
    ]

    got = ranks(scores, targets, seen)

    assert got.tolist() == [
        slow_rank(scores[u], int(targets[u]), seen[u]) for u in range(6)
    ]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_a_sampled_rank_is_the_rank_among_target_and_negatives_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (6, 12)).astype(np.float32)
    drawn = np.array([rng.permutation(12)[:5] for _ in range(6)])
    targets, negatives = drawn[:, 0], drawn[:, 1:]
    rest = [np.setdiff1d(np.arange(12), row) for row in drawn]

    assert np.array_equal(
        sampled_ranks(scores, targets, negatives), ranks(scores, targets, rest)
    )


def test_metrics_of_ranks_follow_their_definitions() -> None:
    rank = np.array([1, 2, 10, 11])

    assert ndcg(rank, 10).tolist() == pytest.approx([1, 0.6309, 0.2891, 0], abs=1e-4)
    assert hit(rank, 10).tolist() == [1, 1, 1, 0]
    assert mrr(rank, 10).tolist() == [1, 0.5, 0.1, 0]


def test_top_items_leave_out_what_was_seen_and_come_best_first() -> None:
    scores = np.array([[5, 4, 3, 2, 1]], np.float32)

    assert top_items(scores, [np.array([0, 2])], 3).tolist() == [[1, 3, 4]]


def test_coverage_counts_items_that_are_shown_to_anybody() -> None:
    assert coverage(np.array([1.0, 0.0, 5.0, 2.0]), 10) == 0.3


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 5))
def test_gini_is_half_the_mean_difference_of_pairs_over_the_mean(
    shown: list[int], never: int
) -> None:
    """Items that are never shown count, whether they are named or left out."""
    known = np.array([*shown, 1.0])
    whole = np.concatenate([known, np.zeros(never)])

    assert gini(known, len(whole)) == pytest.approx(slow_gini(whole))


def test_gini_takes_many_rows_at_once() -> None:
    shown = np.array([[2.0, 2.0, 2.0], [0.0, 0.0, 6.0]])

    assert gini(shown, 3).tolist() == pytest.approx([0, 2 / 3])


def test_novelty_is_the_mean_of_bits_of_how_many_like_an_item() -> None:
    likers = np.array([7, 3, 0])

    assert novelty(np.array([[0, 1], [2, 2]]), likers, 7).tolist() == [0.5, 3.0]


def test_diversity_is_one_minus_the_mean_cosine_of_pairs_of_a_list() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(9, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    top = np.array([[0, 3, 5], [8, 1, 2]])

    expected = [
        1 - np.mean([vectors[a] @ vectors[b] for a in row for b in row if a != b])
        for row in top
    ]
    assert diversity(top, vectors).tolist() == pytest.approx(expected, abs=1e-6)
    assert diversity(top[:, :1], vectors).tolist() == [0, 0]


def test_rating_errors_and_decisions_follow_their_definitions() -> None:
    errors = rating_errors(np.array([1.0, 2.0]), np.array([2.0, 5.0]))
    made = decisions(
        np.array([True, True, False, False]), np.array([True, False, True, False])
    )

    assert errors == pytest.approx({"mae": 2.0, "rmse": 5**0.5})
    assert made == {"accuracy": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5}


def test_who_decides_nothing_scores_zero_and_not_a_fault() -> None:
    none = np.zeros(3, bool)

    assert decisions(none, none) == {
        "accuracy": 1.0,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
    }
