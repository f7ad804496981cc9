"""The one door out of a site: it alone makes what leaves.

An allow-list, never a blocklist: exactly the tensors that the plan names, in their
shapes, as finite float32, no longer than the mechanism can produce and the plan
accepts, every one of them changed, the same after being saved and read back. What
leaves is in the ledger by hash before it goes. The door looks at noised values only, so
what it refuses reveals nothing; and what it packs them as costs no budget.
"""

import math

from client.reach import reach
from client.residual import carried, keep_residual
from client.site import Site, round_name
from shared.adapter import check, digest, norm
from shared.errors import EgressRefused, ModelError, RoundError, TacitError
from shared.ledger import Ledger
from shared.packing import feed_back
from shared.popularity import PREFIX, encoder_part
from shared.protocol import Adapter, AdapterUpdate, Array, MetricRelease, RoundPlan
from shared.sealing import metric_bytes, update_bytes, update_from_bytes


def release_update(
    site: Site, ledger: Ledger, plan: RoundPlan, planned: int, delta: Adapter
) -> AdapterUpdate:
    """Seal the change of the adapter, keep its bytes, record them, and return it.

    Guarantee: nothing is returned whose hash is not durably in the ledger, under a
    charge that pays for it alone, or with a popularity that was charged before.

    Raises:
        EgressRefused: If the change may not leave.
        LedgerBroken: If it cannot be recorded.
    """
    left = carried(site, ledger, plan)
    update, residual = seal(
        delta, plan, left, site=site.settings.name, ledger_head=ledger.head()
    )
    keep_residual(site, plan, residual)
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
    delta: Adapter,
    plan: RoundPlan,
    left: Adapter | None = None,
    *,
    site: str,
    ledger_head: str,
) -> tuple[AdapterUpdate, dict[str, Array]]:
    """Return the update that may leave and what packing left out of it, or refuse.

    Guarantee: an update holds the plan's tensors and nothing else of the site. Its
    bytes are a function of the noised change, of what earlier noised changes left over,
    and of public values alone: packing is post-processing and costs no budget.

    The noised change is held against what its steps can reach. What leaves may be
    longer by what was left over and by packing, at most half an int8 level a value; it
    is held, as it is, against the plan's max-norm.

    Args:
        delta: Adapter after training minus adapter before; after noise.
        plan: The plan that the site followed.
        left: What earlier updates left over; nothing by default.
        site: The site's public name.
        ledger_head: Hash of the newest ledger entry.

    Raises:
        EgressRefused: Naming the tensor or the norm and its limit.
    """
    try:
        check(delta, plan.shapes)
        sent, residual = feed_back(delta, left or {}, plan.wire)
    except TacitError as error:
        raise EgressRefused(
            f"update of round {plan.number} may not leave: {error}"
        ) from None
    trained = encoder_part(delta)
    _require_length(trained, _longest(plan), "what its steps can reach,")
    _require_length(sent, plan.max_norm, "the plan's max-norm")
    same = [n for n, change in trained.items() if not (change.any() and sent[n].any())]
    if same:
        raise EgressRefused(
            f"tensors {same} did not change: training never reached them"
        )
    update = AdapterUpdate(
        site=site,
        run=plan.run,
        number=plan.number,
        plan=plan.digest(),
        delta=sent,
        ledger_head=ledger_head,
        wire=plan.wire,
    )
    _require_readable(update, plan)
    return update, residual


def _require_readable(update: AdapterUpdate, plan: RoundPlan) -> None:
    """Refuse an update that is another one after being saved and read back."""
    try:
        read = update_from_bytes(update_bytes(update), plan.shapes)
        if digest(read.delta) == digest(update.delta):
            return
    except (RoundError, ModelError):
        pass
    raise EgressRefused("the update is not the same after being saved and read")


def _longest(plan: RoundPlan) -> float:
    """Return the longest change that the plan's steps can make.

    A plain step is as long as its noise, which has no bound.
    """
    if plan.recipe.optimizer == "sgd":
        return math.inf
    of_encoder = (s for n, s in plan.shapes.items() if not n.startswith(PREFIX))
    size = sum(map(math.prod, of_encoder))
    return reach(plan.recipe.learning_rate, plan.mechanism.steps, size)


def _require_length(delta: Adapter, limit: float, name: str) -> None:
    """Refuse a change that is longer than a limit."""
    length = norm(delta)
    if length > limit:
        raise EgressRefused(f"update norm {length:.4f} is over {name} {limit:.4f}")
