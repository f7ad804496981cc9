"""Neighbour replay passes the real trainer and names each bug that is planted in it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from client import train
from client.examples import Batch, UserExample, draw_batch
from client.model import HybridModel
from client.train import UserOptimizer
from simulations.audit import neighbours
from simulations.audit import replay as audit
from simulations.audit.finding import Finding
from simulations.audit.subject import make_model

Bug = Callable[[pytest.MonkeyPatch], None]
Draws = Iterator[tuple[list[int], list[UserExample]]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("activations")


def failed(cache: Path) -> set[str]:
    return {found.audit for found in audit.replay(cache) if not found.holds}


def by_name(findings: Sequence[Finding]) -> dict[str, Finding]:
    return {found.audit: found for found in findings}


def by_user(optimizer: UserOptimizer, users: int) -> list[Tensor]:
    """Each user's gradient [users, n], per tensor."""
    return [
        optimizer._get_flat_grad_sample(p).unflatten(0, (users, -1)).sum(1).flatten(1)
        for p in optimizer.params
    ]


def no_clip(patch: pytest.MonkeyPatch) -> None:
    def add_users(self: UserOptimizer, users: int) -> None:
        for p, gradients in zip(self.params, by_user(self, users), strict=True):
            p.summed_grad += gradients.nan_to_num(0, 0, 0).sum(0).view_as(p)
            p.grad_sample = None

    patch.setattr(UserOptimizer, "add_users", add_users)


def clip_per_row(patch: pytest.MonkeyPatch) -> None:
    """Joint over tensors; only an adapter whose rows are items shows the difference."""

    def add_users(self: UserOptimizer, users: int) -> None:
        del users
        share = self.max_grad_norm / len(self.params) ** 0.5
        for p in self.params:
            rows = self._get_flat_grad_sample(p).flatten(1)
            finite = rows.isfinite().all(1, keepdim=True)
            kept = torch.renorm(torch.where(finite, rows, 0.0), 2, 0, share)
            p.summed_grad += kept.sum(0).view_as(p)
            p.grad_sample = None

    patch.setattr(UserOptimizer, "add_users", add_users)


def clip_per_tensor(patch: pytest.MonkeyPatch) -> None:
    def add_users(self: UserOptimizer, users: int) -> None:
        for p, gradients in zip(self.params, by_user(self, users), strict=True):
            finite = gradients.isfinite().all(1, keepdim=True)
            safe = torch.where(finite, gradients, 0.0)
            kept = torch.renorm(safe, 2, 0, self.max_grad_norm)
            p.summed_grad += kept.sum(0).view_as(p)
            p.grad_sample = None

    patch.setattr(UserOptimizer, "add_users", add_users)


def head_not_clipped_with_the_rest(patch: pytest.MonkeyPatch) -> None:
    """The norm is taken over the adapter alone."""

    def add_users(self: UserOptimizer, users: int) -> None:
        gradients = by_user(self, users)
        norms = gradients[0].norm(dim=1)
        factor = (self.max_grad_norm / (norms + 1e-6)).clamp(max=1)
        for p, g in zip(self.params, gradients, strict=True):
            p.summed_grad += (factor @ g).nan_to_num(0, 0, 0).view_as(p)
            p.grad_sample = None

    patch.setattr(UserOptimizer, "add_users", add_users)


def nan_kept(patch: pytest.MonkeyPatch) -> None:
    def add_users(self: UserOptimizer, users: int) -> None:
        gradients = by_user(self, users)
        norms = torch.stack([g.square().sum(1) for g in gradients]).sum(0).sqrt()
        factor = (self.max_grad_norm / (norms + 1e-6)).clamp(max=1)
        for p, g in zip(self.params, gradients, strict=True):
            p.summed_grad += (factor @ g).view_as(p)
            p.grad_sample = None

    patch.setattr(UserOptimizer, "add_users", add_users)


def divisor_from_the_true_count(patch: pytest.MonkeyPatch) -> None:
    real = train.train_round

    def train_round(
        model: HybridModel, examples: Sequence[UserExample], *rest: Any, **named: Any
    ) -> None:
        real(model, examples, *rest, **{**named, "users": len(examples)})

    patch.setattr(train, "train_round", train_round)


def empty_batch_skipped(patch: pytest.MonkeyPatch) -> None:
    real = train._drawn

    def drawn(*given: Any) -> Draws:
        return (step for step in real(*given) if step[1])

    patch.setattr(train, "_drawn", drawn)


def empty_batch_crashes(patch: pytest.MonkeyPatch) -> None:
    real = train.add_users

    def add_users(
        model: HybridModel,
        optimizer: UserOptimizer,
        drawn: Sequence[UserExample],
        key: Sequence[int],
    ) -> None:
        drawn[0]
        real(model, optimizer, drawn, key)

    patch.setattr(train, "add_users", add_users)


def in_batch_mixing(patch: pytest.MonkeyPatch) -> None:
    """The other users' mean is a baseline: a loss that looks harmless."""
    real = HybridModel.losses

    def losses(self: HybridModel, *given: Any, **named: Any) -> Tensor:
        terms = real(self, *given, **named)
        return terms * (1 + 0.1 * terms.detach().mean())

    patch.setattr(HybridModel, "losses", losses)


