"""Metrics against answers known by construction and a slow, obvious version."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.metrics import coverage, hit, interval, ndcg, ranks, top_items


def slow_rank(scores: np.ndarray, target: int, seen: np.ndarray) -> int:
    others = [j for j in range(len(scores)) if j != target and j not in set(seen)]
    return 1 + sum(bool(scores[j] >= scores[target]) for j in others)


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


def test_ndcg_and_hit_rate_follow_their_definition() -> None:
    rank = np.array([1, 2, 10, 11])

    assert ndcg(rank, 10).tolist() == pytest.approx([1, 0.6309, 0.2891, 0], abs=1e-4)
    assert hit(rank, 10).tolist() == [1, 1, 1, 0]


def test_top_items_leave_out_what_was_seen_and_come_best_first() -> None:
    scores = np.array([[5, 4, 3, 2, 1]], np.float32)

    assert top_items(scores, [np.array([0, 2])], 3).tolist() == [[1, 3, 4]]


def test_coverage_counts_distinct_items() -> None:
    assert coverage(np.array([[0, 1], [1, 2]]), 10) == 0.3


def test_the_interval_holds_the_mean_and_narrows_with_more_users() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(1000)

    wide = interval(lambda u: float(values[:50][u].mean()), 50, rng)
    narrow = interval(lambda u: float(values[u].mean()), 1000, rng)

    assert narrow[0] < values.mean() < narrow[1]
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 2
