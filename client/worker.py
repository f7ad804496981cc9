"""A site's warm worker: one process that answers message after message.

    python -P -m client.worker SITE CODE PID BORN

It keeps what takes seconds to load: libraries, encoder, data, activations. It listens
in the site's own folder alone, refuses every other account, and does not start as other
code than that of the digest CODE. It answers what ``client/app.py`` lets out.

It ends with its keeper (the process PID that was BORN then), with whoever asked and is
gone before the answer, after a while without work, when memory is short, and when what
it has loaded is no longer what lies on the disk. ``client/warm.py`` starts another one.
"""

import json
import logging
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from client.forgotten import KEY, LIST
from client.site import open_site
from client.warm import (
    BUSY,
    FOLDER,
    PATIENCE_S,
    PIDS,
    SOCKET,
    TAKEN,
    address,
    is_ours,
    place,
    receive,
    send,
)
from shared.code import code_digest
from shared.durable import replace_file
from shared.errors import CodeRefused
from shared.logs import log_as_asked, told
from shared.programs import is_alive

TICK_S = 1.0
IDLE_S = 15 * 60.0  # without work: then the memory is better used elsewhere
STILL_S = 30 * 60.0  # at work, but not computing: no query may take so long
AWAKE_S = 2.0  # of processor time, more than looking around takes meanwhile
SCARCE = 0.05  # of the machine's memory is free

Respond = Callable[[str, bytes], bytes]

log = logging.getLogger("tacit.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Since when the worker rests or works, and how much it had computed by then."""

    busy: bool
    since: float
    used: float


class Watch:
    """What says when the worker is to end."""

    def __init__(
        self, keeper: tuple[int, float], files: list[Path], idle_s: float = IDLE_S
    ) -> None:
        """Remember how the files are now.

        Args:
            keeper: Process that the worker does not outlive, and when it was born.
            files: What lies under all that is loaded.
            idle_s: How long to stay without work.
        """
        self._keeper, self._files, self._idle_s = keeper, files, idle_s
        self._seen = [_look(path) for path in files]
        self._span = Span(busy=False, since=time.monotonic(), used=0.0)

    def reason(self, *, busy: bool) -> str:
        """Return why the worker is to end now; empty while it is not."""
        now, used, span = time.monotonic(), time.process_time(), self._span
        if busy != span.busy or (busy and used - span.used > AWAKE_S):
            self._span = span = Span(busy=busy, since=now, used=used)
        if not is_alive(*self._keeper):
            return "its keeper has ended"
        if busy:
            still = now - span.since > STILL_S
            return "its work stands still" if still else ""
        if now - span.since > self._idle_s:
            return f"nothing to do for {self._idle_s:.0f} s"
        if [_look(path) for path in self._files] != self._seen:
            return "what it has loaded was changed"
        memory = psutil.virtual_memory()
        scarce = memory.available < SCARCE * memory.total
        return "the machine is short of memory" if scarce else ""


def serve(listener: socket.socket, code: str, respond: Respond, watch: Watch) -> str:
    """Answer one message at a time until there is a reason to end; return it.

    Args:
        listener: Where askers come.
        code: Digest of the code that runs here; each asker is told it first.
        respond: Gives the answer to a message of a kind.
        watch: Says when to end.
    """
    pool = ThreadPoolExecutor(1)  # one thread, the same for all
    asker: socket.socket | None = None
    work: Future[None] | None = None
    while True:
        ready, _, _ = select.select([listener], [], [], TICK_S)
        if asker and _has_gone(asker) and work and wait([work], TICK_S).not_done:
            return "whoever asked has gone"
        if work and work.done() and (error := work.exception()):
            return f"it could not answer: {told(error)}"
        busy = bool(work and not work.done())
        if reason := watch.reason(busy=busy):
            return reason
        if ready:
            peer, _ = listener.accept()
            message = _taken(peer, code, free=not busy)
            if message is not None:
                asker, work = peer, pool.submit(_answer, peer, respond, message)


def main(site: Path, code: str, keeper: tuple[int, float]) -> str:
    """Be the worker of the site in ``site``; return why it ends.

    Raises:
        CodeRefused: If other code runs here than is asked for.
        TacitError: If the site's settings cannot be used.
    """
    if code_digest() != code:
        raise CodeRefused(f"worker of code {code_digest()} asked for as {code}")
    with _only_one(site) as first:
        if not first:
            return "there is one already"
        files = files_under(site)
        watch = Watch(keeper, files)
        import client.releases  # noqa: PLC0415
        import client.round  # noqa: F401, PLC0415
        from client.app import respond  # noqa: PLC0415

        with _listening(site) as listener:
            log.info("worker %d listens", os.getpid())
            return serve(
                listener,
                code,
                lambda kind, content: respond(kind, content, site),
                watch,
            )


def files_under(site: Path) -> list[Path]:
    """Return what all that is loaded rests on, beside the data that are looked at anew.

    These are settings, who is forgotten, and an encoder that is a folder of the site's.
    """
    base = Path(open_site(site).settings.base)
    encoder = [base, *sorted(base.rglob("*"))] if base.is_dir() else []
    return [site / "site.toml", site / LIST, site / KEY, *encoder]


@contextmanager
def _only_one(site: Path) -> Iterator[bool]:
    """Note this process as the site's worker; give False if there is one already."""
    folder, me = place(site), psutil.Process()
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    noted = [{"name": "worker", "pid": me.pid, "born": me.create_time()}]
    replace_file(folder / PIDS, json.dumps(noted).encode())
    try:
        yield True
    finally:
        (folder / PIDS).unlink(missing_ok=True)
        lock.release()


@contextmanager
def _listening(site: Path) -> Iterator[socket.socket]:
    """Give the site's socket, which only its owner may open."""
    path = site / FOLDER / SOCKET
    path.unlink(missing_ok=True)
    before = os.umask(0o177)
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            with address(site) as here:
                listener.bind(here)
        finally:
            os.umask(before)
        listener.listen()
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _taken(peer: socket.socket, code: str, *, free: bool) -> tuple[str, bytes] | None:
    """Return kind and content of a message, or None: the peer is sent away."""
    peer.settimeout(PATIENCE_S)
    with suppress(OSError, UnicodeDecodeError), ExitStack() as closing:
        closing.enter_context(peer)
        if not is_ours(peer):
            log.warning("a process of another account was sent away")
            return None
        send(peer, code.encode())
        message = receive(peer).decode(), receive(peer)
        send(peer, TAKEN if free else BUSY)
        if free:
            peer.settimeout(None)
            closing.pop_all()
            return message
    return None


def _answer(peer: socket.socket, respond: Respond, message: tuple[str, bytes]) -> None:
    with peer:
        send(peer, respond(*message))


def _has_gone(peer: socket.socket) -> bool:
    """Return whether the peer, or our own side of it, is closed."""
    try:
        return peer.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _look(path: Path) -> object:
    """Return what changes when a file does."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino


if __name__ == "__main__":
    log_as_asked()
    try:
        folder, asked_for, pid, born = sys.argv[1:]
        ended = main(Path(folder), asked_for, (int(pid), float(born)))
        log.info("worker %d ends: %s", os.getpid(), ended)
    except Exception as error:  # noqa: BLE001  # the edge: its text may be a user's
        log.warning("no worker: %s", told(error))
    os._exit(0)  # a message may be in work, which nobody waits for
