"""What packing left out of a site's updates, to be added to the next one.

It is what is left of noised changes: of no user's data, and without a cost. It belongs
to one sealed round; of a round that was never sealed nothing is carried on. A copy that
cannot be read, or is of another adapter, counts as none.
"""

from client.site import Site, round_name
from shared.adapter import check
from shared.errors import TacitError
from shared.ledger import Ledger
from shared.protocol import FLOAT32, Adapter, Array, RoundPlan

NAME = "residual"


def carried(site: Site, ledger: Ledger, plan: RoundPlan) -> dict[str, Array]:
    """Return what the newest sealed round before this one left over; may be empty.

    Guarantee: what a round leaves over is added once, and only after its update was
    sealed; a round that is tried again starts from the same residual.
    """
    before = _newest_sealed(ledger, plan)
    if plan.wire == FLOAT32 or not before:
        return {}
    try:
        residual = site.kept(plan.run, f"{NAME}-{before:04}") or {}
        check(residual, plan.shapes)
    except TacitError:
        return {}
    return residual


def keep_residual(site: Site, plan: RoundPlan, residual: Adapter) -> None:
    """Keep what a round leaves over, before its update is sealed."""
    if plan.wire != FLOAT32:
        site.keep(plan.run, round_name(plan, NAME), dict(residual))


def _newest_sealed(ledger: Ledger, plan: RoundPlan) -> int:
    """Return the newest round of the run before this one whose update was sealed."""
    entries = ledger.entries()
    plans = [entries[e.body["planned"]].body for e in entries if e.state == "sealed"]
    rounds = (
        body["round"]
        for body in plans
        if (body["run"], body["what"]) == (plan.run, "training")
    )
    return max((number for number in rounds if number < plan.number), default=0)
