"""Requests are read in the quickest way that was measured; nothing else changes."""

import importlib.util
import subprocess
import sys
import time

import numpy as np
import pytest

from shared.encoder import TextEncoder, load_base
from shared.errors import ModelError
from shared.protocol import AdapterSpec, Array
from shared.quick import SENTENCES, Way, quickest
from tests.factories import texts, tiny_spec

MODULES = ["output", "dense:1", "dense:2", "attention:1"]
NO_OPENVINO = importlib.util.find_spec("openvino") is None
needs_openvino = pytest.mark.skipif(NO_OPENVINO, reason="OpenVINO is not installed")


def moved(encoder: TextEncoder, seed: int = 1) -> TextEncoder:
    rng = np.random.default_rng(seed)
    encoder.set_adapter(
        {
            name: rng.normal(0, 0.05, shape).astype(np.float32)
            for name, shape in encoder.shapes().items()
        }
    )
    return encoder


def tiny(modules: str = "output", precision: str = "float32") -> TextEncoder:
    spec = tiny_spec(modules=modules, max_tokens=64)
    return moved(TextEncoder(load_base("tiny"), spec, precision=precision))


def vector(encoder: TextEncoder, text: str) -> Array:
    return encoder.meaning(encoder.read([text])[0])


def taking(milliseconds: float, angle: float = 0.0) -> Way:
    def way(text: str) -> Array:
        time.sleep(milliseconds / 1000)
        turned = angle * (text == SENTENCES[-1])  # one sentence is enough to tell
        return np.array([np.cos(turned), np.sin(turned)], np.float32)

    return way


@pytest.mark.parametrize(
    ("ways", "best"),
    [
        ([("plain", taking(2)), ("quick", taking(0.5))], "quick"),
        ([("plain", taking(2)), ("slow", taking(4))], "plain"),
        ([("plain", taking(2)), ("no margin", taking(1.9))], "plain"),
        ([("plain", taking(2)), ("wrong", taking(0.1, angle=0.1))], "plain"),
        ([("plain", taking(3)), ("a", taking(1)), ("b", taking(0.3))], "b"),
        ([("plain", taking(3)), ("a", taking(0.3)), ("b", taking(1))], "a"),
        ([("alone", taking(0))], "alone"),
    ],
)
def test_the_quickest_way_with_the_same_vectors_is_taken(
    ways: list[tuple[str, Way]], best: str
) -> None:
    assert quickest(ways) == best


@pytest.mark.parametrize("modules", MODULES)
def test_a_text_is_read_as_it_was_for_training(modules: str) -> None:
    encoder = tiny(modules)

    for text in texts(3):
        (stored,) = next(encoder.activations([text]))
        assert np.array_equal(encoder.read([text])[0].hidden, stored)
        assert np.abs(vector(encoder, text) - encoder.encode([text])[0]).max() < 1e-5


@pytest.mark.parametrize(
    "modules",
    [
        "output",
        pytest.param("dense:1", marks=pytest.mark.slow),
        "dense:2",
        pytest.param("attention:1", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "precision", ["bfloat16", pytest.param("openvino", marks=needs_openvino)]
)
def test_another_precision_gives_nearly_the_same_vectors(
    modules: str, precision: str
) -> None:
    serving, plain = tiny(modules, precision), tiny(modules)

    for text in (*texts(3), "one", *SENTENCES):
        wanted = plain.encode([text])[0]
        assert vector(serving, text) @ wanted > 0.999
        assert np.array_equal(serving.encode([text])[0], wanted)  # the model itself


@pytest.mark.parametrize("modules", ["output", "dense:1"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_new_adapter_changes_what_is_meant_and_not_what_is_read(
    modules: str, precision: str
) -> None:
    encoder = tiny(modules, precision)
    read, meant = encoder.read(texts(1))[0], vector(encoder, texts(1)[0])

    moved(encoder, seed=2)

    assert np.array_equal(encoder.read(texts(1))[0].hidden, read.hidden)
    assert np.abs(encoder.meaning(read) - meant).max() > 1e-3
    assert encoder.meaning(read) @ encoder.encode(texts(1))[0] > 0.999


def test_a_batch_is_read_as_its_texts_are_alone() -> None:
    encoder = tiny()

    for together, text in zip(encoder.read(SENTENCES), SENTENCES, strict=True):
        alone = encoder.read([text])[0]
        assert np.abs(together.hidden - alone.hidden).max() < 1e-4


def test_encoders_of_one_process_choose_the_same_precision() -> None:
    first, second = (tiny("dense:1", precision="auto") for _ in range(2))

    assert first.precision == second.precision
    assert vector(first, texts(1)[0]) @ tiny("dense:1").encode(texts(1))[0] > 0.999


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ModelError, match="'float8' is none of float32, bfloat16"):
        tiny(precision="float8")


def test_openvino_that_is_not_installed_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)

    with pytest.raises(ModelError, match=r"pip install 'tacit\[openvino\]'"):
        tiny(precision="openvino")


@pytest.mark.slow
@needs_openvino
def test_openvino_comes_without_its_telemetry() -> None:
    code = (
        "import sys; from shared.quick import _openvino; _openvino();"
        "print(any(name.startswith('openvino_telemetry') and module is not None"
        "  for name, module in sys.modules.items()))"
    )

    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert told.stdout == "False\n"


@pytest.mark.slow
@pytest.mark.parametrize("modules", ["output", "dense:2"])
@pytest.mark.parametrize(
    "precision", ["bfloat16", "auto", pytest.param("openvino", marks=needs_openvino)]
)
def test_minilm_gives_the_vectors_of_float32_in_every_precision(
    modules: str, precision: str
) -> None:
    base = load_base("minilm")
    spec = AdapterSpec(base=base.digest, modules=modules, max_tokens=64)
    encoder = moved(TextEncoder(base, spec, precision=precision))

    for text in SENTENCES:
        assert vector(encoder, text) @ encoder.encode([text])[0] > 0.999
