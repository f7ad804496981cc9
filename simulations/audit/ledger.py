"""The audit of a ledger: what was spent and what left, from records alone.

Needs no key, no user data and no network: a copied file and, to reconcile, a copy of
the server's registry. What it cannot verify it does not pass over: it fails.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from client.policy_file import read_policy
from server.registry import WITNESSES, Registry
from shared.accounting import GaussianEvent, cross_check, epsilon
from shared.chain import Chain
from shared.entries import NOISY
from shared.errors import LedgerBroken, PrivacyError, RoundError
from shared.ledger_file import read_ledger
from shared.witness import kept_witness
from simulations.audit.finding import Figure, Finding

SAME = 1e-6  # two computations of one epsilon


@dataclass(frozen=True, slots=True)
class LedgerAudit:
    """What a ledger says and whether it can be believed.

    Attributes:
        findings: One for each thing that was checked.
        facts: What the ledger promises and spent; empty if it is broken.
    """

    findings: tuple[Finding, ...]
    facts: Mapping[str, Figure]

    @property
    def holds(self) -> bool:
        """Whether everything that was checked holds."""
        return all(finding.holds for finding in self.findings)


def audit_ledger(
    path: Path, registry: Path | None = None, policy: Path | None = None
) -> LedgerAudit:
    """Verify a ledger or an export of one, and hold it against what others recorded.

    Args:
        path: A ledger's file or its export as JSON Lines; a copy will do.
        registry: The server's registry, to reconcile what left with what arrived.
        policy: The site's policy file, to see that it is the one in force.
    """
    try:
        chain = read_ledger(path)
        if not chain.entries:
            raise LedgerBroken(f"ledger {path} has no entry")
    except LedgerBroken as error:
        return LedgerAudit((_finding("chain", says=str(error)),), {})
    findings = [_chain_finding(chain), *_spending(chain)]
    if registry is not None:
        findings += reconcile(chain, registry)
    if policy is not None:
        findings.append(_policy_finding(chain, policy))
    return LedgerAudit(tuple(findings), facts(chain))


def facts(chain: Chain) -> dict[str, Figure]:
    """Return what the ledger promises, spent and let out, for people and reports."""
    opening, limits = chain.opening, chain.limits
    states = [entry.state for entry in chain.entries]
    charged = [entry.body for entry in chain.entries if entry.state == "planned"]
    left = [
        entry.body
        for entry in chain.entries
        if entry.state == "sealed" and entry.body["leaves"]
    ]
    return {
        "site": opening["site"],
        "unit": opening["unit"],
        "relation": opening["relation"],
        "delta": opening["delta"],
        "key": opening["key"],
        "budget": limits.to_body()["epsilon"],
        "policy": limits.policy,
        "limits": limits.to_body(),
        "codes": sorted({body["code"] for body in charged}),
        "entries": len(chain.entries),
        "head": chain.head,
        "first": opening["date"],
        "last": chain.entries[-1].body["date"],
        "charges": len(charged),
        "unfinished": len(charged) - states.count("sealed"),
        "policies": states.count("policy") + 1,
        "refusals": states.count("refused"),
        "releases_out": len(left),
        "bytes_out": sum(body["bytes"] for body in left),
    }


def charges_by_run(chain: Chain) -> dict[str, list[GaussianEvent]]:
    """Return what was charged with noise in each run, in order."""
    runs: dict[str, list[GaussianEvent]] = defaultdict(list)
    for entry in chain.entries:
        if entry.state == "planned" and entry.body["mechanism"] == NOISY:
            b = entry.body
            event = GaussianEvent(q=b["q"], sigma=b["sigma"], steps=b["steps"])
            runs[b["run"]].append(event)
    return dict(runs)


def reconcile(chain: Chain, root: Path) -> list[Finding]:
    """Return whether what left the site is what the server received, and no more.

    Guarantee: an update or metric that the server has and the ledger has not, or the
    reverse, in any run that the registry knows, fails.
    """
    site = chain.opening["site"]
    try:
        received = _received(root, site)
    except RoundError as error:
        return [_finding("registry", says=str(error))]
    runs = {run for run, _ in received}
    sealed = {
        (entry.body["run"], entry.body["round"], entry.body["sha256"])
        for entry in chain.entries
        if entry.state == "sealed" and entry.body["leaves"]
    }
    arrived = {(*where, digest) for where, sent in received.items() for digest in sent}
    ours = {release for release in sealed if release[0] in runs}
    return [
        _compared(
            "nothing else left", sorted(arrived - sealed), len(arrived), "received"
        ),
        _compared("nothing is missing", sorted(ours - arrived), len(ours), "sealed"),
        _witness_finding(chain, root, site),
    ]


def _received(root: Path, site: str) -> dict[tuple[str, int], list[str]]:
    """Return (run, round) -> hashes that the server received from the site.

    Raises:
        RoundError: If there is no version, or one is damaged.
    """
    registry = Registry(root, root)
    newest = registry.newest()
    if newest == 0:
        raise RoundError(f"{root} holds no version: give the server's registry folder")
    manifests = [registry.manifest(number) for number in range(1, newest + 1)]
    return {
        (manifest["run"], manifest["round"]): manifest["sites"].get(site, [])
        for manifest in manifests
    }


def _compared(
    name: str, odd: Sequence[tuple[str, int, str]], count: int, verb: str
) -> Finding:
    """Return the finding about releases that only one side knows."""
    if not odd:
        says = f"all {count} releases {verb} are known to both sides, by hash"
    else:
        some = ", ".join(f"round {number} of {run!r}" for run, number, _ in odd[:5])
        says = f"{len(odd)} of {count} releases {verb} are unknown to the other: {some}"
    only = [digest for *_, digest in odd]
    return Finding(
        audit=f"ledger.{name}",
        holds=not odd,
        says=says,
        figures={"releases": count, "unknown": only},
    )


def _chain_finding(chain: Chain) -> Finding:
    count = len(chain.entries)
    return Finding(
        audit="ledger.chain",
        holds=True,
        says=f"{count} entries: hashes, Ed25519 signatures, sequence and limits hold",
        figures={"entries": count, "head": chain.head},
    )


def _spending(chain: Chain) -> list[Finding]:
    """Recompute epsilon by three accountants and both relations, per run and in all."""
    if chain.exposed:
        says = "a release without noise was charged: epsilon is infinite, NOT PRIVATE"
        return [_finding("epsilon", says=says)]
    if not chain.events:
        return [_finding("epsilon", says="nothing was spent", holds=True)]
    delta, limit = chain.opening["delta"], chain.limits.epsilon
    findings = []
    for run, events in {**charges_by_run(chain), "": chain.events}.items():
        name = f"epsilon of {run}" if run else "epsilon"
        try:
            findings.append(_epsilon_finding(name, events, delta))
        except PrivacyError as error:
            findings.append(_finding(name, says=str(error)))
    return [*findings, _recorded_finding(chain, limit)]


def _epsilon_finding(
    name: str, events: Sequence[GaussianEvent], delta: float
) -> Finding:
    by = cross_check(events, delta)
    replaced = epsilon(events, delta, "replace_one")
    prv = "out of its range" if by["prv"] is None else f"{by['prv']:.4f}"
    return Finding(
        audit=f"ledger.{name}",
        holds=True,
        says=f"{by['pld']:.4f} (PLD), {by['rdp']:.4f} (RDP), {prv} (PRV); "
        f"replace-one {replaced:.4f}; delta {delta:g}",
        figures={**by, "replace_one": replaced, "delta": delta},
    )


def _recorded_finding(chain: Chain, limit: float) -> Finding:
    """Hold the epsilon that the site wrote down against the recomputed one."""
    charged = [entry.body for entry in chain.entries if entry.state == "planned"]
    afters = [body["after"] for body in charged]
    spent = epsilon(chain.events, chain.opening["delta"])
    rising = all(a <= b for a, b in pairwise(afters))
    same = abs(afters[-1] - spent) <= SAME
    return Finding(
        audit="ledger.recorded",
        holds=rising and same,
        says=f"the site recorded {afters[-1]:.6f}, recomputed {spent:.6f}, budget "
        f"{limit:.4f}; every charge {'raised' if rising else 'did NOT raise'} it",
        figures={"recorded": afters[-1], "recomputed": spent, "budget": limit},
    )


def _witness_finding(chain: Chain, root: Path, site: str) -> Finding:
    """Hold the ledger against the newest end of it that the server has seen."""
    try:
        seen = kept_witness(root / WITNESSES / f"{site}.json")
        if seen is None:
            return _finding("witness", says="the server has no witness of this site")
        chain.require_contains(seen)
    except LedgerBroken as error:
        return _finding("witness", says=str(error))
    says = f"the ledger contains the end of {seen.entries} entries the server has seen"
    return _finding("witness", says=says, holds=True)


def _policy_finding(chain: Chain, path: Path) -> Finding:
    found, recorded = read_policy(path).digest(), chain.limits.policy
    return Finding(
        audit="ledger.policy",
        holds=found == recorded,
        says=f"policy in force {recorded[:16]}, {path.name} has {found[:16]}",
        figures={"recorded": recorded, "file": found},
    )


def _finding(name: str, *, says: str, holds: bool = False) -> Finding:
    return Finding(audit=f"ledger.{name}", holds=holds, says=says, figures={})
