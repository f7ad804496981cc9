"""Networks that are slow, lossy or cut; sites that reach for what is not theirs.

The server is in one network namespace and each site in another, on a cable of its own.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.end_to_end.deployment import Deployment, deployed, wait_for
from tests.end_to_end.network import SERVER, Network, network, why_not
from tests.end_to_end.struck import held, require_books, trainings

SITES = ("north", "south")
KNOCK = """\
import http.client, ssl, sys
host, port, path = sys.argv[1:]
context = ssl._create_unverified_context()  # who answers does not matter here
door = http.client.HTTPSConnection(host, int(port), timeout=10, context=context)
try:
    door.request("POST", path, b"", {"Content-Type": "application/protobuf"})
    sys.exit(f"answered {door.getresponse().status}")
except OSError as error:
    sys.exit(type(error).__name__)
"""


@dataclass(frozen=True)
class Federation:
    """A deployment, and the network that it lies in."""

    made: Deployment
    network: Network


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A server and two sites that are online, each in a namespace of its own."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    if reason := why_not():
        pytest.skip(reason)
    root = tmp_path_factory.mktemp("network")
    with network(SITES) as net, deployed(root, SERVER, net.within) as made:
        made.init()
        for name in SITES:
            made.make_site(name, epsilon=1000.0)
        made.start_server()
        for name in SITES:
            made.join(name)
        made.wait_online(*SITES)
        yield Federation(made, net)


def begin(made: Deployment, run: str, *, rounds: int, deadline_s: float) -> None:
    plan = made.write_plan(
        *SITES, run=run, rounds=rounds, quorum=1, deadline_s=deadline_s
    )
    made.tacit("server", "run", plan, made.operator, "--detach")


def counted(made: Deployment, run: str) -> list[list[str]]:
    """The sites that counted, round by round."""
    return [sorted(event["sites_ok"]) for event in made.events(run, "round")]


def knock(federation: Federation, port: int, path: str) -> str:
    """What a site hears that asks for a path at a port of the server."""
    knocked = subprocess.run(
        [
            *federation.network.within["north"],
            *(sys.executable, "-c", KNOCK, SERVER, str(port), path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    return knocked.stderr.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/v1/control/list-runs", "/v1/runtime/acquire-task"])
def test_a_partner_reaches_the_proxy_alone(federation: Federation, path: str) -> None:
    made = federation.made

    assert knock(federation, made.port, path) == "ConnectionRefusedError"
    assert knock(federation, made.page, path) == "ConnectionRefusedError"
    assert knock(federation, made.public, path) == "answered 404"
    assert knock(federation, made.public, "/v1/fleet/pull-messages") == "answered 401"


@pytest.mark.slow
def test_an_answer_comes_after_a_cut_of_the_network(federation: Federation) -> None:
    """The site trains while it is cut off; the round waits, and nothing is paid twice.

    Then a link of 2 Mbit/s, 200 ms and 2 % loss carries a round.
    """
    made, cable = federation.made, federation.network.cables["north"]
    begin(made, "cut", rounds=2, deadline_s=120)
    with held(made, "north", "cut", 1):
        cable.cut()
    wait_for(lambda: trainings(made, "north", "cut", 1)[1], 60, "north has sealed")
    time.sleep(5)  # it tries to send, in vain
    assert not made.events("cut", "round")
    cable.mend()
    wait_for(lambda: made.events("cut", "round"), 120, "round 1 ends")
    cable.delay_s, cable.loss, cable.bytes_per_s = 0.2, 0.02, 250_000
    made.await_end("cut")
    cable.delay_s, cable.loss, cable.bytes_per_s = 0.0, 0.0, float("inf")

    assert counted(made, "cut") == [[*SITES], [*SITES]]
    assert len(trainings(made, "north", "cut", 1)[0]) == 1
    require_books(made, "cut", SITES)
    assert cable.dropped > 0


@pytest.mark.exhaustive
def test_a_round_ends_by_quorum_without_a_site_that_is_cut_off_for_long(
    federation: Federation,
) -> None:
    """Its answer comes too late to count; it was sealed and paid for all the same."""
    made, cable = federation.made, federation.network.cables["north"]
    made.wait_online(*SITES, limit_s=150)
    begin(made, "long", rounds=3, deadline_s=40)
    with held(made, "north", "long", 1):
        cable.cut()
    wait_for(lambda: len(made.events("long", "round")) >= 2, 150, "round 2 ends")
    cable.mend()
    made.await_end("long")
    made.wait_online(*SITES, limit_s=150)
    begin(made, "after", rounds=1, deadline_s=90)
    made.await_end("after")

    assert counted(made, "long")[0] == ["south"]
    assert counted(made, "after") == [[*SITES]]
    assert len(trainings(made, "north", "long", 1)[0]) == 1
    for run in ("long", "after"):
        require_books(made, run, SITES)


@pytest.mark.exhaustive
def test_a_whole_run_goes_over_a_slow_and_lossy_link(federation: Federation) -> None:
    made, cable = federation.made, federation.network.cables["north"]
    made.wait_online(*SITES, limit_s=150)
    cable.delay_s, cable.loss, cable.bytes_per_s = 0.2, 0.02, 250_000
    begin(made, "slow", rounds=3, deadline_s=120)
    made.await_end("slow", 400)
    cable.delay_s, cable.loss, cable.bytes_per_s = 0.0, 0.0, float("inf")

    assert counted(made, "slow") == [[*SITES]] * 3
    require_books(made, "slow", SITES)
    assert cable.dropped > 0
