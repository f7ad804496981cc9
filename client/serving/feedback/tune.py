"""One charged release of what a site's users chose, for serving to adapt to.

The order is that of a round: policy, charge, data, noise, seal. Nothing is written that
was not noised, and what was not sealed is never served.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.account import TUNE, believed
from client.forgotten import forgotten_at
from client.noise import insecure_streams, secret_streams
from client.sampler import Uniform
from client.serving.build import build, chosen
from client.serving.feedback.log import newest_event, opened
from client.serving.feedback.sums import noised, summed, tallies_of
from client.serving.feedback.tallies import (
    FILE,
    PURPOSE,
    SHAPE,
    TENSORS,
    Tallies,
    read_tallies,
)
from client.serving.feedback.tastes import TOPICS, Tastes, layout_of, tastes
from client.serving.feedback.thompson import Floats
from client.serving.feedback.votes import votes
from client.serving.schema import file_of
from client.serving.settings import read_settings
from client.serving.topics import topics_of
from client.site import Site
from shared.accounting import GaussianEvent, epsilon
from shared.errors import ConfigError, PolicyRefused
from shared.ledger import Ledger
from shared.secret_file import keep_secret

COUNTED: Final = "serving/counted.json"  # the newest event that a release counted
SIGMA: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a release costs, before it is made; all of it is public.

    Attributes:
        sigma: Its noise multiplier.
        before: Epsilon that is spent; ``inf`` where something was released exactly.
        after: Epsilon that will be.
        limit: The budget.
        delta: What goes with every epsilon here.
    """

    sigma: float
    before: float
    after: float
    limit: float
    delta: float


def usual_sigma(site: Site) -> float:
    """Return the noise that is taken where nobody asks for another."""
    return max(SIGMA, site.policy.min_serving_sigma)


def cost(site: Site, sigma: float) -> Cost:
    """Return what a release would cost on top of all that the site ever spent.

    Nothing is charged, and no data is read.

    Raises:
        PolicyRefused: If the policy does not allow it.
        LedgerBroken: If the ledger cannot be believed.
    """
    require_allowed(site, sigma)
    chain, delta = believed(site), site.policy.delta
    before = after = math.inf
    if not chain.exposed:
        before = epsilon(chain.events, delta)
        after = epsilon([*chain.events, _event(sigma)], delta)
    return Cost(
        sigma=sigma,
        before=before,
        after=after,
        limit=site.policy.epsilon,
        delta=delta,
    )


def require_allowed(site: Site, sigma: float) -> None:
    """Return if the site's policy allows the release, or refuse with every reason.

    Raises:
        PolicyRefused: If it does not.
    """
    least = site.policy.min_serving_sigma
    checks = [
        (
            PURPOSE in site.policy.releases,
            f"'releases' in policy.toml does not list {PURPOSE!r}",
        ),
        (least <= sigma < math.inf, f"{sigma=} is under min-serving-sigma={least}"),
    ]
    reasons = [reason for allowed, reason in checks if not allowed]
    if reasons:
        raise PolicyRefused(f"tallies refused by policy: {'; '.join(reasons)}")


def tune(site: Site, sigma: float) -> Tallies:
    """Charge and make one release of tallies, and put it in force.

    Guarantee: one Gaussian release of multiplier ``sigma`` for whole users. Each adds a
    vector of L2 norm at most 1; the charge is durable in the ledger before any of their
    data is read; an event of feedback is counted by one release only.

    Args:
        site: Whose.
        sigma: Noise multiplier.

    Raises:
        PolicyRefused: If the policy does not allow it; nothing is charged.
        BudgetSpent: If it would pass the budget; the refusal is in the ledger.
        LedgerBusy: If a round, or another of these, is under way; nothing is charged.
        StoreFailed: If the store cannot be read; what was charged stays charged.
    """
    require_allowed(site, sigma)
    groups = read_settings(site.folder).groups
    store = file_of(site.folder)
    if not store.exists():
        raise ConfigError(
            f"{store} is not there: nobody was served yet, so nothing can be learned; "
            "tacit site serve"
        )
    ledger = site.open_ledger()
    with ledger.alone():
        earlier = read_tallies(site.folder)
        number = 1 + _releases(ledger)
        planned = ledger.plan(
            run=TUNE,
            number=number,
            what=PURPOSE,
            event=_event(sigma),
            clip=1.0,
            plan_digest=_digest(number, sigma, groups),
        )
        read = _read(site, groups)
        drawn = noised(summed(read.voted, read.liked), sigma, _noise(site, number))
        made = tallies_of(drawn, sigma, number, read.layout, earlier)
        content = made.to_bytes()
        ledger.sealed(planned, content=content, tensors=TENSORS, leaves=False)
        counted = json.dumps({"events": read.newest}).encode()
        keep_secret(site.folder / COUNTED, counted)
        keep_secret(site.folder / FILE, content)
        return made


@dataclass(frozen=True, slots=True, repr=False)
class _Read:
    """What was read of the site's users, before noise; it is never written."""

    voted: Mapping[str, Floats]
    liked: Tastes | None
    layout: str
    newest: int


def _read(site: Site, groups: Sequence[str]) -> _Read:
    """Read the votes since the last release and, for groups, who likes what."""
    gone = forgotten_at(site.folder)
    built = build(site, chosen(site)) if groups else None
    topics = topics_of(built.served, site.folder / TOPICS) if built else None
    with opened(site.folder) as db:
        newest = newest_event(db)
        voted = votes(db, gone, _counted(site.folder, newest), newest)
        if built is None or topics is None:
            return _Read(voted, None, "", newest)
        liked = tastes(built.data, topics, groups, db, gone)
        return _Read(voted, liked, layout_of(topics, groups), newest)


def _noise(site: Site, number: int) -> Uniform:
    """Return the operating system's generator; a seeded one for tests alone."""
    if not site.policy.insecure_test_noise:
        return secret_streams().noise
    return insecure_streams(number, *TUNE.encode()).noise


def _event(sigma: float) -> GaussianEvent:
    return GaussianEvent(q=1.0, sigma=sigma, steps=1)


def _releases(ledger: Ledger) -> int:
    """Return how many releases for serving were charged so far."""
    return sum(entry.body.get("what") == PURPOSE for entry in ledger.entries())


def _digest(number: int, sigma: float, groups: Sequence[str]) -> str:
    """Return the SHA-256 of what is about to be done; all of it is public."""
    said = {"number": number, "sigma": sigma, "cells": SHAPE, "groups": groups}
    line = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(line.encode()).hexdigest()


def _counted(folder: Path, newest: int) -> int:
    """Return the newest event that was counted before; 0 in another store.

    Raises:
        ConfigError: If the note of it cannot be read.
    """
    path = folder / COUNTED
    try:
        number = int(json.loads(path.read_bytes())["events"])
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, LookupError, TypeError):
        raise ConfigError(
            f"{path} cannot be read; delete it to count all feedback again"
        ) from None
    return number if number <= newest else 0
