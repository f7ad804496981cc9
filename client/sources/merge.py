"""What was read now joined with what is known; rows and items keep their order."""

import polars as pl

from client.sources.cursor import COLUMN, Place


def events(
    known: pl.DataFrame | None, fresh: pl.DataFrame, since: Place | None
) -> pl.DataFrame:
    """Return known events below ``since``, then all that was read from there on.

    Guarantee: where ``fresh`` is all that the source holds at or above ``since``, the
    result is what reading everything would give, if nothing changed below.

    Args:
        known: Events of the snapshot, with their places; None: there are none.
        fresh: Events that were read, with their places if there is a cursor.
        since: The place that was read from.

    Returns:
        Events in order of their places and then of their columns: an order that the
        database cannot change. Without a cursor, what was read, as it was read.
    """
    if COLUMN not in fresh.columns:
        return fresh
    if known is not None and since is not None:
        below = known.filter(pl.col(COLUMN) < since)
        if fresh.is_empty():
            return below
        if known.schema == fresh.schema:  # if not, it is refused when it is checked
            fresh = pl.concat([below, fresh])
    plain = [name for name in fresh.columns if fresh.schema[name] == pl.String]
    return fresh.sort(COLUMN, *plain, nulls_last=True)


def items(
    known: pl.DataFrame | None, fresh: pl.DataFrame, item: str, *, keep_gone: bool
) -> pl.DataFrame:
    """Return the items that were read: known ones at their places, then new ones.

    What a run trained stands by an item's place in the catalogue.

    Args:
        known: Items of the snapshot; None: there are none.
        fresh: Items that were read.
        item: Column of the item's identifier.
        keep_gone: Whether an item that was not read again stays as it was.
    """
    if known is None or known.schema.get(item) != pl.String:
        return fresh
    if fresh.schema[item] != pl.String:  # refused when it is checked
        return fresh
    if keep_gone and known.schema == fresh.schema:
        fresh = pl.concat([fresh, known.join(fresh, on=item, how="anti")])
    places = known.select(item).with_row_index("#place")
    return (
        fresh.join(places, on=item, how="left", maintain_order="left")
        .sort("#place", nulls_last=True, maintain_order=True)
        .drop("#place")
    )
