"""The one door out of a site: it alone makes an ``AdapterUpdate``.

An allow-list, never a blocklist: exactly the tensors that the plan names, in their
shapes, as finite float32, no longer than the plan accepts, every one of them changed.
It looks at noised values only, so what it refuses reveals nothing.
"""

from shared.adapter import check, norm
from shared.errors import EgressRefused, TacitError
from shared.protocol import Adapter, AdapterUpdate, RoundPlan


def seal(
    delta: Adapter, plan: RoundPlan, *, site: str, ledger_head: str
) -> AdapterUpdate:
    """Return the update that may leave, or refuse.

    Guarantee: an update holds the plan's tensors and nothing else of the site.

    Args:
        delta: Adapter after training minus adapter before; after noise.
        plan: The plan that the site followed.
        site: The site's public name.
        ledger_head: Hash of the newest ledger entry.

    Raises:
        EgressRefused: Naming the tensor or the norm and its limit.
    """
    try:
        check(delta, plan.shapes)
    except TacitError as error:
        raise EgressRefused(
            f"update of round {plan.number} may not leave: {error}"
        ) from None
    length = norm(delta)
    if length > plan.max_norm:
        raise EgressRefused(
            f"update norm {length:.4f} is over the plan's max-norm {plan.max_norm}"
        )
    same = [name for name, change in delta.items() if not change.any()]
    if same:
        raise EgressRefused(
            f"tensors {same} did not change: training never reached them"
        )
    return AdapterUpdate(
        site=site,
        run=plan.run,
        number=plan.number,
        plan=plan.digest(),
        delta=dict(delta),
        ledger_head=ledger_head,
    )
