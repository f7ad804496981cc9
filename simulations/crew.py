"""The worker processes of a simulation: each does one job after the other, to the end.

A site always goes to the same worker, so what was loaded for it stays. The workers are
forked off one process that has imported everything, so each is there at once. They end
with the block that they were made for, and with this process, however it ends.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

import psutil

from shared.errors import WorkerLost

MIB_PER_WORKER = 1280  # measured: 510 to 1190 of its own, 200 more shared
TICK_S = 0.5
PATIENCE_S = 5.0  # with a process that is told to end
PRELOADED = "simulations.preloaded"

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers_for(sites: int) -> int:
    """Return how many workers pay: one for each core and site, if memory holds them."""
    free = int(psutil.virtual_memory().available) >> 20
    return max(1, min(cores(), sites, free // MIB_PER_WORKER))


class Worker:
    """One process, and the thread that hands it one job after the other.

    Args:
        first: What the process begins with, beside whatever goes on here.
    """

    def __init__(self, first: Callable[[], object]) -> None:
        self._first = first
        self._thread = ThreadPoolExecutor(1)
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._ended = False
        self.submit(self._started)

    def submit(
        self, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Run ``step`` here when its turn comes; it may ``call`` the process."""
        return self._thread.submit(step, *args, **kwargs)

    def call(self, job: Callable[..., T], *args: object) -> T:
        """Return what ``job`` gives in the process; to be called by ``submit`` only.

        Raises:
            WorkerLost: If the process died. The next call starts another one.
        """
        pipe = self._started()
        try:
            pipe.send((job, args))
            made, error = pipe.recv()
        except (EOFError, OSError):
            raise WorkerLost(
                f"a worker process ended with exit code {self._stop()}; was there "
                "memory enough? try fewer --workers"
            ) from None
        if error is not None:
            raise error
        return made  # type: ignore[no-any-return]  # what the job gave

    def end(self) -> None:
        """End the process now, and whatever waits for it with ``WorkerLost``."""
        self._ended = True
        if self._process:
            self._process.terminate()
        self._thread.shutdown()
        self._stop()

    def _started(self) -> Connection:
        """Return the pipe to the process, which is started if need be."""
        if self._pipe is None and not self._ended:
            ours, theirs = _context().Pipe()
            process = _context().Process(
                target=_work, args=(theirs, self._first, Path.cwd()), daemon=True
            )
            process.start()
            theirs.close()
            self._pipe, self._process = ours, process
        if self._pipe is None or self._ended:
            raise WorkerLost("the simulation is ending")
        return self._pipe

    def _stop(self) -> int | None:
        """Make an end of the process, dead or alive; return its exit code."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe:
            pipe.close()
        if process is None:
            return None
        process.join(PATIENCE_S)
        process.kill()
        process.join()
        return process.exitcode


class Crew:
    """Who works for a simulation: ``workers`` processes, or this one alone.

    Args:
        workers: How many; 1 is this process.
        first: What each of them begins with.
    """

    def __init__(self, workers: int = 1, first: Callable[[], object] = int) -> None:
        self.workers = workers
        self._workers = [Worker(first) for _ in range(workers if workers > 1 else 0)]
        self._here = ThreadPoolExecutor(workers)
        self._place: dict[Path, Worker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._here.shutdown(cancel_futures=True)

    def at(self, site: Path) -> Worker:
        """Return the worker of a site, by its folder; sites are dealt out in turn."""
        if site not in self._place:
            self._place[site] = self._workers[len(self._place) % self.workers]
        return self._place[site]

    def do(self, site: Path, job: Callable[..., T], *args: object) -> Future[T]:
        """Do a job for a site: at its worker, or at once in this process."""
        if not self._workers:
            return at_once(job, *args)
        worker = self.at(site)
        return worker.submit(worker.call, job, *args)

    def side_by_side(self, step: Callable[[S], T], parts: Iterable[S]) -> list[T]:
        """Run ``step`` here for each part, as many at a time as there are workers."""
        if not self._workers:
            return [step(part) for part in parts]
        asked = [self._here.submit(step, part) for part in parts]
        left = set(asked)
        while left:  # a signal is heard in between, not while waiting: polars is there
            done, left = wait(left, TICK_S, FIRST_EXCEPTION)
            for each in done:
                each.result()
        return [each.result() for each in asked]


def be_ready(base: str, threads: int) -> None:
    """Load the encoder, and let torch use so many threads: how a worker begins."""
    import torch  # noqa: PLC0415

    from shared.encoder import base_digest  # noqa: PLC0415

    torch.set_num_threads(threads)
    base_digest(base)


def at_once(job: Callable[..., T], *args: object) -> Future[T]:
    """Do a job here and now."""
    done = Future[T]()
    try:
        done.set_result(job(*args))
    except Exception as error:  # noqa: BLE001  # raised again by whoever asks
        done.set_exception(error)
    return done


def _context() -> Any:
    """Return how processes are started: forked off one that has imported everything."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    return context


def _work(pipe: Connection, first: Callable[[], object], folder: Path) -> None:
    """Do what comes through the pipe until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us decides, and ends us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    os.chdir(folder)
    at_once(first)  # what fails here fails again where it is asked for, and is told
    with suppress(EOFError, OSError):
        while True:
            job, args = pipe.recv()
            done = at_once(job, *args)
            error = done.exception()
            pipe.send((None if error else done.result(), error))
