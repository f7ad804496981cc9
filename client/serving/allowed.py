"""Which items may be shown at all; every way to a list goes through this mask.

It refuses a filter on an attribute that the catalogue does not have, and does not
repeat it: what somebody filters by may say something of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import numpy as np

from client.serving.ask import Wanted
from client.serving.model import Ints, Mask, Served
from client.serving.refused import Refused
from client.serving.taste import NOBODY, Past
from shared.errors import DataError


def allowed(
    model: Served,
    past: Past = NOBODY,
    *,
    filters: Mapping[str, Wanted] | None = None,
    candidates: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    include_seen: bool = False,
) -> Mask:
    """Return which items may be shown, [n].

    Args:
        model: What is served.
        past: Of the user; what they hid never comes, what they met unless asked for.
        filters: Attribute name -> what is wanted of it; all of them must hold.
        candidates: Ids of the only items that may come; None for all. An id that the
            catalogue does not hold yet is passed over, here and in ``exclude``.
        exclude: Ids of items that may not come.
        include_seen: Whether items that the user met may come again.

    Raises:
        Refused: If the catalogue lacks an attribute that is filtered by.
    """
    wanted = filters or {}
    check_filters(model, wanted)
    if candidates is None:
        mask = np.ones(len(model), np.bool_)
    else:
        mask = np.zeros(len(model), np.bool_)
        mask[known_places(model, candidates)] = True
    for name, each in wanted.items():
        mask &= _having(model, name, each)
    if not include_seen:
        for met in (past.seen, past.items, past.against):
            mask[met] = False
    mask[past.hidden] = False
    mask[known_places(model, exclude)] = False
    return mask


def check_filters(model: Served, filters: Mapping[str, Wanted]) -> None:
    """Refuse filters on attributes that the catalogue does not have."""
    known = model.catalogue.attributes
    strange = sum(name not in known for name in filters)
    if strange:
        names = ", ".join(sorted(known)) or "none"
        raise Refused(
            f"filters name {strange} attributes that the catalogue does not have; "
            f"it has: {names}"
        )


def known_places(model: Served, ids: Iterable[str]) -> Ints:
    """Return the places of those items that the catalogue holds."""
    places = []
    for item in ids:
        with suppress(DataError):
            places.append(model.catalogue.position(item))
    return np.array(places, np.int64)


def _having(model: Served, name: str, wanted: Wanted) -> Mask:
    """Return which items have what is wanted of one attribute."""
    places = model.attributes[name]
    nowhere = np.zeros(0, np.int64)
    mask = np.ones(len(model), np.bool_)
    if wanted.any_of:
        mask[:] = False
        for value in wanted.any_of:
            mask[places.get(value, nowhere)] = True
    if wanted.low is not None or wanted.high is not None:
        within = np.zeros(len(model), np.bool_)
        within[model.numbers[name].within(wanted.low, wanted.high)] = True
        mask &= within
    for value in wanted.none_of:
        mask[places.get(value, nowhere)] = False
    return mask
