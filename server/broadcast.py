"""What goes down in a round: the adapter whole, or as a step from the version before.

A step goes only to a site whose counted answer said that it holds that version; nodes
without a name, new sites and the first round of a process get the adapter whole.
"""

from collections.abc import Collection, Iterable
from copy import deepcopy
from dataclasses import dataclass

from flwr.app import RecordDict

from shared.adapter import add, digest, subtract
from shared.packing import Step, feed_back, pack
from shared.protocol import FLOAT32, Adapter, Array, RoundPlan
from shared.wire import pack_plan, pack_step, size


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The instruction of one round, in one form or two.

    Attributes:
        whole: With the whole adapter.
        step: With the last step alone, if there is one and it is smaller.
        holders: Sites that hold the version that the step starts from.
        sizes: Bytes of the whole and of the step.
    """

    whole: RecordDict
    step: RecordDict | None
    holders: frozenset[str]
    sizes: tuple[int, int]

    def to(self, site: str) -> RecordDict:
        """Return what a site is sent; a node without a name gets the whole."""
        if self.step is not None and site in self.holders:
            return self.step
        return self.whole

    def mean_size(self, sites: Collection[str]) -> int:
        """Return how many bytes a site is sent, as a mean over these."""
        total = sum(self.sizes[self.to(site) is not self.whole] for site in sites)
        return round(total / len(sites)) if sites else 0


def broadcast(
    plan: RoundPlan, adapter: Adapter, step: Step | None, holders: Iterable[str]
) -> Broadcast:
    """Return the instruction of a round.

    Args:
        plan: What is asked.
        adapter: The newest version.
        step: From the version before to it, if this process has made it.
        holders: Sites whose answers counted in the round before.
    """
    whole, short = pack_plan(plan, adapter), pack_step(plan, step) if step else None
    sizes = _size(whole), _size(short) if short else 0
    if sizes[1] >= sizes[0]:
        short = None
    return Broadcast(whole, short, frozenset(holders), sizes)


def _size(content: RecordDict) -> int:
    """Return the size of what travels; in a copy, for Flower keeps what it cuts."""
    return size(deepcopy(content))


def advance(
    form: str, adapter: Adapter, after: Adapter, carried: Adapter
) -> tuple[dict[str, Array], dict[str, Array], Step | None]:
    """Return the version to publish, what its step leaves over, and the step.

    Guarantee: the version is exactly ``adapter`` plus the step as it travels, so that
    who holds ``adapter`` has it bit for bit. As float32 it is ``after``.

    Args:
        form: The plan's wire.
        adapter: The version before.
        after: What the aggregation rule made of it.
        carried: What the step before left over; empty for nothing.

    Raises:
        ModelError: If the form cannot hold the step.
    """
    if form == FLOAT32:
        return dict(after), {}, None
    sent, residual = feed_back(subtract(after, adapter), carried, form)
    version = add(adapter, sent)
    step = Step(pack(sent, form), digest(adapter), digest(version))
    return version, residual, step
