"""kill -9 of each process of a deployment in each phase of a round.

Two sites and a quorum of one; ``north`` is the site that is struck. Whatever is killed,
the run ends with all its rounds by itself (a killed supervisor is started again, as
systemd would), no ledger says less than what was done, a round that was sealed is not
paid for twice, and the site is there again in a later round.
"""

import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from tests.end_to_end.deployment import Deployment, deployed, wait_for
from tests.end_to_end.struck import (
    held,
    kill,
    require_books,
    trainings,
)

SITES = ("north", "south")
SERVER = ("server", "superlink", "superexec", "serverapp", "proxy")
SITE = ("site", "supernode", "superexec", "clientapp")
PHASES = ("asked", "training", "answered")
STRIKES = [
    *[("operator", role, phase) for role in SERVER for phase in PHASES],
    *[("north", role, phase) for role in SITE for phase in PHASES],
]
GONE = ("north", "clientapp", "answered")  # ends by itself once its site has answered


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server and two sites that are online."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    with deployed(tmp_path_factory.mktemp("killed")) as made:
        made.init()
        for name in SITES:
            made.make_site(name, epsilon=1000.0)
        made.start_server()
        for name in SITES:
            made.join(name)
        made.wait_online(*SITES)
        yield made


def begin(made: Deployment, run: str, *, rounds: int, quorum: int) -> None:
    plan = made.write_plan(
        *SITES, run=run, rounds=rounds, quorum=quorum, deadline_s=90, steps=6
    )
    made.tacit("server", "run", plan, made.operator, "--detach")


def strike(made: Deployment, place: str, role: str) -> None:
    """Kill; of a supervisor also see that what it left is taken over."""
    kill(made.root / place, role)
    if role == "server":
        made.processes["server"].popen.wait(10)
        made.begin("server", "server", "start", made.operator)
    if role == "site":
        made.processes[place].popen.wait(10)
        made.begin(place, "site", "join", made.site(place))


def in_phase(made: Deployment, run: str, phase: str, blow: Callable[[], None]) -> None:
    """Strike in a phase of round 1, as ``north`` sees it."""
    if phase == "asked":
        wait_for(lambda: made.events(run, "begun"), 60, "it begins", every_s=0.02)
        assert not trainings(made, "north", run, 1)[0]
        blow()
    elif phase == "training":
        with held(made, "north", run, 1):
            blow()
    else:
        with held(made, "south", run, 1):
            wait_for(lambda: answered(made, run, "north"), 60, "north answers")
            assert not made.events(run, "round")
            blow()


def answered(made: Deployment, run: str, name: str) -> bool:
    return any(event["site"] == name for event in made.events(run, "answered"))


def require_back(made: Deployment, run: str) -> None:
    """Check that both sites are in the last round, or else in one more."""
    later = f"{run}-later"
    if sorted(made.events(run, "round")[-1]["sites_ok"]) != [*SITES]:
        made.wait_online(*SITES, limit_s=150)
        begin(made, later, rounds=1, quorum=2)
        made.await_end(later)
        require_books(made, later, SITES)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("place", "role", "phase"), [s for s in STRIKES if s != GONE])
def test_no_round_is_lost_and_none_is_spent_unseen_whatever_is_killed(
    federation: Deployment,
    place: str,
    role: str,
    phase: str,
    record_property: Callable[[str, object], None],
) -> None:
    run = f"{place}-{role}-{phase}"
    federation.wait_online(*SITES, limit_s=150)
    begin(federation, run, rounds=2, quorum=1)

    begun = time.monotonic()
    in_phase(federation, run, phase, lambda: strike(federation, place, role))
    federation.await_end(run)
    record_property("seconds", round(time.monotonic() - begun))
    federation.wait_online(*SITES, limit_s=150)
    record_property("healed", round(time.monotonic() - begun))

    rounds = federation.events(run, "round")
    paid = [len(trainings(federation, name, run, 1)[0]) for name in SITES]
    record_property("begins", len(federation.events(run, "begun")))
    record_property("rounds", [[*e["sites_ok"], e["refused"]] for e in rounds])
    record_property("paid", paid)
    assert [event["number"] for event in rounds] == [1, 2]
    require_books(federation, run, SITES)
    require_back(federation, run)
    if phase == "answered":
        assert paid[0] == 1


@pytest.mark.slow
def test_a_run_outlives_its_processes(federation: Deployment) -> None:
    """South's node dies after its answer, north's app and the ServerApp in training.

    Flower counts a silent process as there for a minute; this is the one minute in
    which all three come back. Then the SuperLink dies while north trains again.
    """
    made, run = federation, "spring"
    begin(made, run, rounds=3, quorum=1)
    with held(made, "north", run, 1):
        wait_for(lambda: answered(made, run, "south"), 60, "south answers")
        kill(made.site("south"), "supernode")
        kill(made.site("north"), "clientapp")
        kill(made.operator, "serverapp")
    with held(made, "north", run, 2):
        kill(made.operator, "superlink")
    made.await_end(run)

    assert [event["number"] for event in made.events(run, "round")] == [1, 2, 3]
    assert len(trainings(made, "south", run, 1)[0]) == 1
    require_books(made, run, SITES)
    require_back(made, run)
