"""Neighbour replay passes the real trainer and names each bug that is planted in it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from client import gradients, train
from client.examples import Batch, UserExample, draw_batch
from client.gradients import UserGradients
from client.model import HybridModel
from client.train import UserOptimizer
from shared.output_pass import OutputPass, _Pulled
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


def no_clip(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        UserOptimizer, "_factor", lambda _, squares: squares.isfinite().float()
    )


def clip_per_item(patch: pytest.MonkeyPatch) -> None:
    """The part of each item is clipped, in text and head, and not their sum."""
    clip, start = [0.0], UserOptimizer.start
    merged, folded = gradients._merged, OutputPass.gradients

    def begin(self: UserOptimizer) -> None:
        clip[0] = self.max_grad_norm / 2**0.5
        start(self)

    def by_item(items: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        items, rows = merged(items, rows)
        if rows.shape[2] > neighbours.STILL.factors + 1:  # pulls on texts
            return items, rows
        return items, torch.renorm(rows.flatten(0, 1), 2, 0, clip[0]).view_as(rows)

    def by_text(self: OutputPass, items: Tensor, pulls: Tensor) -> Tensor:
        alone = items.reshape(-1, 1), pulls.flatten(0, 1).unsqueeze(1)
        rows = torch.renorm(folded(self, *alone), 2, 0, clip[0])
        return rows.view(*items.shape, *rows.shape[1:]).sum(1)

    no_clip(patch)
    patch.setattr(UserOptimizer, "start", begin)
    patch.setattr(gradients, "_merged", by_item)
    patch.setattr(OutputPass, "gradients", by_text)


def clip_per_part(patch: pytest.MonkeyPatch) -> None:
    """Adapter and head are clipped on their own."""
    real = UserOptimizer.add_users

    def add_users(self: UserOptimizer, users: UserGradients) -> None:
        real(self, replace(users, head=torch.zeros_like(users.head)))
        real(self, replace(users, adapter=torch.zeros_like(users.adapter)))

    patch.setattr(UserOptimizer, "add_users", add_users)


def head_not_clipped_with_the_rest(patch: pytest.MonkeyPatch) -> None:
    """The norm is taken over the adapter alone."""
    real, factor = UserOptimizer.add_users, UserOptimizer._factor
    squares = [torch.zeros(0)]

    def add_users(self: UserOptimizer, users: UserGradients) -> None:
        squares[0] = users.adapter.square().sum(1)
        real(self, users)

    patch.setattr(UserOptimizer, "add_users", add_users)
    patch.setattr(UserOptimizer, "_factor", lambda self, _: factor(self, squares[0]))


def equal_items_not_merged(patch: pytest.MonkeyPatch) -> None:
    """A head's row that a user touches often is longer than its parts say."""
    patch.setattr(gradients, "_merged", lambda items, rows: (items, rows))


def nan_kept(patch: pytest.MonkeyPatch) -> None:
    real = UserOptimizer._factor

    def factor(self: UserOptimizer, squares: Tensor) -> Tensor:
        return real(self, squares) + 0 * squares

    patch.setattr(UserOptimizer, "_factor", factor)
    patch.setattr(train, "_finite", lambda found, _: found)


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

    def add_users(self: UserOptimizer, users: UserGradients) -> None:
        real(self, users)
        raw = 1e-3 * users.head[..., -1:].flatten(0, 1)
        self.params[-1].data.index_add_(0, users.items.flatten(), -raw)

    patch.setattr(UserOptimizer, "add_users", add_users)


def head_left_to_another_optimizer(patch: pytest.MonkeyPatch) -> None:
    real = UserOptimizer.finish

    def finish(self: UserOptimizer) -> None:
        head, raw = self.params[-1], self._biases.clone()
        real(self)
        head.grad = raw
        torch.optim.SGD([head], lr=1e-3).step()

    patch.setattr(UserOptimizer, "finish", finish)


def sum_left_over_from_the_step_before(patch: pytest.MonkeyPatch) -> None:
    def start(self: UserOptimizer) -> None:
        for p in self.params:
            p.grad = None

    patch.setattr(UserOptimizer, "start", start)


def gradient_left_over_from_the_step_before(patch: pytest.MonkeyPatch) -> None:
    """Autograd adds to a gradient that is there, and this one is part of the sum."""
    patch.setattr(UserOptimizer, "start", lambda self: self.summed.zero_())


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


def tokens_of_the_user_before(patch: pytest.MonkeyPatch) -> None:
    """A part of each user's gradient of B goes to another user."""
    real = _Pulled.by_users

    def by_users(self: _Pulled, most: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for users, at, there in real(self, most):
            yield users.roll(1), at, there

    patch.setattr(_Pulled, "by_users", by_users)


def padding_counted(patch: pytest.MonkeyPatch) -> None:
    """How much of it there is, others decide."""
    real = _Pulled.by_users

    def by_users(self: _Pulled, most: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for users, at, there in real(self, most):
            yield users, at, torch.ones_like(there)

    patch.setattr(_Pulled, "by_users", by_users)


def data_order_by_place(patch: pytest.MonkeyPatch) -> None:
    """A user's negatives hang on how many stand before them in the batch."""

    def by_place(drawn: Sequence[UserExample], *rest: Any) -> Batch:
        placed = [UserExample(n, user.likes) for n, user in enumerate(drawn)]
        return draw_batch(placed, *rest)

    patch.setattr(gradients, "draw_batch", by_place)


PLANTED: list[tuple[Bug, str]] = [
    (no_clip, "replay.unit"),
    (clip_per_item, "replay.unit"),
    (clip_per_part, "replay.unit"),
    (head_not_clipped_with_the_rest, "replay.unit"),
    (equal_items_not_merged, "replay.unit"),
    (nan_kept, "replay.finite"),
    (divisor_from_the_true_count, "replay.count"),
    (empty_batch_skipped, "replay.steps"),
    (empty_batch_crashes, "replay.steps"),
    (in_batch_mixing, "replay.alone"),
    (tokens_of_the_user_before, "replay.alone"),
    (padding_counted, "replay.alone"),
    (data_order_by_place, "replay.alone"),
    (head_moved_outside_the_step, "replay.release"),
    (head_left_to_another_optimizer, "replay.tensors"),
    (sum_left_over_from_the_step_before, "replay.unit"),
    (gradient_left_over_from_the_step_before, "replay.unit"),
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
    assert found["replay.unit"].figures["removals"] == 40
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


def test_a_gradient_left_over_is_seen_only_where_autograd_has_the_parameters(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why one site has its adapter in attention: the other sites would pass this."""
    model = make_model(cache, items=neighbours.ITEMS, recipe=neighbours.STILL)
    gradient_left_over_from_the_step_before(monkeypatch)

    def unit(subject: HybridModel) -> Finding:
        site = neighbours.make_site(subject, 1, scale=0.3, clip=0.01)
        few = replace(site, histories=site.histories[:3])
        return by_name(audit._single_users([few]))["replay.unit"]

    assert unit(model).holds
    assert not unit(neighbours.by_hooks(model, cache)).holds


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
