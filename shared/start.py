"""The adapter that a federation starts from: A from the public seed, B zero."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from shared.encoder import open_encoder
from shared.popularity import tensor_of
from shared.protocol import AdapterSpec
from shared.release import WEIGHTS


def write_start(
    folder: Path, base: str, spec: AdapterSpec, shared: Sequence[str] = ()
) -> None:
    """Write the untrained adapter of ``spec`` as a PEFT folder, once.

    Whole or not at all: the folder's presence says that all is there.

    Args:
        folder: Kept as it is if it exists.
        base: ``minilm``, ``tiny``, a folder or a hub id.
        spec: Which LoRA.
        shared: Item ids, in order, of the catalogue whose popularity is shared as well;
            none for no such tensor.
    """
    if folder.exists():
        return
    encoder = open_encoder(base, spec, "cpu")
    shapes = encoder.shapes().items()
    encoder.set_adapter({name: np.zeros(shape, np.float32) for name, shape in shapes})
    fresh = folder.with_name(f"{folder.name}.new")
    encoder.save(fresh)
    if shared:
        flat = {tensor_of(shared): np.zeros(len(shared), np.float32)}
        tensors = {**load_file(fresh / WEIGHTS), **flat}
        save_file(tensors, fresh / WEIGHTS, {"format": "pt"})
    fresh.replace(folder)
