"""A frozen A that reads texts: what it reads, and that all sites get the same."""

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.down import made_texts, reading_down, varying
from shared.errors import ConfigError, ModelError
from shared.protocol import AdapterSpec, Array
from simulations.scenario_file import read_scenario
from tests.factories import tiny_encoder, tiny_spec


def tokens(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """What goes in [600, 40], hidden states [600, 16] of which texts vary in ``rank``
    directions, and means of texts of six tokens each."""
    rng = torch.Generator().manual_seed(7)
    inner = torch.randn(600, 40, generator=rng)
    mixing = torch.randn(40, 16, generator=rng)
    mixing[:, rank:] = 0
    hidden = inner @ mixing
    return inner, hidden, hidden.reshape(100, 6, 16).mean(1)


def test_what_a_reads_tells_all_directions_in_which_texts_vary() -> None:
    inner, hidden, means = tokens(3)

    a = torch.from_numpy(reading_down(inner, hidden, varying(means, 3)))

    seen = inner @ a.T
    told = torch.linalg.lstsq(seen, hidden).solution
    assert a.shape == (3, 40)
    assert (seen @ told - hidden).norm() < 0.05 * hidden.norm()
    assert (seen - seen.mean(0)).square().mean().item() == pytest.approx(1.0, abs=1e-3)


def test_directions_are_orthonormal_and_signs_not_those_of_the_decomposition() -> None:
    _, _, means = tokens(3)

    one, other = varying(means, 3), varying(-means, 3)

    assert torch.allclose(one.T @ one, torch.eye(3, dtype=one.dtype), atol=1e-9)
    assert torch.allclose(one, other, atol=1e-9)
    assert means.double() @ one @ one.T == pytest.approx(means.double(), abs=1e-4)


def test_texts_are_the_same_for_a_seed_and_all_different() -> None:
    assert made_texts(5) == made_texts(5) != made_texts(6)
    assert len(set(made_texts(5))) > 0.99 * len(made_texts(5))


def test_two_encoders_of_one_spec_start_alike_and_of_another_do_not() -> None:
    def frozen(down: str) -> Array:
        made = tiny_encoder(down=down).activations(["night train"])
        return next(iter(made))[0][:, -4:]

    assert frozen("text") == pytest.approx(frozen("text"), abs=1e-5)
    assert not np.allclose(frozen("text"), frozen("seed"), atol=1e-2)
    assert tiny_encoder(down="text").shapes() == tiny_encoder().shapes()


def test_no_more_directions_are_read_than_the_encoder_has() -> None:
    with pytest.raises(ModelError, match=r"rank=33 .* over the encoder's 32 direc"):
        tiny_encoder(down="text", rank=33)


def test_only_the_output_module_can_be_read_so() -> None:
    assert AdapterSpec(base="0", down="word").faults()
    assert tiny_spec(down="text", modules="dense:1").faults()
    with pytest.raises(ConfigError, match="down='text' is for modules=output"):
        read_scenario(None, {}, ["spec.down=text", "spec.modules=dense:1"])
