"""Releases change over and back while a site is loaded, and no request fails."""

import asyncio
import json
import subprocess
from collections import Counter
from itertools import cycle, takewhile
from pathlib import Path

import numpy as np
import pytest

from client.releases import receive
from client.site import Site
from server.operator import Operator
from server.releases import find
from shared.invitation import to_text
from shared.pointer import point
from shared.programs import beside_python
from shared.signing import public_key
from simulations.bench.load import Load, at_random, in_turn, request
from simulations.bench.serve import PATH
from simulations.bench.served import Served, served
from tests.factories import write_site
from tests.server.premises import an_operator, publish
from tests.shared.papers import an_invitation

LONGEST_S = 100.0


def invited(folder: Path, operator: Operator) -> Site:
    """A site with users that believes this operator."""
    site = write_site(folder, people=30)
    key = operator.signing_key()
    text = to_text(an_invitation(operator=public_key(key)), key)
    (folder / "join.toml").write_text(text, "utf-8")
    return site


def send(site: Site, operator: Operator, name: str, number: int) -> None:
    """Let a release come into force at the site."""
    release = find(operator.folder, name)
    time, key = "2026-01-02T03:04:05+00:00", operator.signing_key()
    receive(site, point(release, number, time, key).to_json(), release.files())


async def serves(server: Served, release: str) -> None:
    """Wait until a release is served."""
    asked = [request("GET", "/v1/model", headers=server.headers)]
    while True:
        [answer] = (await in_turn(server.port, asked, connections=1)).answers
        if json.loads(answer.body)["release"] == release:
            return
        await asyncio.sleep(0.2)


async def loaded(site: Site, operator: Operator, server: Served) -> Load:
    """A newer release and a rollback, in the midst of a load."""
    done = asyncio.Event()
    wishes = cycle([{"user": f"user-{n:05d}", "k": 5} for n in range(30)])
    asked = (request("POST", PATH, wish, server.headers) for wish in wishes)
    until = takewhile(lambda _: not done.is_set(), asked)
    rng = np.random.default_rng(0)
    load = asyncio.create_task(
        at_random(server.port, until, rate=40, seconds=LONGEST_S, rng=rng)
    )
    await asyncio.sleep(1)
    await asyncio.to_thread(send, site, operator, "spring/2", 2)
    await serves(server, "spring/2")
    await asyncio.sleep(1)
    back = [beside_python("tacit"), "site", "rollback", "spring/1", str(site.folder)]
    await asyncio.to_thread(subprocess.run, back, check=True, capture_output=True)
    await serves(server, "spring/1")
    await asyncio.sleep(1)
    done.set()
    return await load


@pytest.mark.slow
def test_no_request_fails_while_releases_change_over_and_back(tmp_path: Path) -> None:
    operator = an_operator(tmp_path / "operator")
    publish(operator, "spring", 2)
    site = invited(tmp_path / "site", operator)
    send(site, operator, "spring/1", 1)

    with served(site.folder, None, tmp_path / "log") as server:
        load = asyncio.run(loaded(site, operator, server))

    assert not load.failed
    assert load.seconds < LONGEST_S
    releases = [json.loads(answer.body)["release"] for answer in load.answers]
    assert Counter(releases).keys() == {"spring/1", "spring/2"}
    assert releases[0] == releases[-1] == "spring/1"
