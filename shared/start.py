"""The adapter that a federation starts from: A from the public seed, B zero."""

from pathlib import Path

import numpy as np

from shared.encoder import open_encoder
from shared.protocol import AdapterSpec


def write_start(folder: Path, base: str, spec: AdapterSpec) -> None:
    """Write the untrained adapter of ``spec`` as a PEFT folder, once.

    Whole or not at all: the folder's presence says that all is there.

    Args:
        folder: Kept as it is if it exists.
        base: ``minilm``, ``tiny``, a folder or a hub id.
        spec: Which LoRA.
    """
    if folder.exists():
        return
    encoder = open_encoder(base, spec, "cpu")
    shapes = encoder.shapes().items()
    encoder.set_adapter({name: np.zeros(shape, np.float32) for name, shape in shapes})
    fresh = folder.with_name(f"{folder.name}.new")
    encoder.save(fresh)
    fresh.replace(folder)
