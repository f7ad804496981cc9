"""The chain of a ledger's lines: what makes one valid, and what all amount to.

Line n is canonical JSON with ``hash_n = SHA-256(hash_{n-1} || line_n)`` and names the
hash before it, so an export can be verified by anyone, without the ledger it came from.
No entry depends on data, no order on time. Nothing is read or written here.

The chain cannot see its own end cut off, nor a forger who hashes it anew. Signatures
over ``hash_n`` belong in a column beside ``hash``, and in the last line of an export.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from shared.accounting import GaussianEvent, Relation, epsilon
from shared.errors import ConfigError, LedgerBroken

FORMAT = 1
UNIT = "one user account at one site: all its interactions, over all time"
RELATION: Relation = "add_remove"  # the one the budget is in
GENESIS = "0" * 64  # the hash before the first entry

NOISY, EXACT = "poisson-gaussian", "none"
PURPOSES = {"training", "popularity"}

# The fields of a line, by state. JSON has no infinity: no limit and no value are null.
TEXT, WHOLE, REAL, MAYBE = (str,), (int,), (int, float), (int, float, NoneType)
COMMON = {"n": WHOLE, "state": TEXT, "date": TEXT, "prev": TEXT}
ROUND = {"run": TEXT, "round": WHOLE}
OPENED = {"format": WHOLE, "site": TEXT, "unit": TEXT, "relation": TEXT, "delta": REAL}
EVENT = {"mechanism": TEXT, "q": MAYBE, "sigma": MAYBE, "steps": MAYBE, "clip": MAYBE}
SPENT = {"what": TEXT, "plan": TEXT, "before": MAYBE, "after": MAYBE}
SEALED = {"planned": WHOLE, "sha256": TEXT, "bytes": WHOLE, "tensors": (list,)}
STATES: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "opened": {**COMMON, **OPENED, "budget": MAYBE},
    "budget": {**COMMON, "budget": MAYBE},
    "planned": {**COMMON, **ROUND, **SPENT, **EVENT},
    "refused": {**COMMON, **ROUND, "reason": TEXT},
    "sealed": {**COMMON, **ROUND, **SEALED},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One verified line: its number, its state, its fields and its hash."""

    n: int
    state: str
    body: Mapping[str, Any]
    line: str
    hash: str


