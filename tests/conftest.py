"""What holds for every test."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tensors here are tiny: threads would only wait, most of all on a shared machine.

    It also fixes the order of sums, so that equal bytes do not depend on the machine.
    """
    torch.set_num_threads(1)
