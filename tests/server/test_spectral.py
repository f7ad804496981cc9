"""Shrinkage of singular values, and the rule that sums before it shrinks."""

import numpy as np
import numpy.typing as npt
import pytest

from server.spectral import Spectral, shrunk

SHAPE = (96, 24)
Floats = npt.NDArray[np.float32]


def signal(strength: float, seed: int = 0) -> Floats:
    """A matrix of rank 2 with two equal singular values."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.normal(size=(SHAPE[0], 2)))[0]
    right = np.linalg.qr(rng.normal(size=(SHAPE[1], 2)))[0]
    return np.asarray(strength * left @ right.T, np.float32)


def noise(seed: int, sigma: float = 1.0) -> Floats:
    return np.random.default_rng(seed).normal(0, sigma, SHAPE).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.01, 1.0, 300.0])
def test_noise_alone_leaves_next_to_nothing_whatever_its_level(sigma: float) -> None:
    left = [np.linalg.norm(shrunk(noise(seed, sigma))) for seed in range(20)]

    whole = np.linalg.norm(noise(0, sigma))
    assert np.mean(left) < 0.05 * whole
    assert np.median(left) == 0


def test_a_strong_signal_comes_through_and_most_of_the_noise_does_not() -> None:
    true = signal(60.0)
    seen = true + noise(3)

    assert np.linalg.norm(shrunk(seen) - true) < 0.45 * np.linalg.norm(seen - true)


def test_a_matrix_and_its_transpose_are_shrunk_alike() -> None:
    seen = signal(40.0) + noise(4)

    across = shrunk(seen.T).T
    assert across == pytest.approx(shrunk(seen), abs=1e-4)


def test_no_change_at_all_stays_none() -> None:
    assert not shrunk(np.zeros(SHAPE, np.float32)).any()


def test_a_signal_under_the_noise_of_each_round_is_found_in_the_sum_of_many() -> None:
    true, rule = signal(5.0), Spectral()

    steps = [rule.moved({"b": true + noise(seed)})["b"] for seed in range(40)]

    assert not steps[0].any()
    reached = np.sum(steps, axis=0)
    assert reached == pytest.approx(shrunk(rule.total["b"]), abs=1e-3)
    cosine = (reached * true).sum() / np.linalg.norm(reached) / np.linalg.norm(true)
    assert cosine > 0.9
