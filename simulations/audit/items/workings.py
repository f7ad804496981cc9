"""The items about the workings: mechanism, accountant, data, randomness, code.

They tell what was charged, as it was charged; what a ledger does not record is said.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from shared.code import code_digest
from shared.composition import COARSE, FINE, MANY_KINDS
from shared.entries import EXACT
from shared.limits import EVERYBODY
from simulations.audit.accounts import ACCOUNTANTS, Account
from simulations.audit.items.content import (
    NOT_PRIVATE,
    Case,
    Content,
    spent_text,
    table,
)
from simulations.audit.items.wording import listed, number

IN_LEDGER, PUBLIC, NOT_COVERED = "in ledger", "public", "not covered"
NONE = "none"
SAMPLERS = {
    "training": "Poisson: a secret coin for each user and step",
    "metrics": "Poisson: a secret coin for each user",
    **dict.fromkeys(EVERYBODY, "none: every user, once"),
}
TOUCHES = (  # what is the same for every ledger
    (
        "pre-processing",
        IN_LEDGER,
        "a user's likes are capped and split by that user alone, before the clip",
    ),
    ("number of users", PUBLIC, "declared in the policy, never counted"),
    ("catalogue", PUBLIC, "the items' texts, whoever the users are"),
    ("vocabulary and encoder", PUBLIC, "fixed before, from public text"),
    (
        "tuning",
        PUBLIC,
        "on public data sets (docs/methods.md); a search on a site's own users would "
        "not be covered",
    ),
    (
        "early stopping",
        NONE,
        "the plan fixes steps and rounds; stopping by exact metrics would not be "
        "covered",
    ),
    ("serving", NOT_COVERED, "what a site shows a user, from that user's own history"),
)


def mechanism(case: Case) -> Content:
    """6: what was charged, as it was charged."""
    kinds: dict[tuple[Any, ...], dict[str, list[int]]] = {}
    for account in case.accounts:
        users = account.policy.users if account.policy else None
        for body in account.planned():
            noise = (body["mechanism"], body["q"], body["sigma"], body["clip"])
            sites = kinds.setdefault((body["what"], *noise, users), {})
            sites.setdefault(account.site, []).append(body["steps"])
    fields = ("what", "mechanism", "q", "sigma", "clip", "declared_users")
    charges = [
        dict(zip(fields, kind, strict=True)) | {"steps": sites}
        for kind, sites in kinds.items()
    ]
    columns = [
        "what",
        "sites",
        "q",
        "sigma",
        "C",
        "charges x steps",
        "sampler",
        "divisor",
    ]
    rows = [_charge_row(charge) for charge in charges]
    return Content(
        figures={"charges": charges},
        tables=[table("Distinct charges", columns, rows)],
    )


def _charge_row(charge: Mapping[str, Any]) -> list[str]:
    """Return one kind of charge: what, where, with which noise."""
    what, sites, users = charge["what"], charge["steps"], charge["declared_users"]
    where = [what, listed(list(sites))]
    if charge["mechanism"] == EXACT:
        count = " or ".join(sorted({str(len(made)) for made in sites.values()}))
        return [*where, *["none"] * 3, count, NOT_PRIVATE, "unknown"]
    steps = {" + ".join(_runs(counts)) for counts in sites.values()}
    divisor = f"q x {users:,} users" if users else "q x declared users"
    return [
        *where,
        *(number(charge[name]) for name in ("q", "sigma", "clip")),
        " or ".join(sorted(steps)),
        SAMPLERS[what],
        "none: sums" if what in EVERYBODY else divisor,
    ]


def _runs(counts: Sequence[int]) -> list[str]:
    """Return how often each number of steps was charged, such as 3 x 20."""
    return [f"{counts.count(steps)} x {steps}" for steps in dict.fromkeys(counts)]


def accountant(case: Case) -> Content:
    """7: who computed epsilon, and who checked."""
    alarms = [
        f"{account.site}, {found.says}"
        for account in case.accounts
        for found in account.findings
        if found.audit.startswith("ledger.epsilon") and not found.holds
    ]
    versions = {name: version(name) for name in ("dp-accounting", "opacus")}
    columns = ["site", "PLD", "PLD, replace-one", "RDP", "PRV"]
    rows = [
        [account.site, *(spent_text(account, name) for name in ACCOUNTANTS)]
        for account in case.accounts
    ]
    return Content(
        words={
            "dp_accounting": versions["dp-accounting"],
            "opacus": versions["opacus"],
            "fine": number(FINE),
            "coarse": number(COARSE),
            "many": str(MANY_KINDS),
            "alarms": "; ".join(alarms) or "none",
        },
        figures={
            "name": "PLD, pessimistic",
            "versions": versions,
            "interval": FINE,
            "interval_of_many_kinds": COARSE,
            "upper_bound": True,
            "sites": {a.site: dict(a.spent) for a in case.accounts},
            "alarms": alarms,
        },
        tables=[table("Epsilon by each accountant", columns, rows)],
    )


def data(case: Case) -> Content:
    """8: everything that looks at data."""
    planned = [body for account in case.accounts for body in account.planned()]
    rows = [
        (
            name,
            *_charged({body["mechanism"] for body in planned if body["what"] == what}),
        )
        for name, what in (
            ("training", "training"),
            ("popularity prior", "popularity"),
            ("co-occurrence head", "cooccurrence"),
            ("metrics that leave", "metrics"),
            ("adapting what is served to feedback", "serving"),
        )
    ]
    evaluation = ("evaluation", NONE, "none at a site but the metrics above")
    if case.evidence.simulated is not None:
        owner = "exact figures on held-out events: the simulation owns its data"
        evaluation = ("evaluation", NOT_COVERED, owner)
    rows += [*TOUCHES, evaluation]
    return Content(
        figures={what: status for what, status, _ in rows},
        tables=[table("Data touches", ["what", "accounted", "how"], rows)],
    )


def _charged(mechanisms: set[str]) -> tuple[str, str]:
    """Return how releases of one purpose are accounted for."""
    if not mechanisms:
        return NONE, "not made"
    if EXACT in mechanisms:
        return IN_LEDGER, f"{NOT_PRIVATE}: charged as infinite, without noise"
    return IN_LEDGER, "charged before the data is read"


def randomness(case: Case) -> Content:
    """11: where noise comes from."""
    rows = [[account.site, _source(account)] for account in case.accounts]
    return Content(
        figures={
            "source": "operating system",
            "noise_type": "float32",
            "secure_mode": False,
            "unprotected": {a.site: list(a.unprotected) for a in case.accounts},
        },
        tables=[table("Random source", ["site", "coins and noise"], rows)],
    )


def _source(account: Account) -> str:
    if account.unprotected:
        return f"{NOT_PRIVATE}: {'; '.join(account.unprotected)}"
    if account.policy is None:
        return "operating system, unless the policy, not given here, says otherwise"
    return "operating system"


def provenance(case: Case) -> Content:
    """12: code, policy, ledger, key and signature."""
    here = code_digest()
    charged = {code for a in case.accounts for code in a.facts.get("codes", ())}
    rows = []
    for account in case.accounts:
        if account.chain is None:
            continue
        facts = account.facts
        values = [("code", code) for code in facts["codes"]]
        values += [("policy in force", facts["policy"]), ("ledger head", facts["head"])]
        values += [("signature of the head", account.chain.witness.signature)]
        values += [("public key (Ed25519)", facts["key"])]
        rows += [[account.site, what, value] for what, value in values]
    return Content(
        words={
            "code": here,
            "same": "every charge was made by the same code"
            if charged <= {here}
            else "some charges were made by other code, see below",
        },
        figures={
            "code_here": here,
            "sites": {
                a.site: {n: a.facts.get(n) for n in ("codes", "policy", "head", "key")}
                for a in case.accounts
            },
        },
        tables=[table("Digests (SHA-256) and keys", ["site", "what", "value"], rows)],
    )
