"""One site's account for the report: what was promised, spent, released and believed.

What a ledger does not prove is not filled in: a broken one has no figures, and where
noise was missing or could be foretold, epsilon is infinite and the site NOT PRIVATE.
"""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.policy import SitePolicy
from client.policy_file import read_policy
from shared.chain import Chain
from shared.entries import Entry
from shared.ledger_file import read_ledger
from simulations.audit.evidence import Book
from simulations.audit.finding import Figure, Finding
from simulations.audit.ledger import audit_ledger

ACCOUNTANTS = ("pld", "replace_one", "rdp", "prv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a site's ledger amounts to.

    Attributes:
        site: The site's name; that of the file where the ledger cannot be believed.
        book: Where the ledger and the policy lie.
        command: The command that recomputes all of it.
        findings: What was checked.
        facts: What the ledger says; empty if it is broken.
        chain: Its entries; None if it is broken.
        policy: What the policy file says; None if it was not given.
        spent: Epsilon by each of ``ACCOUNTANTS``, None where there is no answer; empty
            where epsilon cannot be stated.
        unprotected: Why the site is NOT PRIVATE; empty if it is private.
    """

    site: str
    book: Book
    command: str
    findings: tuple[Finding, ...]
    facts: Mapping[str, Any]
    chain: Chain | None
    policy: SitePolicy | None
    spent: Mapping[str, float | None]
    unprotected: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything that was checked holds."""
        return all(finding.holds for finding in self.findings)

    @property
    def private(self) -> bool:
        """Whether the site has a finite epsilon that can be stated."""
        return bool(self.spent)

    @property
    def epsilon(self) -> float:
        """What was spent, add/remove; infinite where it cannot be stated."""
        return self.spent.get("pld") or 0.0 if self.private else math.inf

    def planned(self) -> list[Mapping[str, Any]]:
        """Return all charges, in order."""
        return [entry.body for entry in self._entries("planned")]

    def left(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the purpose and the entry of each release that left the site."""
        entries = self.chain.entries if self.chain else []
        return [
            (entries[entry.body["planned"]].body["what"], entry.body)
            for entry in self._entries("sealed")
            if entry.body["leaves"]
        ]

    def _entries(self, state: str) -> list[Entry]:
        entries = self.chain.entries if self.chain else []
        return [entry for entry in entries if entry.state == state]


def account(book: Book, registry: Path | None = None) -> Account:
    """Audit a site's ledger and return what it amounts to.

    Args:
        book: The ledger and, if given, the policy.
        registry: The server's registry, to reconcile with.

    Raises:
        ConfigError: If the policy file cannot be read.
    """
    audited = audit_ledger(book.ledger, registry, book.policy)
    chain = read_ledger(book.ledger) if audited.facts else None
    policy = read_policy(book.policy) if book.policy else None
    reasons = _unprotected(chain, policy) if chain else ()
    findings = [*audited.findings, *([_noise(reasons, policy)] if chain else [])]
    return Account(
        site=str(audited.facts.get("site", _file_name(book.ledger))),
        book=book,
        command=_command(book, registry),
        findings=tuple(findings),
        facts=audited.facts,
        chain=chain,
        policy=policy,
        spent={} if reasons or not chain else _spent(chain, findings),
        unprotected=reasons,
    )


def _spent(chain: Chain, findings: list[Finding]) -> dict[str, float | None]:
    """Return what the accountants gave; nothing where they could not agree."""
    if not chain.events:
        return dict.fromkeys(ACCOUNTANTS, 0.0)
    found: dict[str, Figure] = {
        name: figure
        for finding in findings
        if finding.audit == "ledger.epsilon"
        for name, figure in finding.figures.items()
    }
    return {name: _real(found[name]) for name in ACCOUNTANTS if name in found}


def _real(figure: Figure) -> float | None:
    return float(figure) if isinstance(figure, int | float) else None


def _unprotected(chain: Chain, policy: SitePolicy | None) -> tuple[str, ...]:
    """Return why noise does not protect: missing, or drawn from a seed."""
    without = "a release without noise was charged"
    unlimited = "training was charged while the budget was infinite, so from a seed"
    seeded = "the policy says insecure-test-noise: coins and noise come from a seed"
    found = {
        without: chain.exposed,
        unlimited: not chain.exposed and _charged_without_limit(chain),
        seeded: policy is not None and policy.insecure_test_noise,
    }
    return tuple(reason for reason, applies in found.items() if applies)


def _charged_without_limit(chain: Chain) -> bool:
    """Return whether anything was charged while the policy promised nothing."""
    limit: float | None = None
    for entry in chain.entries:
        if "limits" in entry.body:
            limit = entry.body["limits"]["epsilon"]
        elif entry.state == "planned" and limit is None:
            return True
    return False


def _noise(reasons: tuple[str, ...], policy: SitePolicy | None) -> Finding:
    says = "every charge has noise, under a finite budget"
    if policy is None:
        says += "; no policy file was given, so insecure-test-noise cannot be ruled out"
    if reasons:
        says = f"NOT PRIVATE: {'; '.join(reasons)}"
    return Finding(
        audit="report.noise",
        holds=not reasons,
        says=says,
        figures={"policy_given": policy is not None},
    )


def _command(book: Book, registry: Path | None) -> str:
    """Return the command that verifies the ledger and recomputes epsilon."""
    words = ["tacit", "audit", "ledger", str(book.ledger)]
    words += ["--server", str(registry)] if registry else []
    words += ["--policy", str(book.policy)] if book.policy else []
    return shlex.join(words)


def _file_name(path: Path) -> str:
    """Return what a ledger's file is called, for want of the site's own name."""
    return path.parent.name if path.stem == "ledger" else path.stem
