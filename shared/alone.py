"""One process of a kind in a folder: a lock that names its holder."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from shared.errors import ConfigError
from shared.programs import is_alive

END_S = 60.0


@contextmanager
def alone(lock: Path, remedy: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold ``lock`` and note this process beside it; wait so long for its holder.

    The lock goes with the process, however it ends.

    Raises:
        ConfigError: If another process holds it; ``remedy`` ends that one.
    """
    held, holder = FileLock(lock, timeout=wait_s), _holder(lock)
    try:
        held.acquire()
    except Timeout:
        raise ConfigError(f"{lock} is held: it runs already; {remedy}") from None
    me = psutil.Process()
    try:
        holder.write_text(json.dumps({"pid": me.pid, "born": me.create_time()}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        held.release()


def ask_to_end(lock: Path) -> bool:
    """Ask the holder of ``lock`` to end and wait; return whether there was one."""
    pid = _pid(lock)
    if pid is None:
        return False
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGTERM)
        psutil.wait_procs([process], timeout=END_S)
    return True


def _holder(lock: Path) -> Path:
    return lock.with_suffix(".json")


def _pid(lock: Path) -> int | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        noted = json.loads(_holder(lock).read_text("utf-8"))
        if is_alive(noted["pid"], noted["born"]):
            return int(noted["pid"])
    return None
