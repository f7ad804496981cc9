"""The top of the report: the verdict, and a paragraph in plain words for each site.

The verdict holds only if every finding does. A site without a finite epsilon gets no
odds, and is called NOT PRIVATE, or its epsilon one that cannot be stated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from simulations.audit.accounts import Account
from simulations.audit.items.content import NOT_PRIVATE, UNKNOWN, Case
from simulations.audit.items.promise import odds
from simulations.audit.items.spending import agreement, left
from simulations.audit.items.wording import (
    epsilon_text,
    listed,
    number,
    plural,
    size,
)
from simulations.audit.odds import in_words


def verdict(case: Case, findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return whether everything holds, and what was not even checked."""
    failed = [found for found in findings if not found["holds"]]
    exposed = [a.site for a in case.accounts if a.unprotected]
    says = [f"All {plural(len(findings), 'check')} hold."]
    if failed:
        names = listed([f"{found['audit']} ({found['about']})" for found in failed])
        says = [f"{len(failed)} of {plural(len(findings), 'check')} FAIL: {names}."]
    if exposed:
        says.insert(0, f"{NOT_PRIVATE}: {listed(exposed)}.")
    missing = _missing(case)
    if missing:
        says.append(f"Not checked for this report: {listed(missing)}.")
    return {
        "holds": not failed,
        "private": all(account.private for account in case.accounts),
        "word": "DOES NOT HOLD" if failed else "HOLDS",
        "says": says,
        "not_checked": missing,
    }


def site(account: Account) -> dict[str, Any]:
    """Return what the top of the report says of one site."""
    return {
        "site": account.site,
        "label": _label(account),
        "private": account.private,
        "holds": account.holds,
        "says": _paragraph(account),
        "figures": {
            "budget": account.facts.get("budget"),
            "delta": account.facts.get("delta"),
            "spent": dict(account.spent),
            "charges": account.facts.get("charges"),
            **odds(account),
            **left(account),
        },
        "ledger": str(account.book.ledger),
    }


def _label(account: Account) -> str:
    if account.unprotected:
        return NOT_PRIVATE
    if not account.private:
        return f"epsilon {UNKNOWN}"
    return f"epsilon {epsilon_text(account.epsilon)}"


def _paragraph(account: Account) -> list[str]:
    """Return the sentences about one site: promise, spending, odds, release, server."""
    failed = [finding for finding in account.findings if not finding.holds]
    if account.chain is None:
        faults = "; ".join(finding.says for finding in failed)
        return [f"What was promised and spent {UNKNOWN}: {faults}."]
    names = listed([finding.audit for finding in failed])
    return [
        _promise(account),
        *(_spending(account) if account.private else [_no_bound(account)]),
        _release(account),
        f"Ledger and server: {agreement(account)}.",
        *([f"What FAILS: {names}."] if failed else []),
    ]


def _promise(account: Account) -> str:
    budget, delta = account.facts["budget"], number(account.facts["delta"])
    if budget is None:
        return "The site's policy promises nothing: its budget is infinite."
    return (
        f"The site promised at most epsilon {epsilon_text(budget)} at delta {delta}, "
        "for one user account with all its interactions, added or removed."
    )


def _spending(account: Account) -> list[str]:
    """Return what was spent, and what an attacker's odds become."""
    return [
        f"It has spent {epsilon_text(account.epsilon)} (PLD, an upper bound) in "
        f"{plural(account.facts['charges'], 'charge')}; with one account replaced by "
        f"another it is {epsilon_text(account.spent.get('replace_one'))}.",
        in_words(account.epsilon, account.facts["delta"]),
    ]


def _release(account: Account) -> str:
    """Return how much left the site."""
    out = left(account)
    told = [plural(out["updates"], "update")]
    told += [plural(out["metrics"], "metric")] if out["metrics"] else []
    told += ["its POPULARITY"] if out["popularity"] else []
    told += ["its CO-OCCURRENCE"] if out["cooccurrence"] else []
    told += ["its SERVING TALLIES"] if out["serving"] else []
    return f"What left the site: {listed(told)}, {size(out['bytes'])} in all."


def _no_bound(account: Account) -> str:
    if account.unprotected:
        why = "; ".join(account.unprotected)
        return f"The site is {NOT_PRIVATE}: {why}. No epsilon bounds what was learned."
    return f"What it spent {UNKNOWN}: the accountants do not agree."


def _missing(case: Case) -> list[str]:
    """Return what could have been checked and was not."""
    given = case.evidence
    checks = {
        "ledgers against the server's record": given.registry is None,
        "policy files": any(account.policy is None for account in case.accounts),
        "attacks on the training code": given.empirical is None,
        "seeded bugs": not given.mutants,
    }
    return [what for what, missing in checks.items() if missing]
