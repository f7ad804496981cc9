"""Every precondition of a site, looked at in the order in which one mends them.

A check that fails never hides another; one that needs what is broken says so.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from client.doctor import machine, papers, server, work
from client.doctor.verdict import Verdict, checked, fault, ok
from client.policy import SitePolicy
from client.policy_file import read_policy
from client.site import Site, SiteSettings
from shared.errors import ConfigError
from shared.invitation import Invitation

T = TypeVar("T")
CORRECT = "correct it: a line above each key says what it means"
BACKUP = "restore it from the site's backup"
AGAIN = "ask again; if it stays, tell the operator: tacit server status"


def examine(folder: Path, now: datetime | None = None) -> list[Verdict]:
    """Return a verdict on everything that the site in ``folder`` needs.

    Args:
        folder: The site's.
        now: This machine's time; by default by the clock.
    """
    settings, of_settings = _read("site.toml", CORRECT, work.read_settings, folder)
    limits = folder / "policy.toml"
    policy, of_policy = _read("policy.toml", CORRECT, read_policy, limits)
    join = ("join.toml", "ask the operator for it again, and put it here as it came")
    invitation, of_invitation = _read(*join, papers.read_invitation, folder)
    now = now or datetime.now(UTC)
    return [
        *_of_machine(folder, settings, invitation),
        *(of_settings, of_policy, of_invitation),
        *_of_papers(folder, settings, policy, invitation),
        *_of_work(folder, settings, policy, invitation, now),
        *_of_server(folder, invitation, now),
    ]


def _of_machine(
    folder: Path, settings: SiteSettings | None, invitation: Invitation | None
) -> list[Verdict]:
    device = settings and settings.device
    flwr, tacit = invitation and invitation.flwr, invitation and invitation.tacit
    again = "pip install tacit, with its constraints.txt"
    return [
        checked("python", again, machine.python),
        checked("libraries", again, machine.libraries),
        checked("flower", again, machine.flower, flwr),
        checked("tacit", again, machine.release, tacit),
        checked("device", again, machine.device, device),
        checked("memory", again, machine.memory),
        checked("disk", f"make {folder} readable", machine.disk, folder),
    ]


def _of_papers(
    folder: Path,
    settings: SiteSettings | None,
    policy: SitePolicy | None,
    invitation: Invitation | None,
) -> list[Verdict]:
    name = settings and settings.name
    approve = f"tacit site approve {folder}"
    site = _site(folder, settings, policy)
    return [
        checked("permissions", BACKUP, papers.permissions, folder),
        checked("identity", BACKUP, papers.identity, folder, name),
        checked("invitation", BACKUP, papers.invited, invitation, name),
        checked("approval", approve, papers.bundle, site, invitation),
        checked("taking part", BACKUP, papers.marks, folder),
    ]


def _of_work(
    folder: Path,
    settings: SiteSettings | None,
    policy: SitePolicy | None,
    invitation: Invitation | None,
    now: datetime,
) -> list[Verdict]:
    site = _site(folder, settings, policy)
    agreed = invitation and invitation.base
    rows = f"see every fault: tacit site data check {folder}"
    weights = "set base in site.toml to an encoder that is here; see its README"
    return [
        checked("policy", BACKUP, work.promise, policy),
        checked("plans", BACKUP, work.plans, policy, invitation),
        checked("encoder", weights, work.encoder, settings, policy, agreed),
        checked("data", rows, work.data, site),
        checked("ledger", BACKUP, work.ledger, site, now),
    ]


def _of_server(
    folder: Path, invitation: Invitation | None, now: datetime
) -> list[Verdict]:
    """Ask the server, as far as it can be reached and believed."""
    dated = checked("operator's CA", BACKUP, server.authority, invitation, now)
    reached = checked("server", BACKUP, server.reach, invitation)
    met = invitation if reached.state == "ok" else None
    trusted = checked("certificate", BACKUP, server.certificate, met, now)
    believed = None if trusted.state == "FAULT" else met
    answer, answered = _asked(believed, folder / "node.key")
    return [
        *(dated, reached, trusted, answered),
        checked("clock", AGAIN, server.clock, answer),
        checked("admission", AGAIN, server.admitted, answer),
    ]


def _asked(
    invitation: Invitation | None, key: Path
) -> tuple[server.Answer | None, Verdict]:
    """Return what the server answered, or None; and whether it was Flower that did."""
    found: list[server.Answer] = []

    def ask(believed: Invitation) -> Verdict:
        found.append(server.ask(believed, key))
        return server.flower_answers(found[0])

    verdict = checked("fleet API", AGAIN, ask, invitation)
    return (found[0] if found else None), verdict


def _read(
    file: str, remedy: str, read: Callable[[Path], T], path: Path
) -> tuple[T | None, Verdict]:
    """Return what a file of settings says, or None; and what the doctor says of it.

    Our own errors of settings name keys and limits, so they are told in full.
    """
    try:
        return read(path), ok(file, "is read, and every value is in range")
    except ConfigError as error:
        said = "; ".join(line.strip() for line in str(error).splitlines())
        return None, fault(file, said, remedy)
    except FileNotFoundError:
        made = f"{BACKUP}, or make a site: tacit site init --join FILE FOLDER"
        return None, fault(file, "is missing", made)
    except Exception as error:  # noqa: BLE001 - whatever it is, the next check follows
        return None, fault(file, type(error).__name__, remedy)


def _site(
    folder: Path, settings: SiteSettings | None, policy: SitePolicy | None
) -> Site | None:
    return Site(folder, settings, policy) if settings and policy else None
