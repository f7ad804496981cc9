"""The audits of noise and coins pass what is real and name each bug that is planted."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from client import noise as source
from client import sampler, train
from client.examples import UserExample
from client.model import HybridModel
from client.noise import SecretStreams, insecure_streams, normal, system_uniform
from client.sampler import Uniform, poisson_draw
from client.train import UserOptimizer
from shared.protocol import Array
from simulations.audit import randomness as audit
from simulations.audit.finding import Finding

Bug = Callable[[pytest.MonkeyPatch], None]
Drawn = npt.NDArray[np.int64]
Draw = Callable[[int, float, Uniform], Drawn]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("activations")


def failed(findings: list[Finding]) -> set[str]:
    return {found.audit for found in findings if not found.holds}


def noise_is(patch: pytest.MonkeyPatch, made: Callable[[int, Uniform], Array]) -> None:
    for module in (train, source):
        patch.setattr(module, "normal", made)


def halved(patch: pytest.MonkeyPatch) -> None:
    noise_is(patch, lambda count, uniform: normal(count, uniform) * np.float32(0.5))


def a_twentieth_too_small(patch: pytest.MonkeyPatch) -> None:
    noise_is(patch, lambda count, uniform: normal(count, uniform) * np.float32(0.95))


def not_normal(patch: pytest.MonkeyPatch) -> None:
    """Uniform, with the right mean and deviation."""
    noise_is(
        patch,
        lambda count, uniform: np.asarray(
            (uniform(count) - 0.5) * np.sqrt(12), np.float32
        ),
    )


def shifted(patch: pytest.MonkeyPatch) -> None:
    noise_is(patch, lambda count, uniform: normal(count, uniform) + np.float32(0.1))


def in_pairs(patch: pytest.MonkeyPatch) -> None:
    """Every draw is used for two coordinates."""

    def doubled(count: int, uniform: Uniform) -> Array:
        return normal((count + 1) // 2, uniform).repeat(2)[:count]

    noise_is(patch, doubled)


def missing_on_one_tensor(patch: pytest.MonkeyPatch) -> None:
    real = UserOptimizer.add_noise

    def add_noise(self: UserOptimizer) -> None:
        summed = self._parts[0].clone()
        real(self)
        self._parts[0].copy_(summed)

    patch.setattr(UserOptimizer, "add_noise", add_noise)


def halved_on_one_tensor(patch: pytest.MonkeyPatch) -> None:
    real = UserOptimizer.add_noise

    def add_noise(self: UserOptimizer) -> None:
        real(self)
        self._parts[-1].div_(2)

    patch.setattr(UserOptimizer, "add_noise", add_noise)


def only_where_a_sum_is_not_zero(patch: pytest.MonkeyPatch) -> None:
    """A head's row that nobody touched stays as it is, and tells so."""
    real = UserOptimizer.add_noise

    def add_noise(self: UserOptimizer) -> None:
        touched = self.summed != 0
        real(self)
        self.summed.mul_(touched)

    patch.setattr(UserOptimizer, "add_noise", add_noise)


def missing_in_empty_steps(patch: pytest.MonkeyPatch) -> None:
    """A step that draws nobody leaves its biases without noise."""
    fold, noisy, empty = train.add_users, UserOptimizer.add_noise, [False]

    def add_users(
        model: HybridModel,
        optimizer: UserOptimizer,
        drawn: Sequence[UserExample],
        key: Sequence[int],
    ) -> None:
        empty[0] = not drawn
        fold(model, optimizer, drawn, key)

    def add_noise(self: UserOptimizer) -> None:
        noisy(self)
        if empty[0]:
            self._parts[-1].zero_()

    patch.setattr(train, "add_users", add_users)
    patch.setattr(UserOptimizer, "add_noise", add_noise)


def the_same_in_each_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        source,
        "secret_streams",
        lambda: SecretStreams(system_uniform, np.random.default_rng(7).random),
    )


