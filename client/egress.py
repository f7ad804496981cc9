"""The one door out of a site: it alone makes what leaves.

An allow-list, never a blocklist: exactly the tensors that the plan names, in their
shapes, as finite float32, no longer than the mechanism can produce and the plan
accepts, every one of them changed, the same after being saved and read back. What
leaves is in the ledger by hash before it goes. The door looks at noised values only, so
what it refuses reveals nothing.
"""

import math

from client.reach import reach
from client.site import Site, round_name
from shared.adapter import check, norm
from shared.errors import EgressRefused, RoundError, TacitError
from shared.ledger import Ledger
from shared.protocol import Adapter, AdapterUpdate, MetricRelease, RoundPlan
from shared.sealing import metric_bytes, update_bytes, update_from_bytes


def release_update(
    site: Site, ledger: Ledger, plan: RoundPlan, planned: int, delta: Adapter
) -> AdapterUpdate:
    """Seal the change of the adapter, keep its bytes, record them, and return it.

    Guarantee: nothing is returned whose hash is not durably in the ledger, under a
    charge that pays for it alone.

    Raises:
        EgressRefused: If the change may not leave.
        LedgerBroken: If it cannot be recorded.
    """
    update = seal(delta, plan, site=site.settings.name, ledger_head=ledger.head())
    content = update_bytes(update)
    site.keep_bytes(plan.run, round_name(plan, "update"), content)
    ledger.sealed(planned, content=content, tensors=sorted(delta), leaves=True)
    return update


def release_metric_value(
    site: Site, ledger: Ledger, plan: RoundPlan, planned: int, name: str, value: float
) -> MetricRelease:
    """Seal a noised metric, keep its bytes, record them, and return it.

    Guarantee: as ``release_update``; the policy must list ``metrics``.

    Raises:
        EgressRefused: If no metric may leave, or it is not a finite number.
    """
    if "metrics" not in site.policy.releases:
        raise EgressRefused("a metric may not leave: the policy lists no metrics")
    if not math.isfinite(value):
        raise EgressRefused(f"metric {name} is not finite and may not leave")
    metric = MetricRelease(
        site=site.settings.name,
        run=plan.run,
        number=plan.number,
        plan=plan.digest(),
        name=name,
        value=value,
    )
    content = metric_bytes(metric)
    site.keep_bytes(plan.run, round_name(plan, "metric"), content)
    ledger.sealed(planned, content=content, tensors=[name], leaves=True)
    return metric


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
    _require_length(delta, plan)
    same = [name for name, change in delta.items() if not change.any()]
    if same:
        raise EgressRefused(
            f"tensors {same} did not change: training never reached them"
        )
    update = AdapterUpdate(
        site=site,
        run=plan.run,
        number=plan.number,
        plan=plan.digest(),
        delta=dict(delta),
        ledger_head=ledger_head,
    )
    try:
        update_from_bytes(update_bytes(update))
    except RoundError:
        raise EgressRefused(
            "the update is not the same after being saved and read"
        ) from None
    return update


def _require_length(delta: Adapter, plan: RoundPlan) -> None:
    """Refuse a change that is longer than training can make it, or than is accepted."""
    length, recipe = norm(delta), plan.recipe
    size = sum(change.size for change in delta.values())
    longest = reach(recipe.learning_rate, plan.mechanism.steps, size)
    for limit, name in (
        (longest, "what its steps can reach,"),
        (plan.max_norm, "the plan's max-norm"),
    ):
        if length > limit:
            raise EgressRefused(f"update norm {length:.4f} is over {name} {limit:.4f}")
