"""One process of a kind in a folder, whatever happened to the one before."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.alone import alone, ask_to_end
from shared.errors import ConfigError

HOLD = """
import sys, time
from pathlib import Path
from shared.alone import alone
with alone(Path(sys.argv[1]), "end it"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "x.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_with_the_remedy(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    lock = tmp_path / "x.lock"
    with (
        pytest.raises(ConfigError, match="it runs already; end it"),
        alone(lock, "end it"),
    ):
        pass
    assert holder.poll() is None


def test_a_killed_holder_holds_nothing(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    holder.kill()
    holder.wait()

    assert not ask_to_end(tmp_path / "x.lock")
    with alone(tmp_path / "x.lock", "end it"):
        assert (tmp_path / "x.json").exists()
    assert not (tmp_path / "x.json").exists()


def test_the_holder_can_be_asked_to_end(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert ask_to_end(tmp_path / "x.lock")

    holder.wait(10)
    assert not ask_to_end(tmp_path / "x.lock")
