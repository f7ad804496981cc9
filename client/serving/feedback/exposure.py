"""What a site's users were shown and what they did with it, as tables; exact figures.

They are for the site's own operator. Nothing that is served reads them.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from client.data import SiteData
from client.forgotten import Forgotten
from client.serving.added_items import NewItem
from client.serving.model import Served
from shared.protocol import Array

TOP = 0.1  # share of the items that count as most popular
BLOCK = 4096  # lists whose vectors are summed at a time

_LISTS = "SELECT n, time, user, release, segment FROM shown WHERE time >= ?"
_PLACES = """
SELECT shown.n, json_extract(at.value, '$[0]')
FROM shown, json_each(shown.items) AS at WHERE shown.time >= ?"""
_CHOSEN = """
SELECT shown.n, events.item, max(strength(events.kind, events.rating, events.sentiment))
FROM shown JOIN events ON events.shown = shown.id
    AND (shown.user = '' OR shown.user = events.user)
WHERE shown.time >= ? GROUP BY shown.n, events.item"""
_ITEMS = "SELECT id, text, attributes FROM items ORDER BY n"


@dataclass(frozen=True, slots=True, repr=False)
class Exposure:
    """What was shown.

    Attributes:
        lists: A row for each list: what it is of, and what it adds to each figure.
        places: ``list`` and ``place`` of the catalogue, for each place of a list.
    """

    lists: pl.DataFrame
    places: pl.DataFrame

    def where(self, which: pl.Expr) -> "Exposure":
        """Return what some of the lists showed."""
        lists = self.lists.filter(which)
        return Exposure(lists, self.places.join(lists, on="list", how="semi"))


def exposure(
    db: sqlite3.Connection, gone: Forgotten, model: Served, data: SiteData, since: int
) -> Exposure:
    """Return what users were shown since a moment, epoch seconds.

    Args:
        db: The serving store, from ``opened``.
        gone: Who was forgotten; their lists are left out.
        model: Whose items, places and vectors.
        data: Of the site; popularity is the share of its users who met an item.
        since: From when on.
    """
    lists = _frame(
        db.execute(_LISTS, (since,)),
        {
            "list": pl.Int64,
            "time": pl.Int64,
            "user": pl.String,
            "release": pl.String,
            "segment": pl.String,
        },
    )
    lists = gone.without(lists, "user")
    chosen = _frame(
        db.execute(_CHOSEN, (since,)),
        {"list": pl.Int64, "item": pl.String, "strength": pl.Float64},
    )
    places = (
        _frame(db.execute(_PLACES, (since,)), {"list": pl.Int64, "item": pl.String})
        .join(lists.select("list"), on="list", how="semi")
        .join(chosen, on=["list", "item"], how="left")
        .join(_items(model, data), on="item", how="left")
    )
    sums = places.group_by("list").agg(
        pl.len().alias("shown"),
        (pl.col("strength") > 0).sum().alias("chosen"),
        (pl.col("strength") >= 1).any().alias("converted"),
        pl.col("surprise").sum(),
        pl.col("top").sum(),
        pl.col("place").count().alias("known"),
    )
    known = places.select("list", "place").drop_nulls().sort("list")
    joined = (
        lists.join(sums, on="list")
        .join(_distances(known, model), on="list", how="left")
        .with_columns(
            pl.lit(1).alias("lists"),
            pl.from_epoch("time").dt.date().cast(pl.String).alias("day"),
            pl.when(pl.col("user") == "")
            .then(pl.format("#{}", "list"))
            .otherwise(pl.col("user"))
            .alias("unit"),
            pl.col("distance").fill_null(0.0),
            pl.col("distance").is_not_null().alias("spread"),
        )
    )
    return Exposure(joined.sort("time", "list"), known)


def added_items(db: sqlite3.Connection) -> list[NewItem]:
    """Return items that were put over the API, the newest of an id last."""
    return [
        NewItem(
            id=item,
            text=text,
            attributes={k: tuple(v) for k, v in json.loads(attributes).items()},
        )
        for item, text, attributes in db.execute(_ITEMS)
    ]


def declared(
    db: sqlite3.Connection, data: SiteData, groups: Sequence[str]
) -> pl.DataFrame:
    """Return what users declared of some attributes: user, attribute, value."""
    about = {
        (user, name): value
        for user, said in data.people.items()
        for name, value in said.items()
    }
    query = "SELECT user, attribute, value FROM people"
    about |= {(user, name): value for user, name, value in db.execute(query)}
    rows = [(*key, value) for key, value in about.items() if key[1] in groups]
    text = {"unit": pl.String, "attribute": pl.String, "value": pl.String}
    return pl.DataFrame(rows, text, orient="row")


def _items(model: Served, data: SiteData) -> pl.DataFrame:
    """Return each item's place, -log2 of its popularity, and whether it is of the top.

    An item that nobody met is as popular as half a user.
    """
    met = np.full(len(model), 0.5)
    for history in data.histories:
        met[np.unique(history.items)] += 1.0
    share = met / (len(data.histories) + 1)
    most = max(1, round(TOP * len(model)))
    top = np.zeros(len(model), np.bool_)
    top[np.argsort(-met, kind="stable")[:most]] = True
    return pl.DataFrame(
        {
            "item": model.catalogue.ids,
            "place": np.arange(len(model)),
            "surprise": -np.log2(share),
            "top": top,
        }
    )


def _distances(known: pl.DataFrame, model: Served) -> pl.DataFrame:
    """Return each list's mean distance (1 - cosine) between its items, from two on.

    The sum of unit vectors is as long, squared, as all their cosines together.
    """
    lists, starts, counts = np.unique(
        known["list"].to_numpy(), return_index=True, return_counts=True
    )
    places, squares = known["place"].to_numpy(), np.zeros(len(lists))
    for first in range(0, len(lists), BLOCK):
        block = slice(first, first + BLOCK)
        begin, end = starts[block][0], starts[block][-1] + counts[block][-1]
        vectors: Array = model.vectors.rows(places[begin:end])
        summed = np.add.reduceat(vectors, starts[block] - begin, axis=0)
        squares[block] = np.square(summed).sum(axis=1)
    several = counts > 1
    pairs = np.maximum(counts * (counts - 1), 1)
    distances = 1 - (squares - counts) / pairs
    return pl.DataFrame({"list": lists, "distance": distances}).filter(several)


def _frame(rows: object, kinds: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), kinds, orient="row")  # type: ignore[call-overload]
