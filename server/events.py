"""What happened in a run, one JSON object per line of ``events.jsonl``; all public."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self


def now() -> str:
    """Return the time in UTC, ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run begins, or goes on after the round before ``first``."""

    run: str
    rounds: int
    first: int
    sites: tuple[str, ...]
    deadline_s: float
    time: str = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A round's instruction went to ``sites``; ``absent`` says why not to others."""

    number: int
    sites: tuple[str, ...]
    absent: Mapping[str, str]
    time: str = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A site answered; ``reason`` is the class of why it does not count, or empty."""

    number: int
    site: str
    reason: str
    bytes: int
    time: str = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What happened in one round; all of it is public.

    Attributes:
        number: The round.
        seconds: Wall time from selection to the published version.
        sites_ok: Sites whose updates count.
        refused: Site -> class name of why it did not count.
        update_norm: Joint L2 norm of the step of the global adapter.
        bytes_up: Site -> bytes of its update.
        bytes_down: Bytes of the instruction, as a mean over the sites that were asked;
            beside it a named site gets some 300 bytes, the newest witness of its own
            ledger, and the whole adapter if it lacks the version of a step.
        metrics: Site -> name -> value of what it released, noised.
        norms: Site -> joint L2 norm of its update.
        cosines: Site -> cosine of its update to the mean direction of the others.
        outliers: Site -> ``norm`` or ``cosine``, by which it stands out; it counts all
            the same, see ``server/suspicion.py``.
        time: When the version was published.
    """

    number: int
    seconds: float
    sites_ok: tuple[str, ...]
    refused: Mapping[str, str]
    update_norm: float
    bytes_up: Mapping[str, int]
    bytes_down: int
    metrics: Mapping[str, Mapping[str, float]]
    norms: Mapping[str, float] = field(default_factory=dict)  # older runs tell none
    cosines: Mapping[str, float] = field(default_factory=dict)
    outliers: Mapping[str, str] = field(default_factory=dict)
    time: str = field(default_factory=now)

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """Rebuild a report from its event."""
        fields = {key: value for key, value in said.items() if key != "event"}
        return cls(**{**fields, "sites_ok": tuple(fields["sites_ok"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The release in force went to the sites; ``told`` has each one's word for it."""

    release: str
    told: Mapping[str, str]
    time: str = field(default_factory=now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run is over: ``Completed``, or the class name of the error that ended it."""

    reason: str
    time: str = field(default_factory=now)


Event = Begun | Asked | Answered | RoundReport | Released | Ended
NAMES: Mapping[type, str] = {
    Begun: "begun",
    Asked: "asked",
    Answered: "answered",
    RoundReport: "round",
    Released: "released",
    Ended: "ended",
}


def to_line(event: Event) -> str:
    """Return the event as one line of ``events.jsonl``."""
    return json.dumps({"event": NAMES[type(event)], **asdict(event)})


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events of a run, oldest first; a torn last line is left out."""
    if not path.exists():
        return []
    *whole, _ = path.read_text("utf-8").split("\n")
    return [json.loads(line) for line in whole]
