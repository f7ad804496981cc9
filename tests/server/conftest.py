"""What several tests of the server begin with."""

from pathlib import Path

import pytest

from server.registry import Registry
from tests.server.world import World
from tests.standin import write_start


@pytest.fixture
def world(tmp_path: Path) -> World:
    start = write_start(tmp_path / "start")
    return World(Registry.open(tmp_path / "registry", start))
