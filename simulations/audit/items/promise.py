"""The items about the promise: who, what, how much, and what it means for a person.

Where a site has no finite epsilon, none of them gives it odds.
"""

from client.examples import KEPT
from shared.entries import RELATION, UNIT
from simulations.audit.accounts import Account
from simulations.audit.bounds import gaussian_mu
from simulations.audit.items.content import Case, Content, no_value, spent_text, table
from simulations.audit.items.curves import delta_charts, undrawn
from simulations.audit.items.wording import epsilon_text, number, percent, plural
from simulations.audit.odds import LOW_FPR, best_tpr, posterior


def setting(case: Case) -> Content:
    """1: who adds noise, who is trusted, who sees what."""
    count = len(case.accounts)
    return Content(
        words={"sites": plural(count, "site")},
        figures={"sites": count, "noise": "local", "trusted": "the site alone"},
    )


def unit(case: Case) -> Content:
    """2: what one user is."""
    facts = [account.facts for account in case.accounts if account.facts]
    rows = [[told["site"], told["first"], told["last"]] for told in facts]
    return Content(
        words={"unit": UNIT, "kept": str(KEPT)},
        figures={"unit": UNIT, "k_max": KEPT},
        tables=[table("Time window", ["site", "first entry", "last entry"], rows)],
    )


def relation(case: Case) -> Content:
    """3: what neighbours are."""
    both = ("pld", "replace_one")
    return Content(
        figures={
            "relation": RELATION,
            "sites": {a.site: {n: a.spent.get(n) for n in both} for a in case.accounts},
        },
        tables=[
            table(
                "Epsilon spent, in both relations (PLD)",
                ["site", "add/remove", "replace-one"],
                [[a.site, *(spent_text(a, n) for n in both)] for a in case.accounts],
            )
        ],
    )


def numbers(case: Case) -> Content:
    """4: epsilon and delta, the whole curve, and equivalents."""
    figures = {account.site: _numbers(account) for account in case.accounts}
    rows = []
    for account in case.accounts:
        told = figures[account.site]
        users, mu, delta = told["declared_users"], told["mu"], told["delta"]
        rows.append(
            [
                account.site,
                spent_text(account),
                no_value(account) if delta is None else number(delta),
                "policy file not given" if users is None else number(1 / users),
                no_value(account) if mu is None else number(mu),
                spent_text(account, "rdp"),
            ]
        )
    names = ["site", "epsilon (PLD)", "delta", "1 / U_public", "mu", "epsilon (RDP)"]
    return Content(
        says=undrawn(case.accounts),
        figures={"sites": figures},
        tables=[table("What was spent", names, rows)],
        charts=delta_charts(case.accounts),
    )


def _numbers(account: Account) -> dict[str, float | None]:
    facts, spent = account.facts, account.epsilon
    return {
        "epsilon": account.spent.get("pld"),
        "delta": facts.get("delta"),
        "declared_users": account.policy.users if account.policy else None,
        "mu": gaussian_mu(spent, facts["delta"]) if account.private else None,
        "rdp": account.spent.get("rdp"),
    }


def people(case: Case) -> Content:
    """10: people at several sites, children, deletion."""
    epsilon = delta = None
    everywhere = "nothing that can be stated"
    if all(account.private for account in case.accounts):
        epsilon = sum(account.epsilon for account in case.accounts)
        delta = sum(account.facts["delta"] for account in case.accounts)
        everywhere = f"epsilon {epsilon_text(epsilon)} at delta {number(delta)}"
    return Content(
        words={"everywhere": everywhere},
        figures={"epsilon_at_all_sites": epsilon, "delta_at_all_sites": delta},
    )


def meaning(case: Case) -> Content:
    """15: what epsilon means for a person."""
    rows = []
    for account in case.accounts:
        told = odds(account)
        rows.append(
            [
                account.site,
                *(
                    no_value(account) if share is None else percent(share)
                    for share in told.values()
                ),
            ]
        )
    names = ["site", "sure, at most", f"found, at {percent(LOW_FPR)} wrongly accused"]
    return Content(
        words={"wrong": percent(LOW_FPR)},
        figures={
            "low_fpr": LOW_FPR,
            "sites": {account.site: odds(account) for account in case.accounts},
        },
        tables=[table("An attacker's odds, at best", names, rows)],
    )


def odds(account: Account) -> dict[str, float | None]:
    """Return the posterior from 50 %, and the most found at ``LOW_FPR``; at best."""
    if not account.private:
        return {"posterior": None, "best_tpr": None}
    epsilon = account.epsilon
    return {
        "posterior": posterior(epsilon),
        "best_tpr": best_tpr(epsilon, account.facts["delta"], LOW_FPR),
    }
