"""The trainer's guarantee: one user, one clip, noise always, nothing across users."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor
from torch.autograd import backward

from client.examples import UserExample, draw_batch
from client.gradients import UserGradients, user_gradients
from client.model import HybridModel
from client.noise import insecure_streams, secret_streams, system_uniform
from client.train import (
    add_users,
    microbatch_size,
    private_step,
    train_round,
)
from tests.factories import mechanism, tiny_model, users

KEY = [7, 1]
NAMES = ("adapter", "items", "head")


def flat(model: HybridModel, tensors: Sequence[Tensor] | None = None) -> Tensor:
    given = (
        tensors
        if tensors is not None
        else [p.detach() for p in model.trained.parameters()]
    )
    return torch.cat([t.reshape(-1) for t in given]).clone()


def terms(model: HybridModel, drawn: list[UserExample]) -> Tensor:
    """The losses by plain autograd: every text of every user through the encoder."""
    batch = draw_batch(drawn, model.recipe, KEY)

    def vectors(items: Tensor) -> Tensor:
        sums = model.encoder.sums(model.activations, items.flatten())
        return model._centred(sums).view(*items.shape, -1)

    def head(items: Tensor) -> Tensor:
        return torch.cat(model.head(items), dim=-1)

    return model.losses(batch, model.item_rows(), vectors, head)


def gradients(model: HybridModel, drawn: list[UserExample]) -> UserGradients:
    return user_gradients(model, model.encoded(), drawn, KEY)


def clipped_sum(
    model: HybridModel, drawn: list[UserExample], clip: float, size: int | None = None
) -> Tensor:
    """What is noised: the sum of clipped user gradients, joined over all tensors."""
    with private_step(model, mechanism(clip=clip), 10, system_uniform) as optimizer:
        optimizer.start()
        add_users(model, optimizer, drawn, KEY, size)
        return optimizer.summed.clone()


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


def test_opacus_own_step_agrees_where_a_row_is_a_user(tmp_path: Path) -> None:
    """Opacus' clip and sum over the same gradients, kept whole, are the oracle."""
    model, drawn = tiny_model(tmp_path), users(6)
    found = gradients(model, drawn)
    head = torch.zeros(6, model.catalogue, found.head.shape[2])
    head.scatter_add_(1, found.items.unsqueeze(2).expand_as(found.head), found.head)
    whole = torch.cat([found.adapter, head[..., :-1].flatten(1), head[..., -1]], dim=1)
    weight = torch.nn.Parameter(torch.zeros(whole.shape[1]))
    stock = DPOptimizer(
        torch.optim.SGD([weight], lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=0.05,
        expected_batch_size=None,
        loss_reduction="sum",
    )
    stock.params[0].grad_sample = whole
    stock.clip_and_accumulate()

    got = clipped_sum(model, drawn, clip=0.05)

    assert torch.allclose(got, stock.params[0].summed_grad, atol=1e-6)
    assert whole.norm(dim=1).max() > 0.05


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
    for part in ("adapter", "head"):
        spoiled = gradients(model, drawn)
        getattr(spoiled, part)[1].view(-1)[0] = value

        with private_step(model, mechanism(clip=0.1), 10, system_uniform) as optimizer:
            optimizer.start()
            optimizer.add_users(spoiled)
            got = optimizer.summed.clone()

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
    model = tiny_model(tmp_path, modules="dense:1")

    train_round(
        model, users(9), mechanism(), users=9, streams=secret_streams(), key=KEY
    )

    for p in model.trained.parameters():
        for name in ("grad", "grad_sample", "summed_grad"):
            assert getattr(p, name, None) is None


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


def test_training_without_privacy_is_the_same_step_without_clip_and_noise(
    tmp_path: Path,
) -> None:
    model, drawn = tiny_model(tmp_path), users(6)
    wanted = torch.stack([plain_gradient(model, user) for user in drawn]).sum(0)
    silent = mechanism(sigma=0.0, prior_sigma=0.0, clip=1e-3)

    with private_step(model, silent, 10, system_uniform) as optimizer:
        optimizer.start()
        add_users(model, optimizer, drawn, KEY)
        optimizer.add_noise()

        assert torch.allclose(optimizer.summed, wanted, atol=1e-5)


def test_memory_grows_with_what_users_touch_not_with_the_catalogue(
    tmp_path: Path,
) -> None:
    """No tensor of gradients has both the users' and the catalogue's size."""
    few, many = (tiny_model(tmp_path, items=items) for items in (30, 90))

    sizes = [
        {name: getattr(gradients(model, users(5)), name).shape for name in NAMES}
        for model in (few, many)
    ]

    assert sizes[0] == sizes[1]


def test_bfloat16_of_what_is_frozen_changes_a_gradient_by_its_rounding(
    tmp_path: Path,
) -> None:
    for modules in ("output", "dense:1"):
        exact = tiny_model(tmp_path, modules=modules)
        low = tiny_model(tmp_path, modules=modules, training="bfloat16")

        wanted, got = (clipped_sum(model, users(5), 1e5) for model in (exact, low))

        assert low.encoder.dtype == torch.bfloat16
        assert got.dtype == torch.float32
        assert 0 < (got - wanted).norm() < 0.05 * wanted.norm()


def test_what_else_lies_in_a_gradient_never_joins_the_sum(tmp_path: Path) -> None:
    """Autograd adds to ``grad`` by itself: a step must not take that along."""
    model, drawn = tiny_model(tmp_path, modules="dense:1"), users(3)
    wanted = clipped_sum(model, drawn, clip=0.1)

    with private_step(model, mechanism(clip=0.1), 10, system_uniform) as optimizer:
        for _ in range(2):
            optimizer.start()
            add_users(model, optimizer, drawn, KEY)
            assert torch.allclose(optimizer.summed, wanted, atol=1e-6)
            optimizer.add_noise()


def test_a_plain_step_is_the_noised_sum_in_units_of_the_clip(tmp_path: Path) -> None:
    """Noise stays white and of a size that is public: what ``spectral`` rests on."""
    model = tiny_model(
        tmp_path, optimizer="sgd", head="cooccurrence", learning_rate=3.0
    )
    weight = next(model.trained.parameters())
    steps, noise = [], mechanism(sigma=2.0, clip=0.01, steps=1)
    for seed in range(200):
        before = weight.detach().clone()
        train_round(
            *(model, [], noise), users=10, streams=insecure_streams(seed), key=KEY
        )
        steps.append((weight.detach() - before).flatten())

    drawn = torch.stack(steps)
    wanted = 3.0 * 2.0 / (noise.q * 10)
    assert float(drawn.std()) == pytest.approx(wanted, rel=0.05)
    assert float(drawn.std(0).min()) > 0.75 * wanted


def test_a_head_from_a_release_is_not_trained(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, optimizer="sgd", head="cooccurrence")
    before = model.head.state()

    train_round(
        model, users(9), mechanism(), users=9, streams=secret_streams(), key=KEY
    )

    assert len(list(model.trained.parameters())) == 1
    assert all(np.array_equal(a, before[n]) for n, a in model.head.state().items())
