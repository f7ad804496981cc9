"""The items about what was spent and what left, and how anybody recomputes it.

The server's own record is held against each ledger; where it was not given, nothing is
said to agree.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from shared.popularity import PREFIX
from simulations.audit.accounts import Account
from simulations.audit.items.content import (
    UNKNOWN,
    Case,
    Content,
    no_value,
    spent_text,
    table,
)
from simulations.audit.items.curves import spending_charts, undrawn
from simulations.audit.items.wording import epsilon_text, listed, size

PURPOSES = {
    "training": "updates",
    "metrics": "metrics",
    "popularity": "popularity",
    "cooccurrence": "cooccurrence",
    "serving": "serving",
}
FROM_SERVER = ("ledger.registry", "ledger.nothing", "ledger.witness")


def release(case: Case) -> Content:
    """5: what an adversary gets."""
    figures = {account.site: left(account) for account in case.accounts}
    rows = [
        [
            account.site,
            *(str(figures[account.site][name]) for name in PURPOSES.values()),
            size(figures[account.site]["bytes"]),
            agreement(account),
        ]
        if account.chain
        else [account.site, *[UNKNOWN] * (len(PURPOSES) + 2)]
        for account in case.accounts
    ]
    columns = ["site", *PURPOSES.values(), "size", "ledger and server"]
    return Content(
        figures={"sites": figures},
        tables=[table("What left each site", columns, rows)],
    )


def left(account: Account) -> dict[str, int]:
    """Return how many releases of each purpose left a site, and the bytes of all.

    A popularity that travels within an update counts as one as well.
    """
    out = account.left()
    counts = Counter(what for what, _ in out)
    tensors = (name for _, body in out for name in body["tensors"])
    counts["popularity"] += sum(name.startswith(PREFIX) for name in tensors)
    return {
        **{name: counts[what] for what, name in PURPOSES.items()},
        "bytes": sum(body["bytes"] for _, body in out),
    }


def agreement(account: Account) -> str:
    """Return whether the site's ledger and the server's registry agree."""
    found = [f for f in account.findings if f.audit.startswith(FROM_SERVER)]
    if not found:
        return "not compared, no registry was given"
    failed = [finding.says for finding in found if not finding.holds]
    return f"DO NOT AGREE: {'; '.join(failed)}" if failed else "agree"


def budget(case: Case) -> Content:
    """9: what was allowed, what is left, what was refused."""
    figures = {account.site: _budget(account) for account in case.accounts}
    columns = [
        "site",
        "budget",
        "spent",
        "left",
        "charges",
        "refusals",
        "policy changes",
    ]
    rows = [_budget_row(account, figures[account.site]) for account in case.accounts]
    arms = _other_arms(case)
    return Content(
        words={
            "worst": case.accounts[0].site,
            "other_models": listed([f"this simulation's arm {arm}" for arm in arms])
            or "none",
        },
        says=undrawn(case.accounts),
        figures={"worst": case.accounts[0].site, "sites": figures, "other_arms": arms},
        tables=[table("Budget (epsilon, add/remove)", columns, rows)],
        charts=spending_charts(case.accounts),
    )


def _budget(account: Account) -> dict[str, Any]:
    facts = account.facts
    limit, spent = facts.get("budget"), account.spent.get("pld")
    return {
        "budget": limit,
        "spent": spent,
        "left": None if limit is None or spent is None else limit - spent,
        **{name: facts.get(name) for name in ("charges", "unfinished", "refusals")},
        "policy_changes": facts["policies"] - 1 if facts else None,
    }


def _budget_row(account: Account, told: Mapping[str, Any]) -> list[str]:
    if account.chain is None:
        return [account.site, *[UNKNOWN] * 6]
    unfinished = f" ({told['unfinished']} unfinished)" if told["unfinished"] else ""
    return [
        account.site,
        epsilon_text(told["budget"]),
        spent_text(account),
        _left_text(account, told),
        f"{told['charges']}{unfinished}",
        str(told["refusals"]),
        str(told["policy_changes"]),
    ]


def _left_text(account: Account, told: Mapping[str, Any]) -> str:
    if told["left"] is not None:
        return epsilon_text(told["left"])
    return "no limit" if told["budget"] is None else no_value(account)


def _other_arms(case: Case) -> list[str]:
    """Return the arms of a simulation that trained the same users elsewhere."""
    run = case.evidence.run
    ledgers = run.glob("arms/*/**/ledger.sqlite") if run else ()
    return sorted({path.relative_to(run or path).parts[1] for path in ledgers})


def recompute(case: Case) -> Content:
    """17: how anybody recomputes epsilon."""
    rows = [[account.site, account.command] for account in case.accounts]
    return Content(
        figures={"commands": dict(rows)},
        tables=[table("One command for each site", ["site", "command"], rows)],
    )
