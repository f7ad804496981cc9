"""What a server holds in memory does not grow with the number of its sites."""

import json
import math
import subprocess
import sys
import weakref
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Message

from server.aggregate import make_rule
from server.events import Event
from server.inbox import AT_ONCE
from server.rounds import run
from server.spool import Row, Spool
from shared.protocol import Adapter
from tests.server.crowd import Crowd
from tests.server.world import World
from tests.standin import a_plan

SITES = tuple(f"site-{i:02}" for i in range(24))
FEW = AT_ONCE + 1  # those on their way, and the one before, until it is replaced
VALUES = 300_000
MOST_MB = 200


class Remembering(Crowd):
    """Knows of what came whether anyone still holds it."""

    came: list[weakref.ref[object]]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        come = super().pull_messages(message_ids)
        self.came += map(weakref.ref, come)
        return come

    def held(self) -> int:
        return sum(one() is not None for one in self.came)


@pytest.mark.parametrize("rule", ["fedavg", "krum"])
def test_neither_replies_nor_their_arrays_are_held_while_others_come(
    world: World, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    plan = replace(a_plan(1, SITES), max_norm=1e3, deadline_s=20.0)
    grid, append, held = Remembering(SITES, plan), Spool.append, list[int]()
    grid.came = []

    def remember(spool: Spool, site: str, delta: Adapter) -> Row:
        grid.came += map(weakref.ref, delta.values())
        held.append(grid.held())
        return append(spool, site, delta)

    def watch(event: Event) -> None:
        world.events.append(event)
        held.append(grid.held())

    monkeypatch.setattr(Spool, "append", remember)
    run([plan], grid, make_rule(rule), world.registry, watch)

    assert world.reports[0].sites_ok == SITES
    assert len(grid.came) == 2 * len(SITES)
    assert max(held) <= 2 * FEW < len(SITES)
    assert held[-1] == 0


@pytest.mark.slow
def test_a_thousand_sites_of_300_000_values_take_less_than_200_mb(
    tmp_path: Path,
) -> None:
    """All together are 1.2 GB of noise; the length of their median is known."""
    command = [sys.executable, "-m", "tests.server.crowd", str(tmp_path), "fedmedian"]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    told = json.loads(done.stdout)
    assert (told["sites"], told["outliers"]) == (1000, 0)
    length = math.sqrt(math.pi / 2 * VALUES / 1000)  # of a median of 1000 normals
    assert told["update_norm"] == pytest.approx(length, rel=0.01)
    assert told["grown_mb"] < MOST_MB
