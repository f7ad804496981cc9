"""The chain of a ledger's entries: what makes one valid, and what all amount to.

Every entry names the hash of the one before it and is signed by the key that entry 0
names, so an export can be verified by anyone, without the ledger it came from. No entry
depends on data, no order on time. Nothing is read or written here.

The chain cannot see its own end cut off; a ``Witness`` kept elsewhere can.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.accounting import GaussianEvent, epsilon
from shared.composition import Relation
from shared.entries import (
    EXACT,
    FORMAT,
    GENESIS,
    NOISY,
    RELATION,
    UNIT,
    Entry,
    canonical,
    hash_after,
    parse,
    require,
)
from shared.errors import ConfigError, LedgerBroken
from shared.limits import PURPOSES, Limits
from shared.signing import is_signed
from shared.witness import HEX, Witness, statement


@dataclass(slots=True)
class Chain:
    """Entries, each verified against those before it, and what they amount to.

    Attributes:
        entries: All entries, in order.
        events: Everything charged with noise.
        exposed: Whether anything was charged without noise: epsilon is then infinite.
        limits: The newest policy's limits, once there is an entry.
    """

    entries: list[Entry] = field(default_factory=list)
    events: list[GaussianEvent] = field(default_factory=list)
    exposed: bool = False
    _limits: list[Limits] = field(default_factory=list)
    _unsealed: dict[int, tuple[str, int]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """Hash of the newest entry."""
        return self.entries[-1].hash if self.entries else GENESIS

    @property
    def opening(self) -> Mapping[str, Any]:
        """Fields of entry 0: site, key, delta, unit, relation."""
        return self.entries[0].body

    @property
    def limits(self) -> Limits:
        """Limits of the policy in force."""
        return self._limits[-1]

    @property
    def witness(self) -> Witness:
        """The chain's signed end."""
        return Witness(
            site=self.opening["site"],
            key=self.opening["key"],
            entries=len(self.entries),
            head=self.head,
            signature=self.entries[-1].signature,
        )

    def add(self, line: str, signature: str) -> Entry:
        """Verify the next line and its signature, and take it in.

        Raises:
            LedgerBroken: With the number of the entry and what is wrong.
        """
        n, head = len(self.entries), self.head
        try:
            body = parse(line)
            require(body["n"] == n, f"out of sequence: it says {body['n']}")
            require(body["prev"] == head, "prev is not the hash of the entry before")
            require((body["state"] == "opened") == (n == 0), "only entry 0 opens")
            opening = self.opening if n else body
            digest = hash_after(head, line)
            said = statement(opening["site"], n, digest)
            ours = is_signed(opening["key"], said, signature)
            require(ours, "the signature is not that of the site's key")
            self._take(body)
        except (ValueError, RecursionError, ConfigError) as error:
            raise LedgerBroken(f"ledger entry {n}: {error}") from None
        state = body["state"]
        entry = Entry(
            n=n, state=state, body=body, line=line, hash=digest, signature=signature
        )
        self.entries.append(entry)
        return entry

    def epsilon(self, relation: Relation, *extra: GaussianEvent) -> float:
        """Return what is spent, together with ``extra``."""
        if self.exposed:
            return math.inf
        return epsilon([*self.events, *extra], self.opening["delta"], relation)

    def require_contains(self, witness: Witness) -> None:
        """Return if the witness is an end that this chain once had.

        Guarantee: a ledger that was cut, restored from an old copy, replaced or cloned
        is behind or beside its newest witness, and is refused.

        Raises:
            LedgerBroken: Saying how the two differ.
        """
        have, ours = len(self.entries), self.opening
        if (witness.site, witness.key) != (ours["site"], ours["key"]):
            fault = f"belongs to site {witness.site!r} with another name or key"
        elif witness.entries > have:
            fault = f"has seen {witness.entries} entries; the ledger has only {have}"
        elif self.entries[witness.entries - 1].hash != witness.head:
            fault = f"has seen another entry {witness.entries - 1}"
        else:
            return
        raise LedgerBroken(
            f"ledger of site {ours['site']!r}: its witness {fault}; it was rolled back "
            "or cloned: put the newest copy of the ledger back, nothing else may train"
        )

    def _take(self, body: Mapping[str, Any]) -> None:
        """Account for one entry whose fields are all there."""
        match body["state"]:
            case "opened":
                _require_opening(body)
                self._limits.append(Limits.from_body(body["limits"]))
            case "policy":
                self._limits.append(Limits.from_body(body["limits"]))
            case "planned":
                event = _event(body, self.limits)
                self.exposed |= event is None
                self.events += [event] if event else []
                self._unsealed[body["n"]] = body["run"], body["round"]
            case "sealed":
                plan = self._unsealed.pop(body["planned"], None)
                ours = plan == (body["run"], body["round"])
                require(ours, f"{body['planned']} is not an unsealed plan of its round")


def verify_lines(lines: Iterable[str]) -> Chain:
    """Verify an export, line by line, without the ledger it came from.

    Raises:
        LedgerBroken: If a line was changed, moved, added or removed.
    """
    *body, last = [line.removesuffix("\n") for line in lines] or [""]
    chain = Chain()
    for text in body:
        line, space, signature = text.rpartition(" ")
        if not space:
            raise LedgerBroken(f"ledger entry {len(chain.entries)}: no signature")
        chain.add(line, signature)
    if not body or last != closing_line(chain):
        raise LedgerBroken(
            f"ledger export: entry {len(body) - 1} is not followed by its hash"
        )
    return chain


def export_lines(chain: Chain) -> list[str]:
    """Return the lines that ``verify_lines`` reads: entries, then their head."""
    return [
        *(f"{entry.line} {entry.signature}" for entry in chain.entries),
        closing_line(chain),
    ]


def closing_line(chain: Chain) -> str:
    """Return the last line of an export; without it a cut-off end would not show."""
    return canonical({"entries": len(chain.entries), "head": chain.head})


def _require_opening(body: Mapping[str, Any]) -> None:
    """Refuse a ledger kept under other rules than ours."""
    rules = (FORMAT, UNIT, RELATION)
    theirs = (body["format"], body["unit"], body["relation"])
    require(theirs == rules, f"format, unit and relation are {theirs}, not {rules}")
    require(0 < body["delta"] < 1, f"delta {body['delta']} is not in (0, 1)")
    require(bool(HEX.fullmatch(body["key"])), "key is not 64 hexadecimal digits")


def _event(body: Mapping[str, Any], limits: Limits) -> GaussianEvent | None:
    """Return what was charged, or None where there was no noise."""
    require(body["what"] in PURPOSES, f"{body['what']!r} is not one of {PURPOSES}")
    q, sigma, steps, clip = (body[name] for name in ("q", "sigma", "steps", "clip"))
    if body["mechanism"] == EXACT:
        require({q, sigma, steps, clip} == {None}, "parameters of a noise it has not")
        allowed = math.isinf(limits.epsilon)
        require(allowed, "a release without noise under a finite budget")
        return None
    require(body["mechanism"] == NOISY, f"unknown mechanism {body['mechanism']!r}")
    require(clip is not None and clip > 0, f"clip {clip} is not above 0")
    event = GaussianEvent(q=q, sigma=sigma, steps=steps)
    passed = limits.passed_by(body["what"], event, clip)
    after = math.inf if body["after"] is None else body["after"]
    if not after <= limits.epsilon:
        passed.append(f"epsilon={after} is over {limits.epsilon}")
    require(not passed, f"outside the policy: {'; '.join(passed)}")
    return event
