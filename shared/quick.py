"""The quickest way to compute on this machine: measured, never assumed.

What lies under the adapter is frozen, so a request may go through it in bfloat16 or by
OpenVINO; such a way is taken only if it was clearly faster here and gives the vectors
of plain float32. Training takes frozen products in bfloat16 where that is clearly
faster; what is trained, and its gradients, clip and noise, stay float32.
"""

import copy
import importlib
import importlib.util
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.errors import ModelError
from shared.protocol import Array

PRECISIONS = ("float32", "bfloat16", "openvino")
# oneDNN keeps a prepared product for every size of batch it meets, with its memory, and
# Poisson batches have all sizes: 1024 of them, its default, took 11 GiB of a process.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
ALIKE = 0.999  # smallest cosine to the vector of plain float32
FASTER = 1.2  # how many times as fast as plain float32 another way must be
PRODUCT = (2048, 384, 384)  # rows, inner and columns of the product that is timed
TRIES = 8  # of which the quickest counts: what else the machine does is no matter
SENTENCES = (
    "quiet stories of the sea",
    "a highly rated science-fiction film from the nineties, nothing with horror",
    "I would like something like the last one but newer, shorter and less violent, "
    "for two evenings with friends who know every classic by heart",
)
_CONVERTING = threading.Lock()  # a trace of torch bears no other beside it
Under = Callable[[Mapping[str, Tensor]], Array]  # tokens -> float32 [n, tokens, c]
Way = Callable[[str], Array]  # a text -> its vector


def under(frozen: nn.Module, precision: str) -> Under:
    """Return what runs ``frozen``, a BERT's lower part, in one of ``PRECISIONS``.

    Raises:
        ModelError: If the precision is unknown, or OpenVINO is not installed.
    """
    if precision == "openvino":
        return _by_openvino(frozen)
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    if precision == "bfloat16":
        frozen = copy.deepcopy(frozen).to(torch.bfloat16)

    def run(tokens: Mapping[str, Tensor]) -> Array:
        with torch.inference_mode():
            hidden: Tensor = frozen(**tokens).last_hidden_state
        made: Array = hidden.float().cpu().numpy()
        return made

    return run


@lru_cache(maxsize=4)
def dtype_of(wanted: str, device: str) -> torch.dtype:
    """Return the precision of frozen products in training.

    Args:
        wanted: ``float32``, ``bfloat16``, or ``auto`` for the one that is quicker here.
        device: Where they are taken.

    Raises:
        ModelError: If it is none of these.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if wanted == "auto":
        took = {dtype: _seconds_of_product(dtype, device) for dtype in known.values()}
        faster = took[torch.bfloat16] * FASTER < took[torch.float32]
        return torch.bfloat16 if faster else torch.float32
    if wanted not in known:
        raise ModelError(f"precision {wanted!r} is none of {', '.join(known)}, auto")
    return known[wanted]


def _seconds_of_product(dtype: torch.dtype, device: str) -> float:
    """Return how long a product of an encoder's size takes, in its quickest try."""
    rows = torch.ones(PRODUCT[0], PRODUCT[1], dtype=dtype, device=device)
    columns = torch.ones(PRODUCT[1], PRODUCT[2], dtype=dtype, device=device)
    tries = []
    for _ in range(TRIES):
        begin = time.perf_counter()
        float((rows @ columns)[0, 0])  # waits for a device of its own
        tries.append(time.perf_counter() - begin)
    return min(tries)


def candidates(device: str) -> tuple[str, ...]:
    """Return the precisions that can be tried on a device, plain float32 first."""
    has_openvino = device == "cpu" and importlib.util.find_spec("openvino") is not None
    return PRECISIONS if has_openvino else PRECISIONS[:2]


def quickest(ways: Iterable[tuple[str, Way]]) -> str:
    """Return the name of the quickest way; the first, if none is clearly faster.

    Args:
        ways: Names and ways; the first is what the others must agree with.
    """
    (name, way), *others = ways
    wanted = [way(text) for text in SENTENCES]
    best = _seconds(way) / FASTER
    for other, faster in others:
        if all(
            float(faster(text) @ vector) >= ALIKE
            for text, vector in zip(SENTENCES, wanted, strict=True)
        ):
            took = _seconds(faster)
            if took < best:
                name, best = other, took
    return name


def _seconds(way: Way) -> float:
    """Return how long all sentences take, each in its quickest try."""
    return sum(min(_timed(way, text) for _ in range(TRIES)) for text in SENTENCES)


def _timed(way: Way, text: str) -> float:
    begin = time.perf_counter()
    way(text)
    return time.perf_counter() - begin


class _Hidden(nn.Module):
    """A BERT as a function of ids and mask alone; what OpenVINO can convert."""

    def __init__(self, frozen: nn.Module) -> None:
        super().__init__()
        self.frozen = frozen

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the last hidden states."""
        made = self.frozen(input_ids=input_ids, attention_mask=attention_mask)
        hidden: Tensor = made.last_hidden_state
        return hidden


def _by_openvino(frozen: nn.Module) -> Under:
    """Return what runs ``frozen`` by OpenVINO, in the precision it prefers here."""
    openvino = _openvino()
    ids = torch.ones((2, 8), dtype=torch.int64)
    with _CONVERTING, warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # a trace warns of each branch that it takes
        converted = openvino.convert_model(
            _Hidden(frozen), example_input={"input_ids": ids, "attention_mask": ids}
        )
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.compile_model(converted, "CPU", settings)

    def run(tokens: Mapping[str, Tensor]) -> Array:
        given = {name: tokens[name].numpy() for name in ("input_ids", "attention_mask")}
        made = compiled.create_infer_request().infer(given)  # its own: threads may meet
        return np.array(made[0], np.float32)

    return run


def _openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports each import otherwise.

    Raises:
        ModelError: If it is not installed.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault("openvino_telemetry", None)  # as if it were not there
    try:
        return importlib.import_module("openvino")
    except ImportError:
        raise ModelError(
            "OpenVINO is not installed: pip install 'tacit[openvino]', or choose "
            "another precision"
        ) from None
