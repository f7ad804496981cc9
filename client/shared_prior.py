"""A prior made of the popularity that all sites of one catalogue released.

At a few hundred users a site's own release is mostly noise; the mean of many is not. A
site puts what it released, and nothing else, beside its adapter's change. What comes
back is the mean over the sites.
"""

import numpy as np

from client.data import load_items
from client.prior import log_prior
from client.site import Site
from shared.errors import DataError
from shared.popularity import items_of, shared_part
from shared.protocol import SHARED, Adapter, Array, RoundPlan


def require_same_catalogue(site: Site, plan: RoundPlan) -> None:
    """Return if a shared popularity stands for this site's items, in their order.

    Guarantee: only the public items are read, so this may come before any charge.

    Raises:
        DataError: If it stands for another catalogue, or the items cannot be read.
    """
    if plan.recipe.prior != SHARED:
        return
    ours = items_of(load_items(site.data))
    if shared_part(plan.shapes) != {ours.tensor: (ours.items,)}:
        raise DataError(
            f"the popularity that run {plan.run!r} shares is not of this site's "
            f"{ours.items} items in their order (digest {ours.digest}): take over the "
            "run's catalogue, or ask the operator for prior='own'"
        )


def shared_change(site: Site, plan: RoundPlan, adapter: Adapter) -> dict[str, Array]:
    """Return the change from the shared popularity to the site's own release.

    Guarantee: a function of the release that the ledger charged once for the run, and
    of public values; so it costs nothing more, however many rounds repeat it.

    The mean of these changes moves the shared popularity to the mean of the releases,
    each divided by its site's declared users.
    """
    kept = site.kept(plan.run, "popularity")
    if plan.recipe.prior != SHARED or kept is None:
        return {}
    own = kept["popularity"] / np.float32(site.policy.users)
    return {name: own - mean for name, mean in shared_part(adapter).items()}


def shared_prior(site: Site, plan: RoundPlan, adapter: Adapter) -> Array | None:
    """Return the log prior of all sites together; None where there is none yet.

    Args:
        site: Whose release says how much noise each site's has.
        plan: Of any round of the run; names the sites.
        adapter: The exchanged tensors.
    """
    kept, mean = site.kept(plan.run, "popularity"), shared_part(adapter)
    if kept is None or not any(array.any() for array in mean.values()):
        return None
    [values] = mean.values()
    sites = len(plan.sites)
    pooled = values * np.float32(sites * site.policy.users)
    return log_prior(pooled, float(kept["sigma"]) * sites**0.5)