def the_same_on_each_tensor(patch: pytest.MonkeyPatch) -> None:
    def add_noise(self: UserOptimizer) -> None:
        drawn = normal(max(p.numel() for p in self.params), self._noise)
        scale = self.noise_multiplier * self.max_grad_norm
        for part in self._parts:
            own = torch.from_numpy(drawn[: part.numel()])
            part.add_(own.view_as(part), alpha=scale)
        self._give()

    patch.setattr(UserOptimizer, "add_noise", add_noise)


def from_a_generator_of_the_process(patch: pytest.MonkeyPatch) -> None:
    """Nothing repeats inside a process, but two that start alike go on alike."""
    rng = np.random.default_rng()
    streams = SecretStreams(rng.random, rng.random)
    patch.setattr(source, "secret_streams", lambda: streams)


def one_key_for_every_call(patch: pytest.MonkeyPatch) -> None:
    """The system is asked once, and the same bytes are made of it again and again."""
    key = os.urandom(32)
    patch.setattr(source, "os", SimpleNamespace(urandom=lambda _: key))


def divisor_from_the_true_count(patch: pytest.MonkeyPatch) -> None:
    real = train.train_round

    def train_round(
        model: HybridModel, examples: Sequence[UserExample], *rest: Any, **named: Any
    ) -> None:
        real(model, examples, *rest, **{**named, "users": len(examples)})

    patch.setattr(train, "train_round", train_round)


def empty_batch_skipped(patch: pytest.MonkeyPatch) -> None:
    real = train._drawn

    def drawn(*given: Any) -> Iterator[tuple[list[int], list[UserExample]]]:
        return (step for step in real(*given) if step[1])

    patch.setattr(train, "_drawn", drawn)


def draw_is(patch: pytest.MonkeyPatch, draw: Draw) -> None:
    for module in (train, sampler):
        patch.setattr(module, "poisson_draw", draw)


def fixed_batches(patch: pytest.MonkeyPatch) -> None:
    """Users in turn, as many in each step as Poisson sampling draws on average."""
    place = [0]

    def draw(users: int, q: float, uniform: Uniform) -> Drawn:
        del uniform
        size = round(q * users)
        place[0] += size
        return np.arange(place[0] - size, place[0]) % users

    draw_is(patch, draw)


def shuffled_batches(patch: pytest.MonkeyPatch) -> None:
    """In each epoch of 1/q steps every user comes once, in batches of any size."""
    batch: list[Drawn] = []

    def draw(users: int, q: float, uniform: Uniform) -> Drawn:
        if not batch:
            where = np.floor(uniform(users) / q)
            batch.extend(np.flatnonzero(where == n) for n in range(round(1 / q)))
        return batch.pop()

    patch.setattr(train, "poisson_draw", draw)  # the sampler alone stays as it is


def every_user(patch: pytest.MonkeyPatch) -> None:
    draw_is(patch, lambda users, q, uniform: np.arange(users))  # noqa: ARG005


def one_coin_for_all(patch: pytest.MonkeyPatch) -> None:
    draw_is(patch, lambda users, q, uniform: np.arange(users * bool(uniform(1) < q)))


def coins_used_twice(patch: pytest.MonkeyPatch) -> None:
    """Every other step draws whom the step before drew."""
    last: list[Drawn] = []

    def draw(users: int, q: float, uniform: Uniform) -> Drawn:
        if not last:
            last.append(poisson_draw(users, q, uniform))
            return last[0]
        return last.pop()

    draw_is(patch, draw)


def never_nobody(patch: pytest.MonkeyPatch) -> None:
    """A step without users is drawn again."""

    def draw(users: int, q: float, uniform: Uniform) -> Drawn:
        drawn = poisson_draw(users, q, uniform)
        return drawn if len(drawn) else draw(users, q, uniform)

    draw_is(patch, draw)


