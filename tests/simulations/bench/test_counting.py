"""What a step must do is counted as torch counts it, from what is really read."""

from pathlib import Path

import pytest
import torch
from torch.autograd import backward
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from client import gradients
from client.examples import draw_batch
from client.gradients import user_gradients
from shared.encoder import TextEncoder
from simulations.bench.counting import (
    LastLayer,
    OutputOnly,
    OutputProducts,
    Reading,
    watched,
)
from tests.factories import tiny_model, users

TINY = LastLayer(width=32, inner=64, rank=4)
KEY = [5]


def counted_by_torch(run: object) -> int:
    assert callable(run)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def test_the_operations_of_a_layer_are_those_that_torch_counts(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, modules="dense:1")
    for name, parameter in model.encoder._model.named_parameters():
        parameter.requires_grad_("lora_B" in name)  # no other gradient is needed
    lengths = model.activations.lengths
    for text in (0, 11):
        one = torch.tensor([text])
        made: list[torch.Tensor] = []

        forward = counted_by_torch(
            lambda one=one, made=made: made.append(
                model.encoder.sums(model.activations, one)
            )
        )
        after = counted_by_torch(lambda made=made: backward(made[0].sum()))

        pooled = 2 * int(lengths[text]) * TINY.width  # the sum over tokens, a product
        assert forward == TINY.forward(lengths[one]) + pooled
        assert after == TINY.backward(lengths[one]) + pooled


def test_the_bytes_of_the_default_adapter_are_the_tokens_read_and_what_is_made() -> (
    None
):
    count = OutputOnly(row_bytes=144, width=32, rank=4)
    lengths = torch.tensor([3, 5])

    assert count(Reading(lengths)) == 8 * 144 + 4 * (2 * 36 + 2 * 8)
    assert count(Reading(lengths, users=7)) == 8 * 144 + 4 * 7 * 32 * 4


def test_the_products_of_the_default_adapter_grow_with_tokens_and_texts() -> None:
    count, lengths = OutputProducts(width=32, rank=4), torch.tensor([3, 5])

    assert count(Reading(lengths)) == 2 * (8 * (128 + 16) + 2 * 128)
    assert count(Reading(lengths, users=7)) == 2 * (8 * (128 + 16) + 4 * 128)


@pytest.mark.parametrize("modules", ["output", "dense:1"])
def test_a_step_is_watched_through_one_pass_and_the_texts_that_users_pull_on(
    tmp_path: Path, modules: str
) -> None:
    model, drawn = tiny_model(tmp_path, modules=modules), users(4)
    before = TextEncoder.passed, gradients._of_adapter
    read: list[Reading] = []

    def count(reading: Reading) -> float:
        read.append(reading)
        return float(reading.lengths.sum())

    with watched(model, count, "cpu") as work:
        user_gradients(model, model.encoded(), drawn, KEY)

    catalogue, pulled = read
    batch = draw_batch(drawn, model.recipe, KEY)
    known = [set(row[row > 0]) for row in batch.items]
    least = sum(int(model.activations.lengths[list(row)].sum()) for row in known)
    assert (catalogue.users, pulled.users) == (0, 4)
    assert torch.equal(catalogue.lengths, model.activations.lengths)
    assert least <= int(pulled.lengths.sum())
    assert len(pulled.lengths) <= 4 * (batch.items.shape[1] + model.recipe.negatives)
    assert work.amount == sum(float(reading.lengths.sum()) for reading in read)
    assert work.took_s > 0
    assert (TextEncoder.passed, gradients._of_adapter) == before
