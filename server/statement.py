"""What a version says of privacy: the least that a site in all its rounds has spent.

Computed from the plans alone. It never claims to be the whole of a site's spending,
which only the site's own ledger knows.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from shared.accounting import GaussianEvent, epsilon
from shared.entries import RELATION, UNIT
from shared.errors import ConfigError, PrivacyError
from shared.protocol import Mechanism

DELTA = 1e-5
TRAINING = ("q", "sigma", "clip", "steps")  # of each site, in each round


def privacy_after(
    earlier: Sequence[dict[str, Any]], mechanism: Mechanism
) -> dict[str, Any]:
    """Return the statement of a version, one round after ``earlier``.

    Args:
        earlier: What the version before says of its ``training``: one entry for each
            mechanism and how many rounds it was asked for, oldest first.
        mechanism: That of the new round.
    """
    asked = {name: asdict(mechanism)[name] for name in TRAINING}
    *before, last = earlier or [{**asked, "rounds": 0}]
    if {name: last[name] for name in TRAINING} == asked:
        training = [*before, {**last, "rounds": last["rounds"] + 1}]
    else:
        training = [*before, last, {**asked, "rounds": 1}]
    spent = _epsilon(training)
    return {
        "unit": UNIT,
        "relation": RELATION,
        "delta": DELTA,
        "training": training,
        "epsilon": spent,
        "statement": _statement(training, spent),
    }


def _epsilon(training: Sequence[dict[str, Any]]) -> float | None:
    """Return what all the training costs by PLD, or None if no figure holds."""
    return _composed(
        tuple(
            (part["q"], part["sigma"], part["steps"] * part["rounds"])
            for part in training
        )
    )


@lru_cache(maxsize=64)
def _composed(kinds: tuple[tuple[float, float, int], ...]) -> float | None:
    if any(sigma == 0 for _, sigma, _ in kinds):
        return None
    try:
        events = [GaussianEvent(q=q, sigma=s, steps=n) for q, s, n in kinds]
        return epsilon(events, DELTA)
    except (PrivacyError, ConfigError):  # too weak, or more steps than are composed
        return None


def _statement(training: Sequence[dict[str, Any]], spent: float | None) -> str:
    """Return the statement in a person's words."""
    rounds = sum(part["rounds"] for part in training)
    if spent is None:
        return (
            f"NOT PRIVATE: in rounds 1 to {rounds} of this run, training had no noise, "
            "or too little for an epsilon to be stated."
        )
    return (
        f"A site that took part in rounds 1 to {rounds} of this run spent on training "
        f"in them at least epsilon = {spent:.4f} at delta = {DELTA:g} (PLD). Its "
        "popularity, co-occurrences and metrics, rounds that it was charged for twice, "
        "and other runs come on top: the ledger of each site has the whole truth."
    )
