"""The trainer's guarantee: one user, one clip, noise always, nothing across users."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor
from torch.autograd import backward

from client.examples import UserExample, draw_batch
from client.model import HybridModel
from client.noise import insecure_streams, secret_streams, system_uniform
from client.train import add_users, microbatch_size, private_step, train_round
from tests.factories import mechanism, tiny_model, users

KEY = [7, 1]


def flat(model: HybridModel, tensors: Sequence[Tensor] | None = None) -> Tensor:
    given = (
        tensors
        if tensors is not None
        else [p.detach() for p in model.trained.parameters()]
    )
    return torch.cat([t.reshape(-1) for t in given]).clone()


def terms(
    model: HybridModel, drawn: list[UserExample], *, shared_rows: bool = False
) -> Tensor:
    batch = draw_batch(drawn, model.recipe, KEY)
    return model.losses(batch, model.item_rows(), shared_rows=shared_rows)


def clipped_sum(
    model: HybridModel, drawn: list[UserExample], clip: float, size: int | None = None
) -> Tensor:
    """What is noised: the sum of clipped user gradients, joined over all tensors."""
    with private_step(model, mechanism(clip=clip), 10, system_uniform) as optimizer:
        optimizer.start()
        add_users(model, optimizer, drawn, KEY, size)
        return flat(model, [p.summed_grad for p in optimizer.params])


def plain_gradient(model: HybridModel, user: UserExample) -> Tensor:
    """The oracle: one user alone, plain autograd."""
    model.zero_grad()
    backward(terms(model, [user]).sum())
    return flat(
        model, [p.grad for p in model.trained.parameters() if p.grad is not None]
    )


@pytest.mark.parametrize("modules", ["output", "dense:1", "attention:2"])
def test_per_user_gradients_equal_a_loop_over_users(
    tmp_path: Path, modules: str
) -> None:
    model, drawn = tiny_model(tmp_path, modules=modules), users(5)
    wanted = torch.stack([plain_gradient(model, user) for user in drawn]).sum(0)

    got = clipped_sum(model, drawn, clip=1e5)

    assert wanted.norm() > 0.05
    assert torch.allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("likes", [1, 2, 30, 50])
def test_one_user_moves_the_sum_by_at_most_the_clip_norm(
    tmp_path: Path, likes: int
) -> None:
    model = tiny_model(tmp_path, items=60, targets=3, negatives=20)
    rest, one = users(4, items=60), users(1, items=60, likes=likes, seed=9)

    without = clipped_sum(model, rest, clip=0.01)
    with_user = clipped_sum(model, [*rest, *one], clip=0.01)

    moved = (with_user - without).norm()
    assert moved <= 0.01 * (1 + 1e-4)
    assert moved > 0.009 or likes == 1  # one like leaves no history to learn from


def test_clipping_shortens_the_gradient_and_keeps_its_direction(tmp_path: Path) -> None:
    model, drawn = tiny_model(tmp_path), users(1)
    whole = plain_gradient(model, drawn[0])

    got = clipped_sum(model, drawn, clip=0.01)

    assert got.norm() == pytest.approx(0.01, rel=1e-3)
    assert torch.allclose(got / got.norm(), whole / whole.norm(), atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_size_of_microbatches_does_not_change_the_sum(
    tmp_path: Path, size: int
) -> None:
    model, drawn = tiny_model(tmp_path), users(7)

    assert torch.allclose(
        clipped_sum(model, drawn, 0.1, size),
        clipped_sum(model, drawn, 0.1, 100),
        atol=1e-6,
    )


def test_a_user_does_not_see_who_else_is_in_the_batch(tmp_path: Path) -> None:
    model, drawn = tiny_model(tmp_path), users(4)
    alone = [terms(model, [user]) for user in drawn]

    together = terms(model, drawn)

    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_the_stock_optimizer_agrees_where_a_row_is_a_user(tmp_path: Path) -> None:
    """K = 1 row per user and no noise: Opacus' own step is the oracle."""
    layer = torch.nn.Linear(3, 2, bias=False)
    rows = torch.randn(
        6, 3, generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    hooks = GradSampleModule(layer, loss_reduction="sum")
    stock = DPOptimizer(
        torch.optim.SGD(layer.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=0.5,
        expected_batch_size=None,
        loss_reduction="sum",
    )
    hooks(rows).square().sum().backward()
    (weight,) = stock.params
    ours = weight.grad_sample.clone()
    stock.clip_and_accumulate()

    norms = ours.flatten(1).norm(dim=1)
    assert torch.allclose(
        weight.summed_grad,
        ((0.5 / (norms + 1e-6)).clamp(max=1) @ ours.flatten(1)).view(2, 3),
    )
    with private_step(
        tiny_model(tmp_path), mechanism(clip=0.5), 6, system_uniform
    ) as step:
        step.original_optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
        stock_sum = weight.summed_grad.clone()
        step.start()
        weight.grad_sample = ours
        step.add_users(6)
        assert torch.allclose(weight.summed_grad, stock_sum, atol=1e-5)


def test_noise_has_the_stated_deviation_and_never_repeats(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, items=400)
    drawn = []
    with private_step(
        model, mechanism(sigma=2.0, clip=0.5), 10, system_uniform
    ) as optimizer:
        for _ in range(4):
            optimizer.start()
            optimizer.add_noise()
            drawn.append([p.grad.reshape(-1).clone() for p in optimizer.params])

    for tensors in drawn:
        for z in tensors:
            assert abs(float(z.std()) - 1.0) < 4 / np.sqrt(2 * z.numel())
            assert abs(float(z.mean())) < 4 / np.sqrt(z.numel())
    joined = torch.stack([torch.cat(tensors) for tensors in drawn])
    close = torch.corrcoef(joined) - torch.eye(4)
    assert float(close.abs().max()) < 5 / np.sqrt(joined.shape[1])


def test_an_empty_draw_is_a_step_of_noise_alone(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    before = flat(model)

    train_round(
        model, [], mechanism(steps=1), users=10, streams=insecure_streams(3), key=KEY
    )

    assert bool((flat(model) != before).all())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_a_user_with_a_gradient_that_is_not_finite_adds_nothing(
    tmp_path: Path, value: float
) -> None:
    """Even where only one number of one row is bad; 1e30 overflows in the norm."""
    model, drawn = tiny_model(tmp_path), users(3)
    honest = clipped_sum(model, [drawn[0], drawn[2]], clip=0.1)

    with private_step(model, mechanism(clip=0.1), 10, system_uniform) as optimizer:
        optimizer.start()
        backward(terms(model, drawn).sum())
        for p in optimizer.params:
            p.grad_sample[len(p.grad_sample) // 3].view(-1)[0] = value
        optimizer.add_users(3)
        got = flat(model, [p.summed_grad for p in optimizer.params])

    assert torch.allclose(got, honest, atol=1e-6)


def test_same_seed_gives_equal_bytes_with_test_noise(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        model = tiny_model(tmp_path)
        train_round(
            model,
            users(12),
            mechanism(),
            users=12,
            streams=insecure_streams(4),
            key=KEY,
        )
        made.append(flat(model).numpy().tobytes())

    assert made[0] == made[1]


def test_the_operating_systems_noise_differs_from_run_to_run(tmp_path: Path) -> None:
    made = []
    for _ in range(2):
        model = tiny_model(tmp_path)
        train_round(
            model, users(12), mechanism(), users=12, streams=secret_streams(), key=KEY
        )
        made.append(flat(model))

    assert bool((made[0] != made[1]).all())


def test_what_changes_is_exactly_what_is_clipped_and_noised(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    covered = {id(p) for p in model.trained.parameters()}
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    frozen = [
        p.detach().clone()
        for p in model.encoder._model.parameters()
        if id(p) not in covered
    ]

    train_round(
        model, users(9), mechanism(), users=9, streams=secret_streams(), key=KEY
    )

    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n, p in model.named_parameters() if id(p) in covered}
    after = [p for p in model.encoder._model.parameters() if id(p) not in covered]
    assert all(torch.equal(a, b) for a, b in zip(after, frozen, strict=True))


def test_nothing_before_noise_outlives_a_round(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)

    train_round(
        model, users(9), mechanism(), users=9, streams=secret_streams(), key=KEY
    )

    for p in model.trained.parameters():
        for name in ("grad", "grad_sample", "summed_grad"):
            assert getattr(p, name) is None


def test_constants_do_not_depend_on_how_many_users_there_are(tmp_path: Path) -> None:
    """U against U + 1: same divisor, same microbatch, same number of noise draws."""
    spent = []
    for count in (9, 10):
        draws: list[int] = []

        def counted(n: int, draws: list[int] = draws) -> np.ndarray:
            draws.append(n)
            return system_uniform(n)

        model = tiny_model(tmp_path)
        with private_step(model, mechanism(), 12, counted) as optimizer:
            for _ in range(3):
                optimizer.start()
                add_users(model, optimizer, users(count), KEY)
                optimizer.finish()
            spent.append((optimizer._divisor, microbatch_size(model), draws))

    assert spent[0] == spent[1]
    assert spent[0][0] == 0.5 * 12


def test_training_without_privacy_equals_the_private_path_without_clip_and_noise(
    tmp_path: Path,
) -> None:
    """Sharing encoded rows over users changes speed, not the gradient."""
    plain, private = tiny_model(tmp_path), tiny_model(tmp_path)
    drawn = users(6)
    backward(terms(plain, drawn, shared_rows=True).sum())

    got = clipped_sum(private, drawn, clip=1e5)

    wanted = flat(
        plain, [p.grad for p in plain.trained.parameters() if p.grad is not None]
    )
    assert torch.allclose(got, wanted, atol=1e-5)