def head_moved_outside_the_step(patch: pytest.MonkeyPatch) -> None:
    real = UserOptimizer.add_users

    def add_users(self: UserOptimizer, users: int) -> None:
        raw = by_user(self, users)[-1].sum(0)
        real(self, users)
        self.params[-1].data -= 1e-3 * raw.view_as(self.params[-1])

    patch.setattr(UserOptimizer, "add_users", add_users)


def head_left_to_another_optimizer(patch: pytest.MonkeyPatch) -> None:
    real = UserOptimizer.finish

    def finish(self: UserOptimizer) -> None:
        head = self.params[-1]
        raw = head.summed_grad
        real(self)
        head.grad = raw
        torch.optim.SGD([head], lr=1e-3).step()

    patch.setattr(UserOptimizer, "finish", finish)


def sum_left_over_from_the_step_before(patch: pytest.MonkeyPatch) -> None:
    def start(self: UserOptimizer) -> None:
        for p in self.params:
            if p.summed_grad is None:
                p.summed_grad = torch.zeros_like(p)

    patch.setattr(UserOptimizer, "start", start)


def last_microbatch_forgotten(patch: pytest.MonkeyPatch) -> None:
    real = train.add_users

    def add_users(
        model: HybridModel,
        optimizer: UserOptimizer,
        drawn: Sequence[UserExample],
        key: Sequence[int],
    ) -> None:
        size = train.microbatch_size(model)
        whole = drawn if len(drawn) < size else drawn[: len(drawn) // size * size]
        real(model, optimizer, whole, key)

    patch.setattr(train, "add_users", add_users)


def gradients_kept_after_the_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(UserOptimizer, "forget", lambda _: None)


def data_order_by_place(patch: pytest.MonkeyPatch) -> None:
    """A user's negatives hang on how many stand before them in the batch."""

    def by_place(drawn: Sequence[UserExample], *rest: Any) -> Batch:
        placed = [UserExample(n, user.likes) for n, user in enumerate(drawn)]
        return draw_batch(placed, *rest)

    patch.setattr(train, "draw_batch", by_place)


PLANTED: list[tuple[Bug, str]] = [
    (no_clip, "replay.unit"),
    (clip_per_row, "replay.unit"),
    (clip_per_tensor, "replay.unit"),
    (head_not_clipped_with_the_rest, "replay.unit"),
    (nan_kept, "replay.finite"),
    (divisor_from_the_true_count, "replay.count"),
    (empty_batch_skipped, "replay.steps"),
    (empty_batch_crashes, "replay.steps"),
    (in_batch_mixing, "replay.alone"),
    (data_order_by_place, "replay.alone"),
    (head_moved_outside_the_step, "replay.release"),
    (head_left_to_another_optimizer, "replay.tensors"),
    (sum_left_over_from_the_step_before, "replay.unit"),
    (last_microbatch_forgotten, "replay.microbatch"),
    (gradients_kept_after_the_round, "replay.leftover"),
]


@pytest.mark.slow
def test_the_real_trainer_passes_and_what_it_passed_was_no_empty_test(
    cache: Path,
) -> None:
    found = by_name(audit.replay(cache))

    assert all(finding.holds for finding in found.values())
    assert len(found) == 9
    assert found["replay.unit"].figures["removals"] == 32
    assert found["replay.microbatch"].figures["sizes"] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(("bug", "name"), PLANTED)
def test_a_planted_bug_is_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, bug: Bug, name: str
) -> None:
    monkeypatch.setattr(audit, "ORDERS", (1,))
    bug(monkeypatch)

    assert name in failed(cache)


@pytest.mark.slow
def test_a_leak_is_one_under_every_data_order(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_batch_mixing(monkeypatch)

    assert "replay.alone" in failed(cache)


def test_a_clip_per_row_is_seen_only_where_rows_are_items(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why one site has its adapter in attention: the other sites would pass this."""
    model = make_model(cache, items=neighbours.ITEMS, recipe=neighbours.STILL)
    clip_per_row(monkeypatch)

    def unit(subject: HybridModel) -> Finding:
        site = neighbours.make_site(subject, 1, scale=1.0, clip=0.01)
        return by_name(audit._single_users([site]))["replay.unit"]

    assert unit(model).holds
    assert not unit(neighbours.row_by_row(model, cache)).holds


def test_silence_is_exact(cache: Path) -> None:
    model = make_model(cache, items=neighbours.ITEMS, recipe=neighbours.STILL)

    assert not neighbours.make_site(model, 1, scale=0.1, clip=0.3).sums([]).any()


@given(kept=st.sets(st.integers(0, 4)), user=st.integers(0, 4))
def test_a_user_keeps_their_coins_whoever_else_is_there(
    kept: set[int], user: int
) -> None:
    there = sorted(kept | {user})
    alone, among = neighbours.coins_of([user], 5), neighbours.coins_of(there, 5)

    for _ in range(4):
        assert among(len(there))[there.index(user)] == alone(1)[0]


def test_every_user_meets_steps_with_them_and_steps_without(cache: Path) -> None:
    model = make_model(cache, items=neighbours.ITEMS, recipe=neighbours.STILL)
    site = neighbours.make_site(model, 1, scale=0.1, clip=0.3)

    for user in site.everyone():
        assert 0 < site.drawn(user).sum() < len(site.drawn(user))