NOISE_BUGS: list[tuple[Bug, str]] = [
    (halved, "noise.scale"),
    (halved, "noise.charged"),
    (a_twentieth_too_small, "noise.charged"),
    (halved_on_one_tensor, "noise.scale"),
    (missing_on_one_tensor, "noise.steps"),
    (only_where_a_sum_is_not_zero, "noise.steps"),
    (missing_in_empty_steps, "noise.steps"),
    (empty_batch_skipped, "noise.steps"),
    (shifted, "noise.shape"),
    (not_normal, "noise.shape"),
    (in_pairs, "noise.independent"),
    (the_same_in_each_round, "noise.independent"),
    (the_same_on_each_tensor, "noise.independent"),
    (from_a_generator_of_the_process, "noise.fresh"),
    (one_key_for_every_call, "noise.independent"),
    (one_key_for_every_call, "noise.fresh"),
    (divisor_from_the_true_count, "noise.scale"),
]
COIN_BUGS: list[tuple[Bug, str]] = [
    (fixed_batches, "sampling.training"),
    (shuffled_batches, "sampling.training"),
    (every_user, "sampling.training"),
    (every_user, "sampling.draw"),
    (one_coin_for_all, "sampling.draw"),
    (coins_used_twice, "sampling.training"),
    (never_nobody, "sampling.empty"),
    (from_a_generator_of_the_process, "sampling.fresh"),
    (one_key_for_every_call, "sampling.training"),
    (one_key_for_every_call, "sampling.fresh"),
]


def test_real_noise_passes_and_enough_of_it_was_seen(cache: Path) -> None:
    found = {finding.audit: finding for finding in audit.noise(cache)}

    assert all(finding.holds for finding in found.values())
    assert len(found) == 6
    assert found["noise.charged"].figures["charged"] == 1.3
    assert found["noise.charged"].figures["values"] == 160 * 1280
    assert min(found["noise.scale"].figures["sizes"]) >= 40 * 128  # type: ignore[arg-type]


@pytest.mark.slow
def test_real_coins_pass(cache: Path) -> None:
    found = audit.sampling(cache)

    assert not failed(found)
    assert len(found) == 4


@pytest.mark.slow
@pytest.mark.parametrize(("bug", "name"), NOISE_BUGS)
def test_a_bug_in_the_noise_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, bug: Bug, name: str
) -> None:
    bug(monkeypatch)

    assert name in failed(audit.noise(cache))


@pytest.mark.slow
@pytest.mark.parametrize(("bug", "name"), COIN_BUGS)
def test_a_bug_in_the_coins_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, bug: Bug, name: str
) -> None:
    bug(monkeypatch)

    assert name in failed(audit.sampling(cache))


def test_observed_users_are_those_whom_the_coins_drew(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle: the same coins again, read directly."""
    monkeypatch.setattr(audit, "SILENT", replace(audit.SILENT, steps=60))
    monkeypatch.setattr(source, "secret_streams", lambda: insecure_streams(3))
    coins = insecure_streams(3).coins

    seen = audit._took_part(cache)

    wanted = np.stack([coins(audit.TRAINING) < audit.SILENT.q for _ in range(60)])
    assert np.array_equal(seen, wanted)


def test_an_unlikely_verdict_is_as_rare_as_it_says() -> None:
    """Of 200 honest runs few have a chance under 0.05, and none one under 1e-4."""
    rng = np.random.default_rng(5)

    chances = [
        float(audit._coins("x", rng.random((200, 30)) < 0.2, 0.2).figures["chance"])  # type: ignore[arg-type]
        for _ in range(200)
    ]

    assert np.mean(np.less(chances, 0.05)) <= 0.1
    assert min(chances) > 1e-4


@given(found=st.integers(0, 60), q=st.floats(0.05, 0.95))
def test_the_chance_of_a_count_is_twice_its_tail(found: int, q: float) -> None:
    law = binom(60, q).pmf(np.arange(61))

    chance = audit._of_count(found, 60, q)

    tail = min(law[: found + 1].sum(), law[found:].sum())
    assert float(chance) == pytest.approx(2 * tail, rel=1e-6, abs=1e-12)


def test_what_is_no_number_is_never_likely() -> None:
    assert not audit._worst(np.array([0.5]), np.array([0.5, np.nan])) >= audit.CHANCE
