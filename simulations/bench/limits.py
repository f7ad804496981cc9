"""The machine's own limits at this moment: its matrix products and its memory.

What a step reaches is said as a share of these, measured in the same minute with the
same threads; nothing is taken from a data sheet.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

SHAPES = (  # rows, inner, columns: the layers of MiniLM and of BERT-base, a square
    (4096, 384, 384),
    (4096, 384, 1536),
    (4096, 1536, 384),
    (4096, 768, 3072),
    (2048, 2048, 2048),
)
SQUARE_ON_CARD = (8192, 8192, 8192)  # what a card needs to be full
BUFFER = {"cpu": 1 << 28, "cuda": 1 << 30}  # bytes, beyond the caches
TIMES = 7  # of each measurement; the best counts
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def limits(device: str) -> dict[str, Any]:
    """Return the device's rates, each the best of ``TIMES`` and of all shapes.

    ``gemm_flops`` is in floating-point operations a second, for each precision;
    ``copy_bytes_per_s`` counts what is read and what is written.
    """
    return {
        "gemm_flops": {name: gemm_rate(device, name) for name in PRECISIONS},
        "copy_bytes_per_s": copy_rate(device),
        "threads": torch.get_num_threads(),
        "device": name_of(device),
    }


def gemm_rate(device: str, precision: str) -> float:
    """Return the best rate of a matrix product, in operations a second."""
    shapes = SHAPES if device == "cpu" else (*SHAPES, SQUARE_ON_CARD)
    return max(_rate_of(shape, device, PRECISIONS[precision]) for shape in shapes)


def _rate_of(shape: tuple[int, int, int], device: str, dtype: torch.dtype) -> float:
    rows, inner, columns = shape
    left = torch.ones(rows, inner, dtype=dtype, device=device)
    right = torch.ones(inner, columns, dtype=dtype, device=device)
    out = torch.empty(rows, columns, dtype=dtype, device=device)
    seconds = best(lambda: torch.mm(left, right, out=out), device)
    return 2.0 * rows * inner * columns / seconds


def copy_rate(device: str) -> float:
    """Return the rate of a copy in memory, in bytes a second, read and written."""
    size = BUFFER["cpu" if device == "cpu" else "cuda"] // 4
    source, target = torch.ones(size, device=device), torch.zeros(size, device=device)
    return 2.0 * 4 * size / best(lambda: target.copy_(source), device)


def best(run: Callable[[], object], device: str) -> float:
    """Return the least seconds that one of ``TIMES`` runs took, after a warm one."""
    run()
    return min(seconds(run, device) for _ in range(TIMES))


def seconds(run: Callable[[], object], device: str) -> float:
    """Return how long a run takes, until the device has done all of it."""
    _wait(device)
    begun = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - begun


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def name_of(device: str) -> str:
    """Return the name of a card, or the device itself."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return device
