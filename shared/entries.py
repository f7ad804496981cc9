"""One line of a ledger: fields, canonical text, hash; see docs/ledger-format.md.

Refuses whatever is not exactly a known state with exactly its fields. What an entry
means together with those before it is the business of ``shared/chain.py``.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Any

from shared.composition import Relation

FORMAT = 2
UNIT = "one user account at one site: all its interactions, over all time"
RELATION: Relation = "add_remove"  # the one the budget is in
GENESIS = "0" * 64  # the hash before the first entry
DIGITS = 15  # of a whole number

NOISY, EXACT = "poisson-gaussian", "none"

# The fields of a line, by state. JSON has no infinity: no limit and no value are null.
TEXT, WHOLE, REAL, MAYBE = (str,), (int,), (int, float), (int, float, NoneType)
COMMON = {"n": WHOLE, "state": TEXT, "date": TEXT, "prev": TEXT}
ROUND = {"run": TEXT, "round": WHOLE}
OPENED = {"format": WHOLE, "site": TEXT, "unit": TEXT, "relation": TEXT, "delta": REAL}
EVENT = {"mechanism": TEXT, "q": MAYBE, "sigma": MAYBE, "steps": MAYBE, "clip": MAYBE}
SPENT = {"what": TEXT, "plan": TEXT, "code": TEXT, "before": MAYBE, "after": MAYBE}
SEALED = {"planned": WHOLE, "leaves": (bool,), "sha256": TEXT, "bytes": WHOLE}
STATES: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "opened": {**COMMON, **OPENED, "key": TEXT, "limits": (dict,)},
    "policy": {**COMMON, "limits": (dict,)},
    "planned": {**COMMON, **ROUND, **SPENT, **EVENT},
    "refused": {**COMMON, **ROUND, "reason": TEXT},
    "sealed": {**COMMON, **ROUND, **SEALED, "tensors": (list,)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One verified line: number, state, fields, text, hash and signature."""

    n: int
    state: str
    body: Mapping[str, Any]
    line: str
    hash: str
    signature: str


def parse(line: str) -> dict[str, Any]:
    """Return the fields of a line.

    Raises:
        ValueError: Saying what is wrong with it; it never gives the line itself.
    """
    body: Any = json.loads(line, parse_int=_whole)
    require(isinstance(body, dict), "not a JSON object")
    require(canonical(body) == line, "not canonical JSON")
    state = str(body.get("state"))
    require(state in STATES, f"unknown state {state!r}")
    kinds = STATES[state]
    odd = sorted(body.keys() ^ kinds.keys())
    require(not odd, f"unknown or missing: {', '.join(odd)}")
    wrong = [name for name, kind in kinds.items() if type(body[name]) not in kind]
    require(not wrong, f"wrong type: {', '.join(wrong)}")
    require(datetime.fromisoformat(body["date"]).tzinfo is not None, "date: no offset")
    return dict(body)


def _whole(text: str) -> int:
    """Return a whole number that any machine and any float can hold."""
    require(len(text) <= DIGITS, f"a number of {len(text)} digits")
    return int(text)


def canonical(body: Mapping[str, Any]) -> str:
    """Return the one line that stands for ``body``: sorted, no spaces, no NaN."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def hash_after(previous: str, line: str) -> str:
    """Return the hash of ``line`` behind an entry whose hash is ``previous``."""
    return hashlib.sha256((previous + line).encode()).hexdigest()


def finite(value: float) -> float | None:
    """Return a finite number, or None: JSON has no infinity."""
    return value if math.isfinite(value) else None


def require(holds: bool, fault: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise ``ValueError`` with the fault unless it holds."""
    if not holds:
        raise ValueError(fault)
