"""How the process of one message hands it to the site's warm worker.

It starts the worker if there is none, replaces one that is silent or of other code, and
refuses to speak with a process of another account. Where no worker takes a message, the
asking process answers it itself: nothing rests on the worker.

    node/worker/             its owner's alone
    node/worker/socket       where the worker listens
    node/worker/asking       held by who looks for it, so that one is started
    node/worker/pids.json    which process it is, for whoever ends it
"""

import logging
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import psutil
from filelock import FileLock

from shared.code import code_digest
from shared.logs import told
from shared.programs import end_left_behind

ASKED = "TACIT_WORKER"  # environment: set by the site's own supervisor to have a worker
FOLDER = Path("node", "worker")
SOCKET, PIDS = "socket", "pids.json"
TAKEN, BUSY = b"taken", b"busy"
PATIENCE_S = 10.0  # with a peer that is to say something at once
START_S = 120.0  # libraries from a slow disk
LOOK_S = 0.05
ROOT = Path(__file__).resolve().parents[1]  # of the code that runs here: the bundle's
_LENGTH = struct.Struct(">Q")
_PEER = struct.Struct("3i")  # pid, uid and gid, see unix(7)

log = logging.getLogger("tacit.site")


def ask(site: Path, kind: str, content: bytes) -> bytes | None:
    """Return what the worker of the site in ``site`` answers.

    None means that no worker took the message, and that nothing was done.

    Args:
        site: The site's folder.
        kind: Of the message, one that ``client.app`` knows.
        content: The message's content as bytes.

    Raises:
        OSError: If the worker was lost over the message. It is gone for certain; what
            it did of it is not known here.
    """
    try:
        worker = _found(site)
    except (OSError, psutil.Error) as error:  # no room, no more processes
        log.warning("no worker: %s", told(error))
        return None
    if worker is None:
        return None
    with worker:
        try:
            send(worker, kind.encode())
            send(worker, content)
            if receive(worker) != TAKEN:
                return None
            worker.settimeout(None)  # it looks after itself
            return receive(worker)
        except OSError:
            end(site)
            raise


def place(site: Path) -> Path:
    """Return the worker's folder in a site's; it is there, and its owner's alone.

    Raises:
        OSError: If it cannot be made, or there is no such site.
    """
    for folder in (site / FOLDER.parent, site / FOLDER):
        folder.mkdir(exist_ok=True, mode=0o700)
    return site / FOLDER


def end(site: Path) -> None:
    """End the worker of the site in ``site``, if there is one."""
    end_left_behind(site / FOLDER / PIDS)


def send(peer: socket.socket, content: bytes) -> None:
    """Send bytes, their length first."""
    peer.sendall(_LENGTH.pack(len(content)) + content)


def receive(peer: socket.socket) -> bytes:
    """Return bytes that were sent.

    Raises:
        OSError: If the peer has gone, or says nothing for too long.
    """
    (length,) = _LENGTH.unpack(_exactly(peer, _LENGTH.size))
    return bytes(_exactly(peer, length))


def is_ours(peer: socket.socket) -> bool:
    """Return whether the peer is of this account, where the system can say so.

    Elsewhere the folder's mode alone keeps others out.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    said = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, account, _ = _PEER.unpack(said)
    return bool(account == os.getuid())


@contextmanager
def address(site: Path) -> Iterator[str]:
    """Give the address of the socket: Unix allows it about a hundred bytes."""
    folder = site / FOLDER
    if not Path("/proc/self/fd").is_dir():
        yield str(folder / SOCKET)
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{SOCKET}"
    finally:
        os.close(opened)


def _found(site: Path) -> socket.socket | None:
    """Return a connection to the worker, started if need be; None if it will not."""
    with FileLock(place(site) / "asking", timeout=START_S):
        worker = _reached(site)
        if worker is not None:
            return worker
        end(site)  # silent, or of other code
        started, until = _started(site), time.monotonic() + START_S
        while worker is None and started.poll() is None and time.monotonic() < until:
            time.sleep(LOOK_S)
            worker = _reached(site)
    if worker is None:
        log.warning("the worker did not start")
    return worker


def _reached(site: Path) -> socket.socket | None:
    """Return a connection to a worker of this very code and account, if one answers."""
    worker = socket.socket(socket.AF_UNIX)
    worker.settimeout(PATIENCE_S)
    with suppress(OSError):
        with address(site) as there:
            worker.connect(there)
        if is_ours(worker) and receive(worker) == code_digest().encode():
            return worker
    worker.close()
    return None


def _started(site: Path) -> subprocess.Popen[bytes]:
    """Start a worker from the code that runs here; it ends with what started us."""
    keeper = psutil.Process(os.getppid())
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    kept_by = [str(keeper.pid), str(keeper.create_time())]
    started = subprocess.Popen(  # noqa: S603  # our own program and arguments
        [
            *(sys.executable, "-P", "-m", "client.worker"),
            *(str(site.resolve()), code_digest(), *kept_by),
        ],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
    )
    Thread(target=started.wait, daemon=True).start()  # lest it stays as a zombie
    log.info("worker %d started", started.pid)
    return started


def _exactly(peer: socket.socket, length: int) -> bytearray:
    content = bytearray(length)
    rest = memoryview(content)
    while rest:
        count = peer.recv_into(rest)
        if count == 0:
            raise ConnectionError("the peer has gone")
        rest = rest[count:]
    return content
