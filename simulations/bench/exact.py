"""What a site's best items are, by a scan over all of them in float64.

It owes nothing to the code that serves: the formula of DESIGN D14, written once more.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from client.data import UserHistory
from client.examples import recency_weights
from client.model import HALF_TRUST, HALF_WAY
from shared.protocol import Array
from simulations.bench.synthetic import Synthetic

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


def best_for_user(
    site: Synthetic, history: UserHistory, alpha: float | None, k: int
) -> Places:
    """Return the k best items that a user has not met, best first.

    Args:
        site: Whose items.
        history: Of the user, with a like at least.
        alpha: Weight of text; None for the history's own.
        k: How many.
    """
    recipe = site.recipe
    shown = history.items[history.likes][::-1][: recipe.shown]
    count = len(shown)
    if alpha is None:
        alpha = recipe.alpha + (1 - recipe.alpha) * HALF_WAY / (HALF_WAY + count)
    weights = recency_weights(count, count, recipe.recency).astype(np.float64)
    taste = weights @ site.vectors[shown]
    likes = np.append(weights @ site.factors[shown, :-1], 1.0)
    text = site.vectors @ (taste / np.linalg.norm(taste))
    total = (alpha * recipe.temperature * text).astype(np.float64)
    total += (1 - alpha) * recipe.cf_scale * (site.factors @ likes)
    total *= count**2 / (count**2 + HALF_TRUST)
    total += site.prior
    total[history.items] = -np.inf
    return _best(total, k)


def best_for_query(
    site: Synthetic, meaning: Array, understood: dict[str, Any], k: int
) -> Places | None:
    """Return the k best items for a request of nobody's; None if it leans somewhere.

    Of several values of one attribute any will do, but to have more is a leaning.

    Args:
        site: Whose items.
        meaning: Vector of what it means, not centred, [width]; zeros for nothing.
        understood: How the server says that it understood the request.
        k: How many.
    """
    named = [term["attribute"] for term in understood["wanted"]]
    leans = any(understood[part] for part in ("leanings", "like", "unlike"))
    if leans or len(named) > len(set(named)):
        return None
    total = site.prior.astype(np.float64)
    if meaning.any():
        off = (meaning - site.centre).astype(np.float64)
        total += site.recipe.temperature * (site.vectors @ (off / np.linalg.norm(off)))
    total[~_allowed(site, understood)] = -np.inf
    return _best(total, k)


def _allowed(site: Synthetic, understood: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """Return which items satisfy the hard parts of a request, [n]."""
    attributes = {
        name: np.array([each[0] for each in values])  # the generated have one each
        for name, values in site.data.catalogue.attributes.items()
    }
    kept = np.ones(len(site.vectors), np.bool_)
    for term in understood["wanted"]:
        kept &= attributes[term["attribute"]] == term["value"]
    for term in understood["unwanted"]:
        kept &= attributes[term["attribute"]] != term["value"]
    for bounds in understood["ranges"]:
        numbers = attributes[bounds["attribute"]].astype(np.float64)
        low, high = bounds["low"], bounds["high"]
        kept &= numbers >= (-np.inf if low is None else low)
        kept &= numbers <= (np.inf if high is None else high)
    return kept


def _best(total: Floats, k: int) -> Places:
    best = np.argsort(-total, kind="stable")[:k]
    return best[total[best] > -np.inf]
