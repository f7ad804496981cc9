"""The version of the adapter that a site holds, so that the next can come as a step.

It is public: what the server sent. A copy that cannot be read counts as none.
"""

from client.site import Site
from shared.errors import LedgerBroken
from shared.protocol import FLOAT32, Adapter, Array, RoundPlan

NAME = "adapter"


def hold(site: Site, plan: RoundPlan, adapter: Adapter) -> None:
    """Keep the adapter that a round starts from, if the next may come as a step."""
    if plan.wire != FLOAT32:
        site.keep(plan.run, NAME, dict(adapter))


def held(site: Site, run: str) -> dict[str, Array] | None:
    """Return the version of the run's adapter that the site holds, or None."""
    try:
        return site.kept(run, NAME)
    except LedgerBroken:
        return None
