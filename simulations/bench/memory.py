"""How much memory a site's training takes with a large catalogue, in its own process.

The catalogue is generated, and its activations are borrowed: 256 texts are encoded and
what was stored of them is repeated, in the store's own format and at its full size. No
text of a large catalogue is waited for, and nothing learned here means anything.
"""

import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.heap import keep_freed_memory
from client.site import SiteSettings
from client.train import train_round
from shared.errors import TacitError
from shared.protocol import Mechanism, Recipe
from simulations.bench.site import Size, fresh_encoder, steady_streams, training_site
from simulations.footprint import KIB, Watched, peak_mib

LIMIT_MIB = 3072
Q, SIZE = 0.1, Size(items=100_000, users=2560)  # 256 users in every step
FACTORS = 64
STEPS = 2
PRECISION = SiteSettings(name="bench").precision  # as a site trains by default
SEED = 2026


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is trained: on how much, under which encoder, where."""

    size: Size
    base: str
    device: str


def measure(
    size: Size = SIZE, base: str = "minilm", device: str = "cpu"
) -> dict[str, Any]:
    """Return the figures of a process that trains one site and does nothing else.

    ``peak_mib_100k`` is the most that was resident at any time, libraries and mapped
    files among it. ``own_mib`` is the most that was the process's own, and
    ``mapped_mib`` the most of files that it maps: the kernel counts their pages as
    resident while nobody else wants the memory, and takes them back without loss.

    Args:
        size: Of the site.
        base: Encoder.
        device: Where it trains.

    Raises:
        TacitError: If the process was killed, most likely for want of memory.
    """
    with (
        tempfile.TemporaryDirectory(prefix="tacit-bench-") as folder,
        ProcessPoolExecutor(1, get_context("spawn")) as alone,
    ):
        case = Case(size=size, base=base, device=device)
        try:
            figures = alone.submit(_trained, Path(folder), case).result()
        except BrokenProcessPool:
            raise TacitError(
                f"training on {size.items} items was killed, most likely for want of "
                "memory; there are no figures of it"
            ) from None
    return {**figures, "limit_mib": LIMIT_MIB}


def lines(figures: dict[str, Any]) -> list[str]:
    """Return the figures in words."""
    said = [
        f"peak       {figures['peak_mib_100k']:.0f} MiB (limit {figures['limit_mib']}) "
        f"with {figures['items']:,} items, {figures['factors']} factors and "
        f"{figures['drawn']} users a step; {figures['before_training_mib']:.0f} MiB "
        "before the first step",
    ]
    if "own_mib" in figures:
        said.append(
            f"of it      at most {figures['own_mib']:.0f} MiB of its own and "
            f"{figures['mapped_mib']:.0f} MiB of mapped files; activations of "
            f"{figures['activations_mib']:.0f} MiB are among these"
        )
    if "peak_cuda_mib" in figures:
        said.append(f"on card    {figures['peak_cuda_mib']:.0f} MiB allocated at most")
    return [*said, f"step       {figures['step_s']:.2f} s"]


def _trained(folder: Path, case: Case) -> dict[str, Any]:
    """Train as a site does; return what this process took."""
    keep_freed_memory()  # as a site does before a round
    rng, size = np.random.default_rng(SEED), case.size
    encoder = fresh_encoder(
        case.base, device=case.device, training=PRECISION, borrowing=True
    )
    site = training_site(encoder, size, Recipe(factors=FACTORS), rng, folder)
    before, begun = peak_mib(), time.perf_counter()
    with Watched() as most:
        train_round(
            site.model,
            site.examples,
            Mechanism(q=Q, steps=STEPS),
            users=size.users,
            streams=steady_streams(SEED),
            key=[SEED],
        )
    took = (time.perf_counter() - begun) / STEPS
    stored = sum(file.stat().st_size for file in folder.rglob("tokens.*"))
    return {
        "peak_mib_100k": round(peak_mib(), 1),
        "before_training_mib": round(before, 1),
        "maxrss_mib": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB, 1
        ),
        **{f"{kind}_mib": round(mib, 1) for kind, mib in most.kinds.items()},
        **_of_card(case.device),
        "activations_mib": round(stored / 2**20, 1),
        "step_s": round(took, 3),
        "items": size.items,
        "users": size.users,
        "drawn": round(Q * size.users),
        "factors": FACTORS,
        "steps": STEPS,
        "base": case.base,
        "device": case.device,
        "stored": str(encoder.dtype),
    }


def _of_card(device: str) -> dict[str, float]:
    """Return the most that was allocated on a CUDA device; nothing for another."""
    if not device.startswith("cuda"):
        return {}
    return {"peak_cuda_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1)}
