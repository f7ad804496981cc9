"""The whole training path on a CUDA card gives what the CPU gives; skipped without one.

What is compared is a step's sum before noise, for the noise is never the same twice.
"""

from pathlib import Path

import pytest
import torch

from client.head import FactorHead
from client.model import HybridModel
from client.noise import insecure_streams
from client.train import add_users, private_step, train_round
from shared.encoder import TextEncoder, load_base
from tests.factories import mechanism, small_recipe, texts, tiny_spec, users

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no CUDA card"
)
KEY = [7, 1]
ITEMS = 30


def model_on(
    device: str, folder: Path, modules: str, training: str = "float32"
) -> HybridModel:
    encoder = TextEncoder(
        load_base("tiny"), tiny_spec(modules=modules), device=device, training=training
    )
    drawn = torch.Generator().manual_seed(3)
    encoder.set_adapter(
        {
            name: torch.randn(shape, generator=drawn).mul(0.1).numpy()
            for name, shape in encoder.shapes().items()
        }
    )
    stored = encoder.open_store(folder).open(texts(ITEMS))
    activations = stored.to(encoder.device)
    recipe = small_recipe()
    prior = torch.linspace(0, 1, ITEMS).numpy()
    return HybridModel(
        encoder,
        activations,
        encoder.frozen_mean(activations),
        FactorHead(ITEMS, recipe.factors, recipe.seed),
        prior,
        recipe,
    )


def summed(model: HybridModel) -> torch.Tensor:
    noise = insecure_streams(1).noise
    with private_step(model, mechanism(clip=0.1), 10, noise) as optimizer:
        optimizer.start()
        add_users(model, optimizer, users(7), KEY)
        return optimizer.summed.cpu()


@pytest.mark.parametrize("modules", ["output", "dense:1", "attention:1"])
def test_a_steps_sum_is_that_of_the_cpu(tmp_path: Path, modules: str) -> None:
    there = summed(model_on("cuda", tmp_path, modules))

    here = summed(model_on("cpu", tmp_path, modules))

    assert there.norm() > 0
    assert torch.allclose(there, here, atol=1e-4)


def test_in_bfloat16_a_round_changes_everything_that_is_trained(tmp_path: Path) -> None:
    model = model_on("cuda", tmp_path, "output", "bfloat16")
    before = [p.detach().clone() for p in model.trained.parameters()]

    train_round(
        model, users(9), mechanism(), users=9, streams=insecure_streams(2), key=KEY
    )

    after = list(model.trained.parameters())
    assert all(p.is_cuda and p.dtype == torch.float32 for p in after)
    assert all((a != b).all() for a, b in zip(after, before, strict=True))


def test_several_sites_share_one_card_and_one_encoder(tmp_path: Path) -> None:
    """Their models stand on the same frozen weights; only heads are a site's own."""
    first = model_on("cuda", tmp_path, "output")
    head = FactorHead(ITEMS, first.recipe.factors, 1)
    second = HybridModel(
        first.encoder,
        first.activations,
        first.encoder.frozen_mean(first.activations),
        head,
        first.prior.cpu().numpy(),
        first.recipe,
    )

    held = torch.cuda.memory_allocated()
    summed(second)

    assert second.activations.tokens.data_ptr() == first.activations.tokens.data_ptr()
    assert torch.cuda.memory_allocated() < held + (8 << 20)
