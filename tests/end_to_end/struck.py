"""Processes of a deployment, found, stopped and killed; and the books afterwards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from client.site import LEDGER
from server.registry import WITNESSES
from shared.accounting import GaussianEvent, epsilon
from shared.chain import Chain
from shared.entries import Entry
from shared.errors import LedgerBroken
from shared.ledger_file import read_ledger
from simulations.audit.ledger import audit_ledger
from tests.end_to_end.deployment import Deployment, processes_of, wait_for

COMMANDS = {  # role -> what its command line holds
    "server": "tacit server start",
    "superlink": "flower-superlink",
    "serverapp": "flwr-serverapp",
    "proxy": "nginx: master",
    "site": "tacit site join",
    "supernode": "client.node",
    "superexec": "flower-superexec",
    "clientapp": "flwr-clientapp",
    "worker": "client.worker",
}


def process(folder: Path, role: str) -> psutil.Process | None:
    """The newest process of a role that works for a folder."""
    found = [
        process
        for process in processes_of(folder)
        if COMMANDS[role] in " ".join(process.info["cmdline"] or [])
    ]
    return max(found, key=psutil.Process.create_time, default=None)


def await_process(folder: Path, role: str, limit_s: float = 60) -> psutil.Process:
    """The process of a role, waited for."""
    found: list[psutil.Process] = []

    def there() -> bool:
        found.extend(filter(None, [process(folder, role)]))
        return bool(found)

    wait_for(there, limit_s, f"{role} of {folder.name}", every_s=0.05)
    return found[-1]


def kill(folder: Path, role: str) -> None:
    """Kill as kill -9 does: nothing is told, nothing is put in order."""
    struck = await_process(folder, role)
    struck.kill()
    with suppress(psutil.TimeoutExpired):  # a zombie until its parent looks
        struck.wait(5)


@contextmanager
def held(made: Deployment, name: str, run: str, number: int) -> Iterator[None]:
    """A site that has charged a round and is stopped before it seals it, for a while.

    It goes on afterwards, unless it was killed.
    """
    wait_for(
        lambda: trainings(made, name, run, number)[0],
        120,
        f"{name} has charged round {number} of {run}",
        every_s=0.02,
    )
    worker = await_process(made.site(name), "worker")
    worker.suspend()
    try:
        assert not trainings(made, name, run, number)[1], "stopped too late"
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            worker.resume()


def trainings(
    made: Deployment, name: str, run: str, number: int
) -> tuple[list[Entry], list[Entry]]:
    """Charges for the training of a round, and what was sealed for them."""
    try:
        entries = chain(made, name).entries
    except LedgerBroken:  # no ledger yet, or read while it was written
        return [], []
    planned = [
        entry
        for entry in entries
        if entry.state == "planned"
        and (entry.body["run"], entry.body["round"]) == (run, number)
        and entry.body["what"] == "training"
    ]
    numbers = {entry.n for entry in planned}
    sealed = [
        e for e in entries if e.state == "sealed" and e.body["planned"] in numbers
    ]
    return planned, sealed


def chain(made: Deployment, name: str) -> Chain:
    return read_ledger(made.site(name) / LEDGER)


def require_books(made: Deployment, run: str, names: Sequence[str]) -> None:
    """Check that no ledger says less than what was done, and none paid for nothing.

    What was trained was charged; what the server holds was charged and left by the
    ledger; what was sealed was never paid for again.
    """
    rounds = {event["number"]: event for event in made.events(run, "round")}
    for name in names:
        ledger = chain(made, name)
        for number, told in rounds.items():
            planned, sealed = trainings(made, name, run, number)
            if sealed:
                assert max(e.n for e in planned) < min(e.n for e in sealed), name
                assert len(sealed) == 1, name
            assert planned or name not in told["sites_ok"], (name, number)
        for kept in (made.site(name) / "runs" / run).glob("head-????.safetensors"):
            number = int(kept.stem.removeprefix("head-"))
            assert trainings(made, name, run, number)[0], kept
        counted = [n for n, told in rounds.items() if name in told["sites_ok"]]
        assert epsilon(ledger.events, 1e-5) >= held_by_server(ledger, run, counted)
        lost = [n for n, told in rounds.items() if name not in told["sites_ok"]]
        require_reconciled(made, name, run, lost)


def require_reconciled(
    made: Deployment, name: str, run: str, lost: Sequence[int]
) -> None:
    """Check that the audit finds nothing, save answers sealed in ``lost`` rounds.

    Those left the site and did not count: the auditor is to see them.
    """
    registry = made.operator / "runs" / run / "registry"
    known = (registry / WITNESSES / f"{name}.json").exists()  # it counted once
    audited = audit_ledger(made.site(name) / LEDGER, registry if known else None)
    unarrived = {
        entry.body["sha256"]
        for number in lost
        for entry in trainings(made, name, run, number)[1]
    }
    for finding in audited.findings:
        if finding.audit == "ledger.nothing is missing" and not finding.holds:
            unknown = finding.figures["unknown"]
            assert isinstance(unknown, list)
            assert unarrived.issuperset(unknown), finding
        else:
            assert finding.holds, finding


def held_by_server(ledger: Chain, run: str, numbers: Sequence[int]) -> float:
    """Epsilon of one training in each of these rounds, as the ledger describes it."""
    charged = {
        entry.body["round"]: GaussianEvent(
            q=entry.body["q"], sigma=entry.body["sigma"], steps=entry.body["steps"]
        )
        for entry in ledger.entries
        if entry.state == "planned"
        and (entry.body["run"], entry.body["what"]) == (run, "training")
    }
    events = [charged[number] for number in numbers]
    return epsilon(events, 1e-5) if events else 0.0
