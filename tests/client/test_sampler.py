"""Poisson sampling as the accountant assumes it (PRIVACY.md 7.5, sampler test)."""

import numpy as np

from client.noise import system_uniform
from client.sampler import poisson_draw


def draws(users: int, q: float, steps: int) -> np.ndarray:
    made = np.zeros((steps, users), bool)
    for step in range(steps):
        made[step, poisson_draw(users, q, system_uniform)] = True
    return made


def test_every_user_is_drawn_at_the_stated_rate() -> None:
    counts = draws(1000, 0.2, 2000).sum(axis=0)

    assert np.abs(counts - 400).max() < 5.5 * 17.9


def test_batch_sizes_vary_as_independent_coins_do() -> None:
    sizes = draws(1000, 0.2, 2000).sum(axis=1)

    assert abs(sizes.mean() - 200) < 4 * np.sqrt(160 / 2000)
    assert abs(sizes.var() / 160 - 1) < 5 * np.sqrt(2 / 2000)


def test_users_and_successive_steps_are_independent() -> None:
    made = draws(40, 0.2, 20_000).astype(float)
    pairs = np.corrcoef(made.T) - np.eye(40)
    steps = np.corrcoef(made[:-1].reshape(-1), made[1:].reshape(-1))[0, 1]

    assert np.abs(pairs).max() < 5.5 / np.sqrt(20_000)
    assert abs(steps) < 5 / np.sqrt(made.size)


def test_a_small_site_has_empty_steps_as_often_as_it_should() -> None:
    empty = (draws(5, 0.2, 20_000).sum(axis=1) == 0).mean()

    assert abs(empty - 0.8**5) < 5 * np.sqrt(0.33 * 0.67 / 20_000)
