"""A site's ledger: what was spent and what left; written before training, for ever.

One SQLite file per site holds the lines of ``shared/chain.py``. Whoever adds an entry
first reads and verifies the whole chain in the same exclusive transaction: nothing is
spent on a ledger that cannot be believed, and two processes cannot both spend the last
of a budget. What was planned stays charged, released or not. After each entry the
signed end is written to a second file, best on another disk: a ledger that does not
contain it was rolled back, and is refused.
"""

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from filelock import FileLock, Timeout

from shared.accounting import GaussianEvent
from shared.chain import Chain, export_lines
from shared.code import code_digest
from shared.composition import Relation
from shared.durable import sync_folder
from shared.entries import EVENT, EXACT, FORMAT, NOISY, RELATION, UNIT, Entry, finite
from shared.errors import BudgetSpent, ConfigError, LedgerBroken, LedgerBusy
from shared.ledger_file import (
    Page,
    Pen,
    access,
    make_file,
    read_file,
    transaction,
)
from shared.limits import Limits
from shared.signing import public_key
from shared.witness import Witness, keep_witness, kept_witness


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """One site's ledger in one file; no connection outlives a call."""

    path: Path
    delta: float
    pen: Pen
    witness_path: Path

    @classmethod
    def open(  # noqa: PLR0913 - what one ledger is bound to for ever
        cls,
        path: Path,
        *,
        site: str,
        delta: float,
        limits: Limits,
        key: Ed25519PrivateKey,
        witness_path: Path | None = None,
        now: Callable[[], str] = _utc_now,
    ) -> Self:
        """Open and verify the ledger at ``path``, or create it.

        Args:
            path: The file; its folder must exist.
            site: Name of the site, fixed for ever.
            delta: Target delta, fixed for ever.
            limits: The site's policy. One that differs from the newest is recorded,
                and resets nothing.
            key: The site's key, fixed for ever.
            witness_path: Where the second copy of the ledger's end is kept; beside the
                ledger by default, better on another disk.
            now: Gives the date of an entry, for people to read.

        Raises:
            LedgerBroken: If the file is not an intact ledger of this site, delta and
                key, is behind its witness, or is missing while its witness is there.
            ConfigError: If delta or a limit is out of range.
        """
        faults = limits.faults()
        if not 0 < delta < 1:
            faults.append(f"delta={delta} must be in (0, 1)")
        if faults:
            raise ConfigError(f"ledger {path} promises nothing: {'; '.join(faults)}")
        ledger = cls(
            path=path,
            delta=delta,
            pen=Pen(site=site, key=key, now=now),
            witness_path=witness_path or path.with_suffix(".witness"),
        )
        with access(path):
            if not path.exists():
                ledger._require_new()
                ledger._create(limits)
        with ledger._writing() as page:
            if page.chain.limits != limits:
                page.append("policy", limits=limits.to_body())
        return ledger

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other process of the site out for a whole round.

        Raises:
            LedgerBusy: If another process is in a round already.
        """
        lock = FileLock(self.path.with_suffix(".lock"))
        with access(self.path):
            try:
                lock.acquire(timeout=0)
            except Timeout:  # an OSError too, so it is not left to ``access``
                raise LedgerBusy(
                    f"ledger {self.path}: another process of site {self.pen.site!r} "
                    "is in a round; wait for it, or end it"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def require_witnessed(self, seen: Witness) -> None:
        """Return if the ledger contains the end that somebody else has seen of it.

        Raises:
            LedgerBroken: If it does not: it was rolled back, replaced or cloned.
        """
        self._read().require_contains(seen)

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
            what: One of ``PURPOSES``.
            event: The noisy steps that are about to be taken.
            clip: Largest L2 norm of one user's part in a step.
            plan_digest: SHA-256 of the plan that is followed.

        Raises:
            BudgetSpent: If the budget would be passed; the refusal is recorded.
            LedgerBroken: If the ledger is not intact, or the charge is outside the
                policy's limits.
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
        self, planned: int, *, content: bytes, tensors: Iterable[str], leaves: bool
    ) -> Entry:
        """Record what a plan gave: hash and size of the bytes, names of its tensors.

        Guarantee: one plan is sealed once, so one charge never pays for two releases.

        Args:
            planned: Number of the plan's entry.
            content: The bytes that are kept, and sent if they leave.
            tensors: Names of what they hold.
            leaves: Whether they are for the server, or stay at the site.
        """
        with self._writing() as page:
            _require_entry(page.chain, planned)
            plan = page.chain.entries[planned].body
            return page.append(
                "sealed",
                planned=planned,
                run=plan.get("run", ""),
                round=plan.get("round", 0),
                leaves=leaves,
                sha256=hashlib.sha256(content).hexdigest(),
                bytes=len(content),
                tensors=list(tensors),
            )

    def refused(self, run: str, number: int, reason_class: str) -> Entry:
        """Record a refusal by the name of its error's class; it costs nothing."""
        with self._writing() as page:
            return page.append("refused", run=run, round=number, reason=reason_class)

    def chain(self) -> Chain:
        """Return everything, verified."""
        return self._read()

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

    def sealed_for(self, run: str, number: int, what: str) -> Entry | None:
        """Return what was sealed last for this purpose in this round, if anything."""
        entries = self.entries()
        for entry in reversed(entries):
            if entry.state == "sealed":
                plan = entries[entry.body["planned"]].body
                if (plan["run"], plan["round"], plan["what"]) == (run, number, what):
                    return entry
        return None

    def witness(self) -> Witness:
        """Return the ledger's signed end, for others to keep."""
        return self._read().witness

    def export(self, path: Path) -> None:
        """Write JSON Lines for ``verify_lines``: all entries, then their head."""
        lines = export_lines(self._read())
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")

    def _charge(self, event: GaussianEvent | None, **fields: Any) -> int:
        """Compose, compare and append in one transaction."""
        with self._writing() as page:
            limit, spent = page.chain.limits.epsilon, page.chain.epsilon(RELATION)
            after = page.chain.epsilon(RELATION, event) if event else math.inf
            if after <= limit:
                costs = {"before": finite(spent), "after": finite(after)}
                return page.append("planned", code=code_digest(), **costs, **fields).n
            where = {"run": fields["run"], "round": fields["round"]}
            page.append("refused", **where, reason=BudgetSpent.__name__)
        raise BudgetSpent(
            f"site {self.pen.site!r} has spent epsilon {spent:.4f}; round "
            f"{fields['round']} of run {fields['run']!r} would bring it to "
            f"{after:.4f}, above the budget {limit:.4f}: keep serving the adapter you "
            "have, or let the site raise its budget"
        )

    def _require_new(self) -> None:
        """Raise if there ever was a ledger: its witness outlives it."""
        if self.witness_path.exists() and not self.path.exists():
            raise LedgerBroken(
                f"ledger {self.path} is missing, but {self.witness_path} has seen it: "
                "restore its newest copy; a new one would forget what was spent"
            )

    def _create(self, limits: Limits) -> None:
        """Make the whole file aside and link it into place: never half a ledger."""
        with tempfile.TemporaryDirectory(
            dir=self.path.parent, prefix=".ledger-"
        ) as folder:
            fresh = Path(folder) / "ledger"
            make_file(fresh)
            with transaction(fresh, self.pen) as page:
                page.append(
                    "opened",
                    format=FORMAT,
                    site=self.pen.site,
                    unit=UNIT,
                    relation=RELATION,
                    delta=self.delta,
                    key=public_key(self.pen.key),
                    limits=limits.to_body(),
                )
            with suppress(FileExistsError):  # another process was first
                os.link(fresh, self.path)
        sync_folder(self.path.parent)

    def _read(self) -> Chain:
        """Return the chain, verified."""
        with access(self.path):
            seen = kept_witness(self.witness_path)  # first: it may be older, not newer
            return self._ours(read_file(self.path), seen)

    @contextmanager
    def _writing(self) -> Iterator["Page"]:
        """Hold the file alone, verified; what is appended is durable at the end."""
        with access(self.path):
            with transaction(self.path, self.pen) as page:
                seen = kept_witness(self.witness_path)
                chain, before = self._ours(page.chain, seen), len(page.chain.entries)
                if seen is None:  # so that no second entry is ever without one
                    keep_witness(self.witness_path, chain.witness)
                yield page
            if len(chain.entries) > before:
                keep_witness(self.witness_path, chain.witness)

    def _ours(self, chain: Chain, seen: Witness | None) -> Chain:
        """Return the chain if it is of this site, delta and key, and not cut off."""
        if not chain.entries:
            raise LedgerBroken(
                f"ledger {self.path}: no entry; restore it from its backup"
            )
        mine = {
            "site": self.pen.site,
            "delta": self.delta,
            "key": public_key(self.pen.key),
        }
        for name, ours in mine.items():
            if chain.opening[name] != ours:
                raise LedgerBroken(
                    f"ledger entry 0: {name} is {chain.opening[name]!r}, not {ours!r}; "
                    "a ledger serves one site, one delta and one key for ever"
                )
        if seen is not None:
            chain.require_contains(seen)
        elif len(chain.entries) > 1:
            raise LedgerBroken(
                f"ledger {self.path}: its witness {self.witness_path} is missing; put "
                "the server's newest witness of this site there"
            )
        return chain


def _require_entry(chain: Chain, n: int) -> None:
    if not 0 <= n < len(chain.entries):
        raise LedgerBroken(f"ledger entry {n}: not there, so nothing is sealed for it")
