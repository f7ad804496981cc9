"""MovieLens folders as their publisher packs them: 100K, latest-small and 1M."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from client.data import People, SiteData, assemble
from client.rows import Table, declared, rated, values
from client.tables import TSV, Faults, Layout, read

# What the encoder reads of a film, in order; "plot" may be added where there is one.
FIELDS = ("title", "genres")
POSITIVE_RATING = 4.0

# The order of the 19 flags at the end of a line of u.item.
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery"),
    *("Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
_NO_GENRE = ("unknown", "(no genres listed)")

_RATING = ("user", "item", "rating", "timestamp")
_U_DATA = Layout("\t", header=_RATING)
_U_ITEM = Layout(
    "|",
    encoding="latin-1",
    header=("item", "title", "released", "video", "url", *GENRES),
)
_USER = ("user", "age", "gender", "occupation", "zip")
_U_USER = Layout("|", header=_USER)
_RATINGS_DAT = Layout("::", encoding="latin-1", header=_RATING)
_MOVIES_DAT = Layout("::", encoding="latin-1", header=("item", "title", "genres"))
_AGES = (18, 25, 35, 45, 50, 56)  # first years of a band, as MovieLens 1M has them
_CSV_NAMES = {"item": "movieId", "title": "title", "genres": "genres"}


def load_100k(folder: Path, fields: Sequence[str] = FIELDS) -> SiteData:
    """Read ``u.data`` and ``u.item``; ``item_text.tsv`` and ``u.user`` if there."""
    faults = Faults(folder)
    names = ("item", "title", *GENRES)
    films = read(folder / "u.item", _same(names), faults, _U_ITEM)
    if "item" in films.columns:
        films = films.with_columns(_flagged())
        films = _with_credits(films, folder / "item_text.tsv", faults)
    events = read(folder / "u.data", _same(_RATING), faults, _U_DATA)
    people = _people(folder / "u.user", faults)
    data = _films(Table("u.item", films), Table("u.data", events), fields, faults)
    return replace(data, people=people)


def load_latest(folder: Path, fields: Sequence[str] = FIELDS) -> SiteData:
    """Read ``ratings.csv`` and ``movies.csv``, as in latest-small and 25M."""
    faults = Faults(folder)
    films = read(folder / "movies.csv", _CSV_NAMES, faults)
    rating = {
        "user": "userId",
        "item": "movieId",
        "rating": "rating",
        "timestamp": "timestamp",
    }
    events = read(folder / "ratings.csv", rating, faults)
    return _films(
        Table("movies.csv", films), Table("ratings.csv", events), fields, faults
    )


def load_1m(folder: Path, fields: Sequence[str] = FIELDS) -> SiteData:
    """Read ``ratings.dat`` and ``movies.dat``, whose cells are parted by "::"."""
    faults = Faults(folder)
    names = _same(("item", "title", "genres"))
    films = read(folder / "movies.dat", names, faults, _MOVIES_DAT)
    events = read(folder / "ratings.dat", _same(_RATING), faults, _RATINGS_DAT)
    return _films(
        Table("movies.dat", films), Table("ratings.dat", events), fields, faults
    )


def _films(
    films: Table, events: Table, fields: Sequence[str], faults: Faults
) -> SiteData:
    """Return the site's data; a field that this form does not have is skipped."""
    rows = films.rows
    lists = [
        values(column, "|" if column == "genres" else "")
        for column in ("title", "genres", "director", "actors", "plot")
        if column in rows.columns
    ]
    rows = rows.with_columns(lists)
    if "genres" in rows.columns:
        named = pl.element().filter(~pl.element().is_in(_NO_GENRE))
        rows = rows.with_columns(pl.col("genres").list.eval(named))
    if "title" in rows.columns:
        rows = rows.with_columns(_decade())
    return assemble(
        Table(films.file, rows),
        events,
        text=[field for field in fields if field in rows.columns],
        attributes={"genres": "genres", "decade": "decade"},
        positive=rated(POSITIVE_RATING),
        faults=faults,
    )


def _decade() -> pl.Expr:
    """Return the decade of the year that ends a title: "Heat (1995)", the 1990s."""
    tens = pl.col("title").list.join("").str.extract(r"\((\d{3})\d\D*\d*\)\D*$")
    return pl.concat_list(tens + "0s").list.drop_nulls().alias("decade")


def _flagged() -> pl.Expr:
    """Return the names of the genres whose flag is 1."""
    names = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    return pl.concat_str(names, separator="|", ignore_nulls=True).alias("genres")


def _with_credits(films: pl.DataFrame, path: Path, faults: Faults) -> pl.DataFrame:
    """Add director, actors and plot, where the file is there and knows the film."""
    if not path.is_file():
        return films
    names = {"item": "movie", "director": "director", "actors": "actors"}
    known = read(path, names | {"plot": "plot"}, faults, TSV)
    if "item" not in known.columns:
        return films
    once = known.drop("row").unique("item", keep="first")
    return films.join(once, on="item", how="left", maintain_order="left")


def _people(path: Path, faults: Faults) -> People:
    """Return age band, gender, occupation and place of each user in ``u.user``.

    A place is the first digit of a zip code, one of ten parts of the United States;
    whoever lives elsewhere has none.
    """
    if not path.is_file():
        return {}
    users = read(path, _same(_USER), faults, _U_USER)
    if "age" in users.columns and "zip" in users.columns:
        bands = [_age_band(cell) for cell in users["age"].fill_null("").to_list()]
        place = pl.col("zip").str.extract(r"^\s*(\d)").alias("place")
        users = users.with_columns(place, pl.Series("age", bands))
    told = _same(("age", "gender", "occupation", "place"))
    return declared(Table(path.name, users), told, faults)


def _age_band(years: str) -> str:
    """Return a band such as "18-24" or "56+"; "" where there is no age."""
    if not years.strip().isdecimal():
        return ""
    number = bisect_right(_AGES, int(years))
    if number == 0:
        return f"under {_AGES[0]}"
    if number == len(_AGES):
        return f"{_AGES[-1]}+"
    return f"{_AGES[number - 1]}-{_AGES[number] - 1}"


def _same(names: Sequence[str]) -> dict[str, str]:
    """Return a mapping for a file whose columns already have our names."""
    return {name: name for name in names}
