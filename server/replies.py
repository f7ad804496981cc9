"""What one reply is worth: an update that fits the plan, or the name of its fault.

A reply is believed only as far as it can be checked here; nothing in it is trusted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flwr.app import Message

from shared.adapter import check, norm
from shared.errors import LedgerBroken, ModelError, RoundError, TacitError
from shared.protocol import AdapterUpdate, Reply, RoundPlan
from shared.wire import open_refusal, open_reply, size
from shared.witness import Witness


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One reply after judgement.

    Attributes:
        site: Who answers: the node's own name, or the site that it claims to be.
        node: Flower's id of the node.
        reply: What counts, if anything does.
        reason: Class name of what is wrong otherwise.
        size: Bytes received.
    """

    site: str
    node: int
    reply: Reply | None = None
    reason: str = ""
    size: int = 0

    @classmethod
    def silence(cls, node: int, name: str) -> "Answer":
        """Return what a node's silence is worth."""
        return cls(site=_label(node, name), node=node, reason="NoAnswer")


def judge(
    reply: Message,
    plan: RoundPlan,
    node: int,
    name: str,
    seen: Mapping[str, Witness],
) -> Answer:
    """Return what ``reply`` is worth.

    Args:
        reply: From a site of ``plan``.
        plan: What was asked.
        node: Id of the node that was asked.
        name: The node's name; empty in Ray's simulation, where a reply says who it is.
        seen: Site -> newest end of its ledger that the server knows of.
    """
    label = _label(node, name)
    if reply.has_error():
        return Answer(site=label, node=node, reason=f"FlowerError{reply.error.code}")
    try:
        refusal = open_refusal(reply.content)
        if refusal is None:
            told = open_reply(reply.content, plan.shapes)
            site = _accepted(told.update, plan, name).site
            _check_metric(told, plan)
            require_newer(told.witness, site, seen.get(site))
            return Answer(site=site, node=node, reply=told, size=size(reply.content))
        site, reason = refusal
        _check_site(site, plan, name)
        return Answer(site=site, node=node, reason=reason)
    except TacitError as error:
        return Answer(site=label, node=node, reason=type(error).__name__)


def _accepted(update: AdapterUpdate, plan: RoundPlan, name: str) -> AdapterUpdate:
    """Return ``update`` if it answers ``plan`` and fits its limits."""
    _check_site(update.site, plan, name)
    followed = (update.run, update.number, update.plan)
    if followed != (plan.run, plan.number, plan.digest()):
        raise RoundError(f"{update.site} answers another round than {plan.number}")
    if update.wire != plan.wire:
        raise RoundError(f"{update.site} sends {update.wire}, not {plan.wire}")
    check(update.delta, plan.shapes)
    length = norm(update.delta)
    if length > plan.max_norm:
        raise ModelError(f"norm={length:.4f} is over max-norm={plan.max_norm:.4f}")
    return update


def require_newer(witness: Witness, site: str, seen: Witness | None) -> None:
    """Return if the witness may follow the one that was seen last.

    Guarantee: a site whose ledger went back, was replaced or runs twice does not count.

    Raises:
        LedgerBroken: If it is of another site or key, or does not go on from there.
    """
    if witness.site != site:
        raise LedgerBroken(f"{site} sends the witness of another site")
    if seen is None or witness == seen:
        return
    if witness.key != seen.key or witness.entries <= seen.entries:
        raise LedgerBroken(
            f"the ledger of {site} has {witness.entries} entries after it had "
            f"{seen.entries}: it was rolled back, replaced or cloned"
        )


def _check_metric(reply: Reply, plan: RoundPlan) -> None:
    """Refuse a metric that nobody asked for, or of another round."""
    metric, update = reply.metric, reply.update
    if metric is None:
        return
    ours = (metric.site, metric.run, metric.number, metric.plan)
    theirs = (update.site, update.run, update.number, update.plan)
    if ours != theirs or not plan.mechanism.metric_sigma:
        raise RoundError(f"{update.site} sends a metric that was not asked for")


def _label(node: int, name: str) -> str:
    return name or f"node-{node}"


def _check_site(site: str, plan: RoundPlan, name: str) -> None:
    if site not in plan.sites or name not in ("", site):
        raise RoundError("a reply claims to come from another site")
