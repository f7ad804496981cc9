"""The encoder: the cache changes nothing, PEFT reads what we write, A is public."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import normalize

import shared.encoder
from shared.encoder import TextEncoder, load_base
from shared.errors import ModelError
from shared.protocol import AdapterSpec
from tests.factories import texts, tiny_digest, tiny_encoder, tiny_spec

MODULES = ["output", "dense:1", "dense:2", "attention:1"]


def moved(encoder: TextEncoder) -> TextEncoder:
    rng = np.random.default_rng(1)
    encoder.set_adapter(
        {
            n: rng.normal(0, 0.3, s).astype(np.float32)
            for n, s in encoder.shapes().items()
        }
    )
    return encoder


def cached(encoder: TextEncoder, folder: Path, what: tuple[str, ...]) -> Tensor:
    activations = encoder.open_store(folder).open(what)
    passed = normalize(encoder.passed(activations).sums, dim=-1)
    every = torch.arange(len(what))
    plain = normalize(encoder.sums(activations, every), dim=-1).detach()
    assert torch.allclose(passed, plain, atol=1e-5)  # two ways to one answer
    return plain


@pytest.mark.parametrize("modules", MODULES)
def test_with_and_without_the_cache_vectors_agree(tmp_path: Path, modules: str) -> None:
    encoder, what = (
        moved(tiny_encoder(modules=modules)),
        (*texts(9), "one", "a much longer text " * 9),
    )

    got = cached(encoder, tmp_path, what)

    assert np.abs(got.numpy() - encoder.encode(what)).max() < 1e-5


@pytest.mark.parametrize("modules", MODULES)
def test_the_adapter_moves_the_vectors_and_zero_is_the_frozen_encoder(
    modules: str,
) -> None:
    frozen = tiny_encoder(modules=modules)

    assert (
        np.abs(
            moved(tiny_encoder(modules=modules)).encode(texts(3))
            - frozen.encode(texts(3))
        ).max()
        > 1e-3
    )
    assert all(not array.any() for array in frozen.adapter().values())


def test_peft_loads_what_we_save_and_gives_equal_vectors(tmp_path: Path) -> None:
    encoder = moved(tiny_encoder())
    encoder.save(tmp_path)

    other = tiny_encoder()
    other._model = PeftModel.from_pretrained(load_base("tiny").model, str(tmp_path))

    assert np.array_equal(other.encode(texts(4)), encoder.encode(texts(4)))


def test_a_saved_adapter_names_its_base_and_no_local_path(tmp_path: Path) -> None:
    tiny_encoder().save(tmp_path)

    config = (tmp_path / "adapter_config.json").read_text()

    assert '"base_model_name_or_path": "tiny"' in config
    assert str(tmp_path) not in config


def test_adapter_tensors_go_out_and_in_unchanged() -> None:
    sent = moved(tiny_encoder()).adapter()
    receiver = tiny_encoder()

    receiver.set_adapter(sent)

    assert all(".lora_B.weight" in name for name in sent)
    assert all(
        np.array_equal(receiver.adapter()[n], a) and a.dtype == np.float32
        for n, a in sent.items()
    )


def test_only_exactly_agreed_tensors_are_taken() -> None:
    encoder = tiny_encoder()
    sent = encoder.adapter()
    name = next(iter(sent))

    for bad in (
        {},
        {**sent, "extra": sent[name]},
        {name: sent[name][:1]},
        {name: sent[name] + np.nan},
    ):
        with pytest.raises(ModelError, match="adapter does not fit"):
            encoder.set_adapter(bad)


def test_two_sites_start_equal_bit_for_bit(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        tiny_encoder().save(tmp_path / folder)
    tiny_encoder(seed=7).save(tmp_path / "c")

    a, b, c = ((tmp_path / f / "adapter_model.safetensors").read_bytes() for f in "abc")

    assert a == b
    assert a != c


def test_another_base_is_refused() -> None:
    with pytest.raises(ModelError, match="every site must load the same encoder"):
        TextEncoder(load_base("tiny"), AdapterSpec(base="0" * 64))


def test_an_encoder_that_cannot_be_loaded_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="give 'minilm', a folder"):
        load_base(str(tmp_path))


def test_long_texts_are_cut_at_the_agreed_length() -> None:
    encoder = tiny_encoder(max_tokens=6)

    long, longer = encoder.encode(
        ["one two three four five six", "one two three four " + "seven " * 30]
    )

    assert np.abs(long - longer).max() < 1e-6


@pytest.mark.slow
def test_minilm_gives_unit_vectors_with_and_without_the_cache(tmp_path: Path) -> None:
    base = load_base("minilm")
    encoder = moved(TextEncoder(base, AdapterSpec(base=base.digest)))

    got = cached(encoder, tmp_path, texts(70))

    assert np.abs(got.numpy() - encoder.encode(texts(70))).max() < 1e-5
    assert encoder.shapes() == {
        "base_model.model.encoder.layer.5.output.dense.lora_B.weight": (384, 32)
    }


def test_the_tiny_digest_does_not_change_between_loads() -> None:
    made = inspect.unwrap(
        shared.encoder._tiny
    )  # the copies that tests have would agree

    assert made().digest == tiny_digest() == tiny_spec().base


def test_only_b_asks_for_gradients_also_after_texts_were_read(tmp_path: Path) -> None:
    encoder = tiny_encoder(modules="dense:1")

    cached(encoder, tmp_path, texts(3))

    asks = {n for n, p in encoder._model.named_parameters() if p.requires_grad}
    assert len(asks) == len(encoder.trained) == 3
    assert all(".lora_B." in name for name in asks)


def test_auto_never_rounds_whole_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def dtype_of(wanted: str, _device: str) -> torch.dtype:
        asked.append(wanted)
        return torch.float32

    monkeypatch.setattr("shared.encoder.dtype_of", dtype_of)

    for modules in MODULES:
        tiny_encoder(modules=modules, training="auto")

    assert asked == ["auto", *["float32"] * (len(MODULES) - 1)]
