"""Our metrics and those of two libraries agree on random scores."""

import json
import os
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest

from shared.metrics import decisions, hit, mrr, ndcg, ranks, rating_errors

pytestmark = pytest.mark.slow  # to import either library takes seconds

USERS, ITEMS, CUTS = 40, 60, (1, 5, 10, 20)
OURS = {"ndcg": ndcg, "hit_rate": hit, "reciprocal_rank": mrr}

# ranx compiles for minutes what it runs here in a moment without its compiler.
RANX = """
import json, sys
import numpy as np
from ranx import metrics
asked = json.load(sys.stdin)
truth = [np.array([[item, 1.0]]) for item in asked["targets"]]
lists = [np.array([(item, -place) for place, item in enumerate(row)], float)
         for row in asked["lists"]]
print(json.dumps({
    f"{name}@{k}": getattr(metrics, name)(truth, lists, k=k, rel_lvl=1).tolist()
    for name in asked["names"] for k in asked["cuts"]
}))
"""


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(USERS, ITEMS)).astype(np.float32)


@pytest.fixture(scope="module")
def targets() -> np.ndarray:
    return np.random.default_rng(1).integers(0, ITEMS // 2, USERS)


def rank_of(scores: np.ndarray, targets: np.ndarray) -> Any:
    return ranks(scores, targets, [np.zeros(0, np.int64)] * len(targets))


def test_ranks_metrics_are_those_of_ranx(
    scores: np.ndarray, targets: np.ndarray
) -> None:
    asked = {
        "targets": targets.tolist(),
        "lists": np.argsort(-scores, axis=1).tolist(),
        "names": [*OURS],
        "cuts": CUTS,
    }
    said = subprocess.run(
        [sys.executable, "-c", RANX],
        input=json.dumps(asked),
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(said.stdout)

    rank = rank_of(scores, targets)
    for name, metric in OURS.items():
        for k in CUTS:
            assert metric(rank, k).tolist() == pytest.approx(theirs[f"{name}@{k}"])


def test_ranks_metrics_are_those_of_torchmetrics(
    scores: np.ndarray, targets: np.ndarray
) -> None:
    import torch  # noqa: PLC0415
    from torchmetrics.functional import retrieval  # noqa: PLC0415

    theirs = {
        "ndcg": retrieval.retrieval_normalized_dcg,
        "hit_rate": retrieval.retrieval_hit_rate,
        "reciprocal_rank": retrieval.retrieval_reciprocal_rank,
    }
    rank = rank_of(scores, targets)

    for name, metric in OURS.items():
        for k in CUTS:
            found = [
                partial(theirs[name], top_k=k)(
                    torch.from_numpy(row), torch.arange(ITEMS) == int(target)
                ).item()
                for row, target in zip(scores, targets, strict=True)
            ]
            assert metric(rank, k).tolist() == pytest.approx(found, abs=1e-5)


def test_rating_metrics_are_those_of_torchmetrics() -> None:
    import torch  # noqa: PLC0415
    from torchmetrics import functional  # noqa: PLC0415
    from torchmetrics.functional import classification  # noqa: PLC0415

    rng = np.random.default_rng(2)
    chance, truth = rng.random(200), rng.random(200) < 0.4
    told, right = torch.from_numpy(chance), torch.from_numpy(truth)

    made = rating_errors(chance, truth.astype(np.float64))
    made |= decisions(chance >= 0.5, truth)

    theirs = {
        "mae": functional.mean_absolute_error(told, right.double()),
        "rmse": functional.mean_squared_error(told, right.double(), squared=False),
        "accuracy": classification.binary_accuracy(told, right),
        "precision": classification.binary_precision(told, right),
        "recall": classification.binary_recall(told, right),
        "f1": classification.binary_f1_score(told, right),
    }
    assert made == pytest.approx({name: float(v) for name, v in theirs.items()})
