"""Small ledgers of one site, and what people do to them; imports no test library."""

import json
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.accounting import GaussianEvent
from shared.chain import Chain
from shared.entries import Entry, hash_after
from shared.ledger import Ledger
from shared.limits import Limits
from shared.signing import sign
from shared.witness import statement

ROOT = Path(__file__).parents[2]
VECTORS = ROOT.parent / "shared" / "vectors" / "epsilon_vectors.json"
DELTA = 1e-5
NEW_YEAR = "2026-01-01T00:00:00+00:00"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))
ROUND = GaussianEvent(q=0.2, sigma=2.99, steps=20)
CHEAP = GaussianEvent(q=1.0, sigma=20.0, steps=1)


def limits(epsilon: float = 3.0, **changes: Any) -> Limits:
    """A policy's limits that are wide but for the budget."""
    usual = {
        "max_q": 1.0,
        "max_steps": 1000,
        "max_clip": 2.0,
        "min_sigma_training": 0.5,
        "min_sigma_popularity": 0.5,
        "min_sigma_metrics": 1.0,
        "policy": "ab" * 32,
    }
    return Limits(epsilon=epsilon, **{**usual, **changes})


def book(folder: Path, epsilon: float = 3.0, **changes: Any) -> Ledger:
    """The ledger of site north, opened or created."""
    usual = {
        "site": "north",
        "delta": DELTA,
        "limits": limits(epsilon),
        "key": KEY,
        "now": lambda: NEW_YEAR,
    }
    return Ledger.open(folder / "ledger.sqlite", **{**usual, **changes})


def train(
    ledger: Ledger,
    number: int,
    event: GaussianEvent = CHEAP,
    *,
    what: str = "training",
    clip: float = 1.0,
) -> int:
    """Plan one round of run r."""
    return ledger.plan(
        run="r", number=number, what=what, event=event, clip=clip, plan_digest="cd"
    )


def unprotected(ledger: Ledger, number: int) -> int:
    """Plan a round without noise."""
    return ledger.plan_unprotected(
        run="r", number=number, what="training", plan_digest="cd"
    )


def seal(ledger: Ledger, planned: int, *, leaves: bool = True) -> Entry:
    """Seal three bytes under a plan."""
    return ledger.sealed(planned, content=b"abc", tensors=["a", "b"], leaves=leaves)


def busy(folder: Path) -> Ledger:
    """A ledger with an entry of every state; its budget was raised to 5."""
    for name, content in _busy_files().items():
        (folder / name).write_bytes(content)
    return book(folder, 5.0)


@lru_cache(maxsize=1)
def _busy_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = book(folder)
        seal(ledger, train(ledger, 1))
        ledger.refused("r", 2, "PolicyRefused")
        train(book(folder, 5.0), 2)
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def states(ledger: Ledger) -> list[str]:
    return [entry.state for entry in ledger.entries()]


def meddle(folder: Path, *statements: str) -> None:
    """Change the file as someone with an editor for SQLite would."""
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db, db:
        for trigger in ("entry_kept", "entry_fixed", "entry_next"):
            db.execute(f"DROP TRIGGER {trigger}")
        for statement_ in statements:
            db.execute(statement_)


def forged(line: str, changes: dict[str, Any]) -> str:
    """A line with fields changed, or removed where the change is ``...``."""
    body = {**json.loads(line), **changes}
    kept = {name: value for name, value in body.items() if value is not ...}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def signed(chain: Chain, line: str, key: Ed25519PrivateKey = KEY) -> str:
    """The signature of a line at the end of a chain of site north."""
    digest = hash_after(chain.head, line)
    return sign(key, statement("north", len(chain.entries), digest))


def child(folder: Path, code: str) -> subprocess.Popen[str]:
    """Another process of the site, with ``folder`` and all that is above."""
    setup = (
        "import os, resource, signal, sys\n"
        "from math import inf\n"
        "from shared.errors import *\n"
        "from tests.shared.books import *\n"
        f"folder = Path({str(folder)!r})\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", setup + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def told(process: subprocess.Popen[str]) -> str:
    """The next line that a child prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    """Answer a child that waits for a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def vectors(name: str) -> Any:
    """A group of the numbers of reference, empty where there is no such file."""
    return json.loads(VECTORS.read_text("utf-8"))[name] if VECTORS.exists() else []
