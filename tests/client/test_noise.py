"""The secret streams: distribution, independence, and where they come from."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import kstest

from client.noise import insecure_streams, normal, secret_streams, system_uniform

CODE = (
    "from client.noise import normal, system_uniform as u; print(normal(8, u).tolist())"
)


def test_noise_is_standard_normal() -> None:
    drawn = normal(200_000, system_uniform).astype(np.float64)

    assert abs(drawn.std() - 1) < 4 / np.sqrt(2 * drawn.size)
    assert abs(drawn.mean()) < 4 / np.sqrt(drawn.size)
    assert kstest(drawn, "norm").pvalue > 1e-6


def test_two_draws_are_independent_even_from_a_common_pair() -> None:
    drawn = np.stack([normal(50_000, system_uniform) for _ in range(4)])
    halves = np.concatenate([drawn[:, :25_000], drawn[:, 25_000:]])

    off = np.corrcoef(halves) - np.eye(8)

    assert np.abs(off).max() < 5 / np.sqrt(25_000)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_any_count_can_be_drawn(count: int) -> None:
    assert normal(count, system_uniform).shape == (count,)


@pytest.mark.slow
def test_processes_started_alike_draw_different_noise() -> None:
    drawn = {
        subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, check=True
        ).stdout
        for _ in range(2)
    }

    assert len(drawn) == 2


def test_secret_streams_come_from_the_operating_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def urandom(count: int) -> bytes:
        asked.append(count)
        return b"\x01" * count

    monkeypatch.setattr("client.noise.os.urandom", urandom)

    secret_streams().noise(3)
    secret_streams().coins(2)

    assert asked == [32, 32]  # a key of 256 bits for each call, never a shorter one


def test_uniform_draws_stay_below_one_and_never_give_an_infinite_normal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("client.noise.secret_bytes", lambda n: b"\xff" * n)

    assert system_uniform(4).max() < 1
    assert np.isfinite(normal(4, system_uniform)).all()


def test_test_noise_repeats_by_key_and_its_coins_are_another_stream() -> None:
    one, same, other = (
        insecure_streams(1, 2),
        insecure_streams(1, 2),
        insecure_streams(1, 3),
    )
    first = one.noise(5)

    assert np.array_equal(first, same.noise(5))
    assert not np.array_equal(first, other.noise(5))
    assert not np.array_equal(first, one.coins(5))
