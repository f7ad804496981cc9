"""What the tests of serving share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps activations and what reads requests, which learns for some seconds."""
    return tmp_path_factory.mktemp("cache")
