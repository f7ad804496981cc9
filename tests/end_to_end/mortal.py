"""A site whose process dies by SIGKILL where a test says; run as a program of its own.

It warms up with a whole round, then reads one life a line and forks for it, so that a
life costs no start of Python. Whatever lasts is written to a log before it is done: the
log outlives the process, and tells what may have been done.
"""

import json
import os
import signal
import sqlite3
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

import client.round
from client.round import answer
from client.site import open_site
from shared.encoder import open_encoder
from shared.errors import TacitError
from shared.protocol import Adapter, Reply, RoundPlan
from shared.sealing import metric_bytes, update_bytes
from tests.factories import mechanism, plan, tiny_spec

NOISE = mechanism(q=0.5, sigma=4.0, steps=3, prior_sigma=6.0, metric_sigma=8.0)
LASTING = ("fsync", "link", "replace")  # of the operating system
RELEASES = ("release_popularity", "release_metric")  # beside the optimiser's steps
REFUSED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """What one process does, and when it dies.

    Attributes:
        site: The site's folder.
        out: Folder of the replies, and of the log.
        asked: How often the site is asked for the one round.
        dies_before: Number of the lasting call that it does not come to; 0 for none.
        dies_after_s: Seconds after which somebody kills it; 0 for nobody.
    """

    site: str
    out: str
    asked: int = 1
    dies_before: int = 0
    dies_after_s: float = 0.0


def the_round() -> tuple[RoundPlan, Adapter]:
    """The one plan that all lives are asked for, and the adapter to start from."""
    encoder = open_encoder("tiny", tiny_spec(), "cpu")
    return plan(encoder.shapes(), mechanism=NOISE), encoder.adapter()


def live(life: Life) -> int:
    """Ask the site for the round, keep what it sends, return the exit code."""
    out, (asked, start), seen = Path(life.out), the_round(), None
    eye = watch(out / "log", life.dies_before)
    for number in range(1, life.asked + 1):
        try:
            reply = answer(open_site(Path(life.site)), asked, start, seen)
        except TacitError as error:
            (out / "refusal").write_text(type(error).__name__, "utf-8")
            return REFUSED
        eye.before("reply")
        (out / f"reply-{number}").write_bytes(sent(reply))
        seen = reply.witness
    return 0


def sent(reply: Reply) -> bytes:
    """All bytes of a reply."""
    assert reply.metric is not None
    witness = reply.witness.to_json().encode()
    return b"\n".join([metric_bytes(reply.metric), witness, update_bytes(reply.update)])


class Watch:
    """Comes before everything that lasts: writes down its name, or dies."""

    def __init__(self, log: Path, last: int) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._numbers = count(1)
        self._last = last

    def before(self, what: str) -> None:
        if next(self._numbers) == self._last:
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self._log, f"{what}\n".encode())

    def over(self, place: object, name: str) -> None:
        """Come before every call of a function from now on."""
        honest = getattr(place, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.before(name)
            return honest(*args, **kwargs)

        setattr(place, name, watched)


class Connection(sqlite3.Connection):
    """Says what it is about to write."""

    watch: ClassVar[Watch]
    writes = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if sql.startswith(("BEGIN", "INSERT", "COMMIT")):
            self.writes = True
            self.watch.before(sql.split(maxsplit=1)[0])
        return super().execute(sql, *args)

    def executescript(self, sql: str) -> sqlite3.Cursor:
        self.writes = True
        self.watch.before("SCHEMA")
        return super().executescript(sql)

    def close(self) -> None:
        if self.writes:
            self.watch.before("close")
        super().close()


def watch(log: Path, last: int) -> Watch:
    """See everything that lasts in this process from now on."""
    made = Connection.watch = Watch(log, last)
    for name in LASTING:
        made.over(os, name)
    for name in RELEASES:
        made.over(client.round, name)
    sqlite3.connect = partial(sqlite3.connect, factory=Connection)  # type: ignore[assignment]
    register_optimizer_step_pre_hook(lambda *_: made.before("step"))
    return made


def end(life: Life) -> int:
    """Fork for a life, and return how it ended: minus the signal that it died of."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = live(life)
        finally:
            os._exit(code)
    if life.dies_after_s:
        time.sleep(life.dies_after_s)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> None:
    """Warm up in the folder that is given, then end one life for every line."""
    torch.set_num_threads(1)
    asked, start = the_round()
    answer(open_site(Path(sys.argv[1])), asked, start)
    sys.stdout.write("warm\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(f"{end(Life(**json.loads(line)))}\n")
        sys.stdout.flush()


def line_of(life: Life) -> str:
    """What ``main`` reads."""
    return json.dumps(asdict(life)) + "\n"


if __name__ == "__main__":
    main()
