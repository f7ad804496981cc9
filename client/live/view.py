"""What a site's operator may see of their site, at one moment; it is for them alone.

All of it is public by the site's own rules but for the time of rounds: no user, no
count of users and nothing read from data. The ledger is only read. What cannot be read
or believed is a fault of the view, not its end.
"""

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from client.account import (
    Charge,
    Left,
    RoundView,
    believed,
    charges,
    coming,
    left,
    rounds,
)
from client.budget import Budget, budget
from client.policy import SitePolicy
from client.site import open_site
from client.standing import has_left, is_paused, paused_until, standing
from shared.accounting import GaussianEvent
from shared.chain import Chain
from shared.errors import LedgerBroken

TOOK_PART = {"sent", "charged"}
MOST_ROWS = 100  # of what left and of rounds; the ledger has them all


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """The site's node.

    Attributes:
        state: ``starting``, ``connecting``, ``online``, ``paused``, ``stopped`` or
            ``refused``.
        since: Since when; empty if it was never started.
        detail: Class name or a few words that go with it.
        restarts: How often it was started anew.
        paused: Whether the site pauses.
        until: When the pause ends; empty if it does not pause or has no end.
        left: Whether the site has left the federation.
    """

    state: str
    since: str
    detail: str
    restarts: int
    paused: bool
    until: str
    left: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The site at one moment.

    Attributes:
        site: Its name.
        node: How it stands with the federation.
        budget: What is spent and left, recomputed from the ledger; None where the
            ledger cannot be believed.
        charges: Epsilon after each charge, oldest first.
        rounds: The newest rounds, newest first, at most ``MOST_ROWS``.
        took_part: How many rounds it was charged for.
        left: What left, newest first, at most ``MOST_ROWS``.
        releases: How many things ever left.
        bytes: Their size.
        refusals: Class name -> how often the site refused for it.
        serving: Name of the release in force here; empty before the first.
        faults: What cannot be read or believed, one sentence each.
    """

    site: str
    node: NodeView
    budget: Budget | None
    charges: tuple[Charge, ...]
    rounds: tuple[RoundView, ...]
    took_part: int
    left: tuple[Left, ...]
    releases: int
    bytes: int
    refusals: Mapping[str, int]
    serving: str
    faults: tuple[str, ...]


def look(folder: Path, now: datetime) -> View:
    """Return what there is to see.

    Args:
        folder: The site's.
        now: The time, aware.

    Raises:
        ConfigError: If the folder's settings or policy cannot be read.
    """
    site, faults = open_site(folder), list[str]()
    chain: Chain | None = Chain()
    try:
        chain = believed(site)
    except LedgerBroken as error:
        chain, faults = None, [str(error)]
    entries = chain.entries if chain else []
    took, gone = rounds(entries), left(entries)
    return View(
        site=site.settings.name,
        node=_node(folder, now),
        budget=_budget(chain, site.policy) if chain else None,
        charges=charges(entries),
        rounds=tuple(took[:MOST_ROWS]),
        took_part=sum(each.outcome in TOOK_PART for each in took),
        left=tuple(gone[:MOST_ROWS]),
        releases=len(gone),
        bytes=sum(each.bytes for each in gone),
        refusals=dict(
            Counter(e.body["reason"] for e in entries if e.state == "refused")
        ),
        serving=_serving(folder),
        faults=tuple(faults),
    )


def unready(view: View) -> list[str]:
    """Return why the site would not take part in a round now, one sentence each."""
    node, state = view.node, view.budget
    found = {
        "the site left the federation": node.left,
        "the site is paused; tacit site resume": node.paused,
        f"the node is {node.state}": node.state != "online",
        "the budget has no room for the next round": (
            state is not None and state.rounds_left == 0
        ),
    }
    return [*(reason for reason, holds in found.items() if holds), *view.faults]


def _budget(chain: Chain, policy: SitePolicy) -> Budget:
    delta = chain.opening["delta"] if chain.entries else policy.delta
    upcoming = coming(chain.entries)
    events, exposed = tuple(chain.events), chain.exposed
    return _computed(events, policy.epsilon, delta, upcoming, exposed)


@lru_cache(maxsize=2)
def _computed(
    events: tuple[GaussianEvent, ...],
    limit: float,
    delta: float,
    upcoming: GaussianEvent,
    exposed: bool,  # noqa: FBT001 - a cache's key
) -> Budget:
    """Return the budget; it takes seconds, so it is kept until anything changes."""
    return budget(events, limit, delta, upcoming, exposed=exposed)


def _node(folder: Path, now: datetime) -> NodeView:
    said, paused = standing(folder), is_paused(folder, now)
    until = paused_until(folder) if paused else None
    return NodeView(
        state=said.state,
        since=said.since,
        detail=said.detail,
        restarts=said.restarts,
        paused=paused,
        until=until.isoformat(timespec="seconds") if until else "",
        left=has_left(folder),
    )


def _serving(folder: Path) -> str:
    """Return the name of the release in force here; client/releases.py believes it."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        said = json.loads((folder / "releases" / "current.json").read_text("utf-8"))
        return str(said["release"])
    return ""
