"""What a site says of itself at a glance: its node, its last round, its approvals.

Nothing is computed or asked of the server, so it works at once and without a network.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from client.approval import approved, waiting
from client.site import Site
from client.standing import Standing, has_left, is_paused, paused_until, standing
from shared.entries import Entry
from shared.invitation import fingerprint
from shared.ledger_file import read_ledger
from shared.signing import load_key, public_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round as the ledger has it: answered, or refused for a reason."""

    time: str
    run: str
    number: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Where a site stands; nothing in it tells of any user.

    Attributes:
        site: Its name.
        node: How its node is.
        part: ``taking part``, ``paused`` or ``left``.
        paused_until: When a pause ends, ISO 8601; empty if it has no end.
        last_round: The newest round that was answered.
        last_refusal: The newest that was not.
        approved: Digest of the bundle approved last; empty if none may run.
        waiting: Digest of a bundle that was refused and waits for approval, or empty.
        fingerprint: Of the site's own key, to be read out to the operator.
    """

    site: str
    node: Standing
    part: str
    paused_until: str
    last_round: Round | None
    last_refusal: Round | None
    approved: str
    waiting: str
    fingerprint: str


def status(site: Site, now: datetime | None = None) -> Status:
    """Return where the site stands.

    Raises:
        LedgerBroken: If the ledger cannot be believed.
        ConfigError: If there are approvals and the site's key cannot be read.
    """
    paused = is_paused(site.folder, now or datetime.now(UTC))
    until = paused_until(site.folder) if paused else None
    part = "paused" if paused else "taking part"
    entries = read_ledger(site.ledger).entries if site.ledger.exists() else []
    answered = [e for e in entries if e.state == "sealed" and e.body["leaves"]]
    refused = [e for e in entries if e.state == "refused"]
    approvals, refusal = approved(site), waiting(site.folder)
    key = site.folder / "site.key"
    return Status(
        site=site.settings.name,
        node=standing(site.folder),
        part="left" if has_left(site.folder) else part,
        paused_until=until.isoformat(timespec="seconds") if until else "",
        last_round=_round(answered[-1]) if answered else None,
        last_refusal=_round(refused[-1]) if refused else None,
        approved=approvals[-1].bundle if approvals else "",
        waiting=refusal.digest if refusal else "",
        fingerprint=fingerprint(public_key(load_key(key))) if key.exists() else "",
    )


def _round(entry: Entry) -> Round:
    body = entry.body
    return Round(
        time=body["date"],
        run=body["run"],
        number=body["round"],
        reason=body.get("reason", ""),
    )
