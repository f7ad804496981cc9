"""Amazon reviews as an ordered list of purchases: interactions.tsv and items.tsv."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from client.data import SiteData, assemble
from client.rows import Table, values
from client.tables import Faults, read

# What the encoder reads of a product, in order; "description" may be added.
FIELDS = ("title", "brand")
_COLUMNS = ("title", "brand", "description")


def load(folder: Path, fields: Sequence[str] = FIELDS) -> SiteData:
    """Read purchases; the position in a user's order stands for the time."""
    faults = Faults(folder)
    names = {"item": "item"} | {name: name for name in _COLUMNS}
    items = read(folder / "items.tsv", names, faults)
    order = {"user": "user", "item": "item", "timestamp": "position"}
    events = read(folder / "interactions.tsv", order, faults)
    lists = [values(name, "") for name in _COLUMNS if name in items.columns]
    return assemble(
        Table("items.tsv", items.with_columns(lists)),
        Table("interactions.tsv", events),
        text=fields,
        attributes={"brand": "brand"},
        positive=pl.lit(value=True),
        faults=faults,
    )
