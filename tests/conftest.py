"""What holds for every test."""

import copy
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, wraps
from pathlib import Path

import pytest
import torch
from hypothesis import settings

MEMORY, ROOM = Path("/dev/shm"), 4 << 30  # noqa: S108  # no secret of anybody's

gc.disable()  # what is imported and collected stays: looking through it takes seconds
roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
if roomy and "TMPDIR" not in os.environ:  # where durable writes wait for no disk
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)
settings.register_profile("patient", deadline=None)  # a busy machine is no fault
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist hand out files as they are ordered here, not those of many tests first.

    The files that last longest have few tests; last of all they leave a worker idle.
    """
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what has whole runs and processes."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


def pytest_collection_finish() -> None:
    """Collect garbage from here on, and only what tests leave."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tensors here are tiny: threads would only wait, most of all on a shared machine.

    It also fixes the order of sums, so that equal bytes do not depend on the machine.
    """
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _tiny_base_is_made_once() -> Iterator[None]:
    """Copies of the tiny encoder take a third of the time that making it takes."""
    encoder = sys.modules.get("shared.encoder")  # not there if no test imports it
    if encoder is None:
        yield
        return
    made = lru_cache(maxsize=1)(encoder._tiny)

    @wraps(encoder._tiny)
    def copied() -> object:
        base = made()
        model, tokenizer = copy.deepcopy((base.model, base.tokenizer))
        return replace(base, model=model, tokenizer=tokenizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_tiny", copied)
        yield
