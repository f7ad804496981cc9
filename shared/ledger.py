"""A site's ledger: what was spent and what left; written before training, for ever.

One SQLite file per site holds the lines of ``shared/chain.py``. Whoever adds an entry
first reads and verifies the whole chain in the same exclusive transaction: nothing is
spent on a ledger that cannot be believed, and two processes cannot both spend the last
of a budget. What was planned stays charged, released or not.
"""

import hashlib
import math
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from shared.accounting import GaussianEvent, Relation
from shared.chain import (
    EVENT,
    EXACT,
    FORMAT,
    NOISY,
    RELATION,
    UNIT,
    Chain,
    Entry,
    canonical,
    closing_line,
    finite,
    hash_after,
)
from shared.errors import BudgetSpent, ConfigError, LedgerBroken

BUSY_S = 120  # longest wait for another process of the site

SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE entry (
    n INTEGER PRIMARY KEY, line TEXT NOT NULL, hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER entry_kept BEFORE DELETE ON entry
    BEGIN SELECT RAISE(ABORT, 'a ledger entry is never deleted'); END;
CREATE TRIGGER entry_fixed BEFORE UPDATE ON entry
    BEGIN SELECT RAISE(ABORT, 'a ledger entry is never changed'); END;
CREATE TRIGGER entry_next BEFORE INSERT ON entry
    WHEN NEW.n IS NOT (SELECT count(*) FROM entry)
    BEGIN SELECT RAISE(ABORT, 'a ledger entry is only added at the end'); END;
"""


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """One site's ledger in one file; no connection outlives a call."""

    path: Path
    site: str
    delta: float
    now: Callable[[], str]

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        site: str,
        epsilon: float,
        delta: float,
        now: Callable[[], str] = _utc_now,
    ) -> Self:
        """Open and verify the ledger at ``path``, or create it.

        Args:
            path: The file; its folder must exist.
            site: Name of the site, fixed for ever.
            epsilon: The site's budget; ``inf`` is its word that nothing is promised.
                One that differs from the newest is recorded, and resets nothing.
            delta: Target delta, fixed for ever.
            now: Gives the date of an entry, for people to read.

        Raises:
            LedgerBroken: If the file is not an intact ledger of this site and delta.
        """
        if not (epsilon > 0 and 0 < delta < 1):
            raise ConfigError(f"{epsilon=} must be above 0 and {delta=} in (0, 1)")
        ledger = cls(path=path, site=site, delta=delta, now=now)
        with ledger._access():
            if not path.exists():
                ledger._create(epsilon)
        with ledger._writing() as page:
            if page.chain.budget != epsilon:
                page.append("budget", budget=finite(epsilon))
        return ledger

    def plan(
        self,
        *,
        run: str,
        number: int,
        what: str,
        event: GaussianEvent,
        clip: float,
        plan_digest: str,
    ) -> int:
        """Charge ``event`` durably and return the number of its entry.

        Guarantee: the epsilon of everything ever charged is at most the budget of the
        day it was charged, whatever the calls, crashes and processes.

        Args:
            run: Name of the run.
            number: Round of the run.
            what: ``training`` or ``popularity``.
            event: The noisy steps that are about to be taken.
            clip: Largest L2 norm of one user's part in a step.
            plan_digest: SHA-256 of the plan that is followed.

        Raises:
            BudgetSpent: If the budget would be passed; the refusal is recorded.
        """
        spend = {"mechanism": NOISY, "clip": clip, **asdict(event)}
        return self._charge(
            event, run=run, round=number, what=what, plan=plan_digest, **spend
        )

    def plan_unprotected(
        self, *, run: str, number: int, what: str, plan_digest: str
    ) -> int:
        """Charge a release without noise: epsilon is infinite from now on.

        Raises:
            BudgetSpent: Unless the budget is infinite; the refusal is recorded.
        """
        spend = {**dict.fromkeys(EVENT), "mechanism": EXACT}
        return self._charge(
            None, run=run, round=number, what=what, plan=plan_digest, **spend
        )

    def sealed(
        self,
        planned: int,
        *,
        run: str,
        number: int,
        content: bytes,
        tensors: Iterable[str],
    ) -> Entry:
        """Record what is about to leave: hash and size of the bytes, tensor names.

        Guarantee: one plan is sealed once, so one charge never pays for two releases.
        """
        with self._writing() as page:
            return page.append(
                "sealed",
                planned=planned,
                run=run,
                round=number,
                sha256=hashlib.sha256(content).hexdigest(),
                bytes=len(content),
                tensors=list(tensors),
            )

    def refused(self, run: str, number: int, reason_class: str) -> Entry:
        """Record a refusal by the name of its error's class; it costs nothing."""
        with self._writing() as page:
            return page.append("refused", run=run, round=number, reason=reason_class)

    def entries(self) -> list[Entry]:
        """Return all entries, verified."""
        return self._read().entries

    def events(self) -> list[GaussianEvent]:
        """Return everything charged with noise, sealed or not."""
        return self._read().events

    def epsilon(self, relation: Relation = "add_remove") -> float:
        """Return what the site has spent over its whole life."""
        return self._read().epsilon(relation)

    def head(self) -> str:
        """Return the hash of the newest entry."""
        return self._read().head

    def planned_for(self, run: str, number: int, what: str) -> Entry | None:
        """Return the newest plan for this purpose in this round, if any."""
        return self._newest("planned", run=run, round=number, what=what)

    def sealed_for(self, run: str, number: int) -> Entry | None:
        """Return what was sealed last in this round, if anything."""
        return self._newest("sealed", run=run, round=number)

    def export(self, path: Path) -> None:
        """Write JSON Lines for ``verify_lines``: all entries, then their head."""
        chain = self._read()
        lines = [*(entry.line for entry in chain.entries), closing_line(chain)]
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def _newest(self, state: str, **wanted: str | int) -> Entry | None:
        for entry in reversed(self.entries()):
            if entry.state == state and wanted.items() <= entry.body.items():
                return entry
        return None

    def _charge(self, event: GaussianEvent | None, **fields: Any) -> int:
        """Compose, compare and append in one transaction."""
        with self._writing() as page:
            limit, spent = page.chain.budget, page.chain.epsilon(RELATION)
            after = page.chain.epsilon(RELATION, event) if event else math.inf
            if after <= limit:
                costs = {"before": finite(spent), "after": finite(after)}
                return page.append("planned", **costs, **fields).n
            where = {"run": fields["run"], "round": fields["round"]}
            page.append("refused", **where, reason=BudgetSpent.__name__)
        raise BudgetSpent(
            f"site {self.site!r} has spent epsilon {spent:.4f}; round "
            f"{fields['round']} of run {fields['run']!r} would bring it to "
            f"{after:.4f}, above the budget {limit:.4f}: keep serving the adapter you "
            "have, or let the site raise its budget"
        )

    def _create(self, budget: float) -> None:
        """Make the whole file aside and link it into place: never half a ledger."""
        with tempfile.TemporaryDirectory(
            dir=self.path.parent, prefix=".ledger-"
        ) as folder:
            fresh = replace(self, path=Path(folder) / "ledger")
            with closing(sqlite3.connect(fresh.path)) as db:
                db.executescript(SCHEMA)
            with fresh._transaction() as page:  # noqa: SLF001 - its own class
                page.append(
                    "opened",
                    format=FORMAT,
                    site=self.site,
                    unit=UNIT,
                    relation=RELATION,
                    delta=self.delta,
                    budget=finite(budget),
                )
            with suppress(FileExistsError):  # another process was first
                os.link(fresh.path, self.path)
        folder_fd = os.open(self.path.parent, os.O_RDONLY)
        os.fsync(folder_fd)
        os.close(folder_fd)

    def _read(self) -> Chain:
        """Return the chain, verified."""
        with self._access(), self._connected() as db:
            return self._ours(_stored(db))

    @contextmanager
    def _writing(self) -> Iterator["Page"]:
        """Hold the file alone, verified; what is appended is durable at the end."""
        with self._access(), self._transaction() as page:
            self._ours(page.chain)
            yield page

    @contextmanager
    def _transaction(self) -> Iterator["Page"]:
        """Lock, read, and commit unless something is raised."""
        with self._connected() as db:
            db.execute("BEGIN IMMEDIATE")
            yield Page(db=db, chain=_stored(db), now=self.now)
            db.execute("COMMIT")  # closing without it rolls back

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Connect to a file that must exist; a commit is on disk when it returns."""
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        connect = sqlite3.connect(uri, BUSY_S, isolation_level=None, uri=True)
        with closing(connect) as db:
            db.text_factory = lambda raw: raw.decode(errors="replace")
            db.execute("PRAGMA synchronous = FULL")
            yield db

    @contextmanager
    def _access(self) -> Iterator[None]:
        """Turn what a disk or SQLite says into the one refusal that callers know."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise LedgerBroken(
                f"ledger {self.path}: {error}; nothing was charged, so nothing may be "
                "trained: make room, allow writing, or restore the file from its backup"
            ) from error

    def _ours(self, chain: Chain) -> Chain:
        """Return the chain if it is of this site and delta."""
        if not chain.entries:
            raise LedgerBroken(
                f"ledger {self.path}: no entry; restore it from its backup"
            )
        opened = chain.entries[0].body
        for name, ours in (("site", self.site), ("delta", self.delta)):
            if opened[name] != ours:
                raise LedgerBroken(
                    f"ledger entry 0: {name} is {opened[name]!r}, not {ours!r}; "
                    "a ledger serves one site and one delta for ever"
                )
        return chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An open transaction: the verified chain and the right to add to it."""

    db: sqlite3.Connection
    chain: Chain
    now: Callable[[], str]

    def append(self, state: str, **fields: Any) -> Entry:
        """Add one entry, held to the same checks as one that is read."""
        place = {"n": len(self.chain.entries), "prev": self.chain.head}
        body = {"state": state, "date": self.now(), **place, **fields}
        entry = self.chain.add(canonical(body))
        row = (entry.n, entry.line, entry.hash)
        self.db.execute("INSERT INTO entry VALUES (?, ?, ?)", row)
        return entry


def _stored(db: sqlite3.Connection) -> Chain:
    """Return a file's chain, each entry held against its stored number and hash."""
    chain = Chain()
    for n, text, digest in db.execute("SELECT n, line, hash FROM entry ORDER BY n"):
        expected = len(chain.entries)
        if n != expected:
            raise LedgerBroken(f"ledger entry {expected}: missing; the next is {n}")
        line = str(text)  # a torn page may give anything, whatever the table says
        if digest != hash_after(chain.head, line):
            raise LedgerBroken(f"ledger entry {n}: its hash does not match")
        chain.add(line)
    return chain
