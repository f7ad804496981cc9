"""What a site's ledger says to its own operator: verified, and only read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from client.site import Site
from shared.accounting import GaussianEvent
from shared.chain import Chain
from shared.entries import NOISY, Entry
from shared.errors import LedgerBroken
from shared.ledger_file import read_ledger
from shared.protocol import Mechanism
from shared.witness import kept_witness

TUNE = "site tune"  # the run of a release that no server asked for; none can have it


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one charge brought the site's epsilon to, as the ledger recorded it."""

    time: str
    epsilon: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundView:
    """A round that the site took part in.

    Attributes:
        time: Of its first entry in the ledger.
        run: Its run.
        number: Its number.
        outcome: ``sent``, ``charged`` (nothing left, or not yet) or the class name of
            why the site refused.
    """

    time: str
    run: str
    number: int
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Something that left the site.

    Attributes:
        time: When it was sealed.
        run: Its run.
        number: Its round.
        bytes: Its size.
        sha256: Digest of its bytes.
        tensors: Names of what it holds.
    """

    time: str
    run: str
    number: int
    bytes: int
    sha256: str
    tensors: tuple[str, ...]


def believed(site: Site) -> Chain:
    """Return the site's verified chain, empty before its first entry; change nothing.

    Raises:
        LedgerBroken: If it cannot be read, or does not contain the site's own witness.
    """
    witness = kept_witness(site.folder / site.settings.witness)  # the older of the two
    if witness is None and not site.ledger.exists():
        return Chain()
    chain = verified(site.ledger)
    if witness is not None:
        chain.require_contains(witness)
    return chain


def verified(ledger: Path) -> Chain:
    """Return the chain of a ledger's file, whole but for an end that was cut off.

    Raises:
        LedgerBroken: If it cannot be read.
    """
    return _read(ledger, _state_of(ledger))


def coming(entries: Sequence[Entry]) -> GaussianEvent:
    """Return the next round as it may be expected: as the last one that was charged.

    Before there was any it is the protocol's default.
    """
    usual: Mapping[str, Any] = asdict(Mechanism())
    for entry in entries:
        if (entry.body.get("what"), entry.body.get("mechanism")) == ("training", NOISY):
            usual = entry.body
    return GaussianEvent(q=usual["q"], sigma=usual["sigma"], steps=usual["steps"])


def charges(entries: Sequence[Entry]) -> tuple[Charge, ...]:
    """Return what each charge brought epsilon to, oldest first."""
    return tuple(
        Charge(time=entry.body["date"], epsilon=entry.body["after"])
        for entry in entries
        if entry.state == "planned"
    )


def rounds(entries: Sequence[Entry]) -> list[RoundView]:
    """Return a row for each round, newest first; what was sent outdoes the rest.

    What the site released for itself, ``TUNE``, is no round.
    """
    outcomes: dict[tuple[str, int], tuple[str, str]] = {}
    for entry in entries:
        body = entry.body
        match entry.state:
            case "planned":
                said = "charged"
            case "sealed" if body["leaves"]:
                said = "sent"
            case "refused":
                said = body["reason"]
            case _:
                continue
        if body["run"] == TUNE:
            continue
        key = body["run"], body["round"]
        time, before = outcomes.get(key, (body["date"], ""))
        outcomes[key] = time, "sent" if before == "sent" else said
    rows = [
        RoundView(time=time, run=run, number=number, outcome=outcome)
        for (run, number), (time, outcome) in outcomes.items()
    ]
    return rows[::-1]


def left(entries: Sequence[Entry]) -> list[Left]:
    """Return what left, newest first."""
    rows = [
        Left(
            time=entry.body["date"],
            run=entry.body["run"],
            number=entry.body["round"],
            bytes=entry.body["bytes"],
            sha256=entry.body["sha256"],
            tensors=tuple(entry.body["tensors"]),
        )
        for entry in entries
        if entry.state == "sealed" and entry.body["leaves"]
    ]
    return rows[::-1]


def _state_of(ledger: Path) -> tuple[tuple[int, int], ...]:
    """Return what changes when a ledger's files do."""
    parts = (ledger, ledger.with_name(f"{ledger.name}-wal"))
    stats = [path.stat() for path in parts if path.exists()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


@lru_cache(maxsize=1)
def _read(ledger: Path, _state: tuple[tuple[int, int], ...]) -> Chain:
    """Return the verified chain; read anew once its files have changed.

    A second try is for a file that its owner was just closing.
    """
    try:
        return read_ledger(ledger)
    except LedgerBroken:
        return read_ledger(ledger)
