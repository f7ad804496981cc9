"""The live pages in a real browser, while a federation runs."""

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import RecordDict

from client.live.page import app as site_app
from server.flower import Node
from server.live.page import app
from shared.protocol import Adapter, AdapterUpdate, RoundPlan
from tests.client.live.test_view import busy, train
from tests.end_to_end.browser import BROWSERS, Tab, browser
from tests.server.live.test_view import SEEN
from tests.server.operated import SITES, an_operator, carry_out, task
from tests.server.world import refusing
from tests.shared.test_page import served
from tests.standin import Behaviour, a_client, packed

PROGRAM = next(filter(None, map(shutil.which, BROWSERS)), "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAM, reason="needs chromium"),
]


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    with browser(PROGRAM, tmp_path / "profile") as opened:
        yield opened


def online(*names: str) -> list[Node]:
    return [
        Node(name=name, node_id=n, status="online", last_seen=SEEN)
        for n, name in enumerate(names)
    ]


def held(gate: threading.Semaphore) -> Behaviour:
    """A site that answers each round when it is let."""

    def behave(
        _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
    ) -> RecordDict:
        gate.acquire()
        return packed(update)

    return behave


def test_the_page_follows_a_running_federation(tab: Tab, tmp_path: Path) -> None:
    folder, gate = an_operator(tmp_path / "op"), threading.Semaphore(0)
    client = a_client(dishonest={"north": held(gate), "west": refusing})
    run = task(folder, rounds=3)
    running = threading.Thread(target=carry_out, args=[run, client])
    with served(app(folder, lambda: online("north", "south"))) as address:
        tab.open(address)
        tab.wait_for("#round", "No run yet")
        running.start()
        for number in (1, 2, 3):
            tab.wait_for("#round", f"Round {number} of 3")
            tab.wait_for("#sites td:nth-child(4)", "training")
            tab.shoot(tmp_path / f"round-{number}.png")
            gate.release()
        tab.wait_for("#state", "completed")
        running.join()
        tab.dress(1200, "light")
        tab.wait_for("#rounds tbody th", "3")
        rows = tab.run(
            "[...document.querySelectorAll('#sites tbody tr')]"
            ".map(row => [...row.cells].slice(0, 5).map(cell => cell.textContent))"
        )
        tab.shoot(tmp_path / "light.png")
        tab.dress(420, "dark")
        tab.run("0")
        tab.shoot(tmp_path / "dark.png")

    assert [row[0] for row in rows] == list(SITES)
    assert [row[1] for row in rows] == ["online", "online", "unregistered"]
    assert [row[4] for row in rows] == ["3", "3", "0"]
    assert tab.text("#refusals tbody").strip() == "PolicyRefused3"
    assert "spring/3" in tab.text("#releases tbody")
    assert tab.text("#said").startswith("Run spring, round 3 of 3, completed")
    assert tab.complaints == []


def test_a_lost_connection_is_said_and_made_again(tab: Tab, tmp_path: Path) -> None:
    folder = an_operator(tmp_path / "op")
    carry_out(task(folder))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with served(app(folder, list), port) as address:
        tab.open(address)
        tab.wait_for("#link", "Live")
    tab.wait_for("#link", "Connection lost, trying again")
    with served(app(folder, list), port):
        tab.wait_for("#link", "Live")

    assert tab.text("#round") == "Round 2 of 2"


def test_what_comes_from_outside_is_shown_as_text_and_never_run(
    tab: Tab, tmp_path: Path
) -> None:
    evil = "<img src=x onerror='document.title=1'><script>document.title=1</script>"
    node = Node(name=evil, node_id=1, status=evil, last_seen=None)
    folder = an_operator(tmp_path / "op")
    with served(app(folder, lambda: [node])) as address:
        tab.open(address)
        tab.wait_for("#sites tbody th", evil)

    assert tab.text("title") == "Tacit server"
    assert tab.run("document.querySelectorAll('img, main script').length") == 0


def test_the_site_s_page_shows_its_budget_burning_down(
    tab: Tab, tmp_path: Path
) -> None:
    site = busy(tmp_path / "site")
    with served(site_app(site.folder)) as address:
        tab.dress(1200, "dark")
        tab.open(address)
        tab.wait_for("#link", "Live")
        tab.wait_for("#rounds tbody th", "5")
        before = tab.run("document.querySelector('#progress').value")
        train(site, 6)
        tab.wait_for("#rounds tbody th", "6")
        after = tab.run("document.querySelector('#progress').value")
        tab.shoot(tmp_path / "site.png")

    assert tab.text("#site") == "site-1"
    assert tab.text("#left-now").endswith("left of 1.00")
    assert 0 < after < before < 1
    assert tab.complaints == []