@dataclass(slots=True)
class Chain:
    """Entries, each verified against those before it, and what they amount to.

    Attributes:
        entries: All entries, in order.
        events: Everything charged with noise.
        exposed: Whether anything was charged without noise: epsilon is then infinite.
        budget: Newest limit on epsilon.
    """

    entries: list[Entry] = field(default_factory=list)
    events: list[GaussianEvent] = field(default_factory=list)
    exposed: bool = False
    budget: float = math.nan
    _unsealed: dict[int, tuple[str, int]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """Hash of the newest entry."""
        return self.entries[-1].hash if self.entries else GENESIS

    def add(self, line: str) -> Entry:
        """Verify the next line and take it in.

        Raises:
            LedgerBroken: With the number of the entry and what is wrong.
        """
        n, head = len(self.entries), self.head
        try:
            body = json.loads(line)
            _require(isinstance(body, dict), "not a JSON object")
            _require(canonical(body) == line, "not canonical JSON")
            _require_fields(body)
            _require(body["n"] == n, f"out of sequence: it says {body['n']}")
            _require(body["prev"] == head, "prev is not the hash of the entry before")
            _require((body["state"] == "opened") == (n == 0), "only entry 0 opens")
            self._take(body)
        except (ValueError, RecursionError, ConfigError) as error:
            raise LedgerBroken(f"ledger entry {n}: {error}") from None
        entry = Entry(
            n=n, state=body["state"], body=body, line=line, hash=hash_after(head, line)
        )
        self.entries.append(entry)
        return entry

    def epsilon(self, relation: Relation, *extra: GaussianEvent) -> float:
        """Return what is spent, together with ``extra``."""
        if self.exposed:
            return math.inf
        return epsilon([*self.events, *extra], self.entries[0].body["delta"], relation)

    def _take(self, body: Mapping[str, Any]) -> None:
        """Account for one entry whose fields are all there."""
        match body["state"]:
            case "opened":
                _require_opening(body)
                self.budget = _budget(body)
            case "budget":
                self.budget = _budget(body)
            case "planned":
                event = _event(body)
                allowed = event is not None or math.isinf(self.budget)
                _require(allowed, "a release without noise under a finite budget")
                self.exposed |= event is None
                self.events += [event] if event else []
                self._unsealed[body["n"]] = body["run"], body["round"]
            case "sealed":
                plan = self._unsealed.pop(body["planned"], None)
                ours = plan == (body["run"], body["round"])
                _require(
                    ours, f"{body['planned']} is not an unsealed plan of its round"
                )


def verify_lines(lines: Iterable[str]) -> Chain:
    """Verify an export, line by line, without the ledger it came from.

    Raises:
        LedgerBroken: If a line was changed, moved, added or removed.
    """
    *body, last = [line.removesuffix("\n") for line in lines] or [""]
    chain = Chain()
    for line in body:
        chain.add(line)
    if not body or last != closing_line(chain):
        raise LedgerBroken(
            f"ledger export: entry {len(body) - 1} is not followed by its hash"
        )
    return chain


def closing_line(chain: Chain) -> str:
    """Return the last line of an export; without it nothing guards the last entry."""
    return canonical({"entries": len(chain.entries), "head": chain.head})


def canonical(body: Mapping[str, Any]) -> str:
    """Return the one line that stands for ``body``: sorted, no spaces, no NaN."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_after(previous: str, line: str) -> str:
    """Return the hash of ``line`` behind an entry whose hash is ``previous``."""
    return hashlib.sha256((previous + line).encode()).hexdigest()


def finite(value: float) -> float | None:
    """Return a finite number, or None: JSON has no infinity."""
    return value if math.isfinite(value) else None


def _require(holds: bool, fault: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise ValueError(fault)


def _require_fields(body: Mapping[str, Any]) -> None:
    """Refuse an unknown state, an unknown or missing field and a wrong type."""
    state = str(body.get("state"))
    _require(state in STATES, f"unknown state {state!r}")
    kinds = STATES[state]
    odd = sorted(body.keys() ^ kinds.keys())
    _require(not odd, f"unknown or missing: {', '.join(odd)}")
    wrong = [name for name, kind in kinds.items() if type(body[name]) not in kind]
    _require(not wrong, f"wrong type: {', '.join(wrong)}")


def _require_opening(body: Mapping[str, Any]) -> None:
    """Refuse a ledger kept under other rules than ours."""
    rules = (FORMAT, UNIT, RELATION)
    theirs = (body["format"], body["unit"], body["relation"])
    _require(theirs == rules, f"format, unit and relation are {theirs}, not {rules}")
    _require(0 < body["delta"] < 1, f"delta {body['delta']} is not in (0, 1)")


def _budget(body: Mapping[str, Any]) -> float:
    budget = math.inf if body["budget"] is None else float(body["budget"])
    _require(budget > 0, f"budget {budget} is not above 0")
    return budget


def _event(body: Mapping[str, Any]) -> GaussianEvent | None:
    """Return what was charged, or None where there was no noise."""
    _require(body["what"] in PURPOSES, f"{body['what']!r} is not one of {PURPOSES}")
    q, sigma, steps, clip = (body[name] for name in ("q", "sigma", "steps", "clip"))
    if body["mechanism"] == EXACT:
        _require({q, sigma, steps, clip} == {None}, "parameters of a noise it has not")
        return None
    _require(body["mechanism"] == NOISY, f"unknown mechanism {body['mechanism']!r}")
    _require(clip is not None and clip > 0, f"clip {clip} is not above 0")
    return GaussianEvent(q=q, sigma=sigma, steps=steps)
