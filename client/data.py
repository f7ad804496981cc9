"""A site's data in its generic form, and the only reader of raw behaviour.

Nothing is half loaded: either every row is understood, or one error names every class
of problem by count and row number, never by a user's id or value.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from client import mapping, tables
from client.forgotten import NOBODY, Forgotten, forgotten_at
from client.mapping import DataMapping, ItemColumns, UserColumns
from client.rows import Table, declared, rated, understand, understand_items, values
from client.sources import snapshot
from client.tables import Faults
from shared.catalogue import Catalogue
from shared.errors import DataError

_TIE_BREAK = 2026
_LIST = pl.List(pl.String)
_SAVED = """\
[interactions]
file = "interactions.parquet"
user = "user"
item = "item"
timestamp = "time"
rating = "like"
positive-rating = 1

[items]
file = "items.parquet"
item = "_item"
text = ["_text"]
attributes = {attributes}
list-separator = ""
"""
_SAVED_PEOPLE = """
[users]
file = "users.parquet"
user = "_user"
attributes = {attributes}
"""

People = Mapping[str, Mapping[str, str]]  # user -> attribute -> what they declared


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class UserHistory:
    """Everything one user did at this site, oldest first.

    Args:
        user: The site's own identifier.
        items: int64[n], positions in the catalogue.
        times: int64[n], epoch seconds, or any whole number that grows.
        likes: bool[n], whether the event was positive.
    """

    user: str
    items: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    likes: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, UserHistory)
            and self.user == other.user
            and np.array_equal(self.items, other.items)
            and np.array_equal(self.times, other.times)
            and np.array_equal(self.likes, other.likes)
        )

    def __hash__(self) -> int:
        return hash(self.user)

    def __repr__(self) -> str:
        return "UserHistory(not shown)"

    def events(self, which: slice | npt.NDArray[np.bool_]) -> "UserHistory":
        """Return the same user with some of the events, in the same order."""
        return UserHistory(
            user=self.user,
            items=self.items[which],
            times=self.times[which],
            likes=self.likes[which],
        )


@dataclass(frozen=True, slots=True, repr=False)
class SiteData:
    """What one site holds: public items, its users' histories, what they declared.

    Who declared nothing is not among the ``people``; who did need not have a history.
    """

    catalogue: Catalogue
    histories: tuple[UserHistory, ...]
    people: People = field(default_factory=dict)

    def people_of(self, histories: Iterable[UserHistory]) -> People:
        """Return what the users of these histories declared."""
        users = (history.user for history in histories)
        return {user: self.people[user] for user in users if user in self.people}

    def __repr__(self) -> str:
        return f"SiteData({self.catalogue!r}, histories not shown)"


def load(folder: Path, site: Path | None = None) -> SiteData:
    """Read a folder of data: ``data.toml``, its interactions, items and users.

    Of a database the last good snapshot is read; nothing connects here.

    Guarantee: no user whom the site has forgotten is in what is returned, and every
    other user is as if that one had never been there.

    Args:
        folder: Of ``data.toml``.
        site: Folder of the site that the data are of; None: of no site.

    Raises:
        ConfigError: Naming every fault of ``data.toml``; or if nobody knows who was
            forgotten.
        DataError: Naming every class of problem in the tables; or if a database was
            never read.
    """
    mapped = mapping.read_mapping(folder)
    with _tables_of(folder, mapped) as inside:
        return read_tables(inside, mapped, folder, forgotten_at(site))


def load_items(folder: Path) -> tuple[str, ...]:
    """Read the ids of a folder's items, in the order in which ``load`` has them.

    Guarantee: no row of a user is read, for the items are public.

    Args:
        folder: Of ``data.toml``.

    Raises:
        ConfigError: Naming every fault of ``data.toml``.
        DataError: Naming every class of problem in the items; or if a database was
            never read.
    """
    mapped, faults = mapping.read_mapping(folder), Faults(folder)
    with _tables_of(folder, mapped) as inside:
        table = _items(inside, mapped.items, faults)
    rows = understand_items(table, list(mapped.items.text_columns()), faults)
    faults.raise_if_any()
    return tuple(rows["item"])


@contextmanager
def _tables_of(folder: Path, mapped: DataMapping) -> Iterator[Path]:
    """Yield where the tables lie: beside ``data.toml``, or in the last snapshot."""
    if mapped.source is None:
        yield folder
        return
    with snapshot.alone(folder):
        state = snapshot.current(folder)
        if state is None:
            raise DataError(
                f"{folder}: its database was never read: tacit site data check FOLDER"
            )
        yield snapshot.tables(folder, state.number)


def _items(inside: Path, items: ItemColumns, faults: Faults) -> Table:
    """Return the rows of the items, texts and attributes as lists of values."""
    fields = items.text_columns() | items.attribute_columns()
    rows = tables.read(inside / items.file, items.columns(), faults, lists=fields)
    return Table(items.file, _as_lists(rows, fields, items.list_separator))


def read_tables(
    inside: Path, mapped: DataMapping, folder: Path, forgotten: Forgotten = NOBODY
) -> SiteData:
    """Read the tables as a site's ``data.toml`` says.

    Args:
        inside: Folder of the interactions and items.
        mapped: What ``data.toml`` says.
        folder: What a person calls the site's data; that of the users' file.
        forgotten: Whose rows are ignored, whatever they hold.

    Raises:
        DataError: Naming every class of problem in the tables.
    """
    events, items = mapped.interactions, mapped.items
    faults = Faults(folder)
    rows = tables.read(inside / events.file, events.columns(), faults)
    event_rows = forgotten.without(rows, "user")
    if event_rows.is_empty() and not rows.is_empty():
        faults.add(events.file, "holds no rows but of users who were forgotten")
    item_rows = _items(inside, items, faults)
    positive = pl.lit(value=True)
    if events.rating:
        positive = rated(events.positive_rating)
    elif events.event:
        positive = pl.col("event").is_in(events.positive_events)
    people = _people(folder, mapped.users, forgotten, faults)
    data = assemble(
        item_rows,
        Table(events.file, event_rows),
        text=list(items.text_columns()),
        attributes={name: column for column, name in items.attribute_columns().items()},
        positive=positive,
        faults=faults,
    )
    return replace(data, people=people)


def save(folder: Path, data: SiteData) -> None:
    """Write the generic form, so that ``load(folder)`` gives an equal ``SiteData``."""
    catalogue, histories = data.catalogue, data.histories
    if not histories or not all(len(history) for history in histories):
        raise DataError("a user without events cannot be written; leave the user out")
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(catalogue.attributes)
    attributes = {
        name: pl.Series(map(list, catalogue.attributes[name]), dtype=_LIST)
        for name in names
    }
    pl.DataFrame(
        {"_item": catalogue.ids, "_text": catalogue.texts} | attributes
    ).write_parquet(folder / "items.parquet")
    pl.DataFrame(
        {
            "user": [history.user for history in histories for _ in history.items],
            "item": [catalogue.ids[i] for history in histories for i in history.items],
            "time": np.concatenate([history.times for history in histories]),
            "like": np.concatenate([history.likes for history in histories]),
        }
    ).with_columns(pl.col("like").cast(pl.Int8)).write_parquet(
        folder / "interactions.parquet"
    )
    listed = json.dumps(names, ensure_ascii=False)
    said = _SAVED.format(attributes=listed)
    if data.people:
        said += _save_people(folder, data.people)
    (folder / mapping.FILE).write_text(said, "utf-8")


def _save_people(folder: Path, people: People) -> str:
    """Write what users declared, and return what ``data.toml`` says of it."""
    names = sorted({name for about in people.values() for name in about})
    rows = {
        name: pl.Series([about.get(name) for about in people.values()], dtype=pl.String)
        for name in names
    }
    pl.DataFrame({"_user": list(people)} | rows).write_parquet(folder / "users.parquet")
    return _SAVED_PEOPLE.format(attributes=json.dumps(names, ensure_ascii=False))


def assemble(
    items: Table,
    events: Table,
    *,
    text: Sequence[str],
    attributes: Mapping[str, str],
    positive: pl.Expr,
    faults: Faults,
) -> SiteData:
    """Check rows and build a site's data from them, or report every fault at once.

    Args:
        items: ``row``, ``item`` and lists of values.
        events: ``row``, ``user``, ``item``, ``timestamp``; perhaps ``rating`` or
            ``event``.
        text: Columns of ``items`` that make an item's text, in order.
        attributes: Attribute name to its column in ``items``.
        positive: Which events are likes.
        faults: What was wrong so far.
    """
    item_rows, event_rows = understand(items, events, text, faults)
    faults.raise_if_any()
    catalogue = Catalogue(
        ids=tuple(item_rows["item"]),
        texts=tuple(item_rows["#text"]),
        attributes={
            name: tuple(tuple(values) for values in item_rows[column].to_list())
            for name, column in attributes.items()
        },
    )
    return SiteData(catalogue, _histories(event_rows.with_columns(like=positive)))


def _people(
    folder: Path, users: UserColumns | None, forgotten: Forgotten, faults: Faults
) -> People:
    """Return what the users of a file declared, without those who were forgotten."""
    if users is None:
        return {}
    rows = tables.read(folder / users.file, users.columns(), faults)
    attributes = {name: column for column, name in users.attribute_columns().items()}
    return declared(
        Table(users.file, forgotten.without(rows, "user")), attributes, faults
    )


def _as_lists(
    items: pl.DataFrame, columns: Iterable[str], separator: str
) -> pl.DataFrame:
    """Return ``columns`` as lists of values; Parquet may hold lists already."""
    return items.with_columns(
        values(column, separator)
        if items.schema[column] == pl.String
        else pl.col(column).fill_null([]).list.drop_nulls()
        for column in columns
        if column in items.columns
    )


def _histories(events: pl.DataFrame) -> tuple[UserHistory, ...]:
    """Return one history per user, in order of appearance.

    Events at the same second follow the SHA-256 of "user:item:2026", with the ids as
    the file gives them: an order that no other column can lean on.
    """
    ties = [
        hashlib.sha256(f"{user}:{item}:{_TIE_BREAK}".encode()).hexdigest()
        for user, item in zip(events["user"], events["item"], strict=True)
    ]
    ordered = events.with_columns(
        pl.Series("#tie", ties),
        pl.col("row").cast(pl.Int64).min().over("user").alias("#first"),
    ).sort("#first", "#time", "#tie")
    items = ordered["#position"].to_numpy(writable=True)
    times = ordered["#time"].to_numpy(writable=True)
    likes = ordered["like"].to_numpy(writable=True)
    starts = np.flatnonzero(np.diff(ordered["#first"].to_numpy(), prepend=-1))
    ends = np.append(starts[1:], len(items))
    return tuple(
        UserHistory(
            user=ordered["user"][start],
            items=items[start:end],
            times=times[start:end],
            likes=likes[start:end],
        )
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    )
