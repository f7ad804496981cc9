"""The adapter that a federation starts from: A from the public seed, B zero."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from shared.encoder import open_encoder
from shared.popularity import SharedItems
from shared.protocol import AdapterSpec
from shared.release import WEIGHTS


def write_start(
    folder: Path, base: str, spec: AdapterSpec, shared: SharedItems | None = None
) -> None:
    """Write the untrained adapter of ``spec`` as a PEFT folder, once.

    Whole or not at all: the folder's presence says that all is there.

    Args:
        folder: Kept as it is if it exists.
        base: ``minilm``, ``tiny``, a folder or a hub id.
        spec: Which LoRA.
        shared: The catalogue whose popularity is shared as well, from zeros; None for
            no such tensor.
    """
    if folder.exists():
        return
    encoder = open_encoder(base, spec, "cpu")
    shapes = encoder.shapes().items()
    encoder.set_adapter({name: np.zeros(shape, np.float32) for name, shape in shapes})
    fresh = folder.with_name(f"{folder.name}.new")
    encoder.save(fresh)
    if shared is not None:
        tensors = {**load_file(fresh / WEIGHTS), **shared.flat()}
        save_file(tensors, fresh / WEIGHTS, {"format": "pt"})
    fresh.replace(folder)
