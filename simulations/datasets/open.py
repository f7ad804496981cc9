"""Open any folder of data that Tacit can read, by the files that it holds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client import data
from client.data import SiteData
from shared.errors import DataError
from simulations.datasets import amazon, movielens


@dataclass(frozen=True, slots=True)
class Form:
    """A way to lay out a data set, known by the files that must be there."""

    name: str
    files: tuple[str, ...]
    load: Callable[[Path], SiteData]


# The first that fits is taken, so a data.toml always has its way.
FORMS = (
    Form("generic", ("data.toml",), data.load),
    Form("MovieLens 100K", ("u.data", "u.item"), movielens.load_100k),
    Form("MovieLens latest", ("ratings.csv", "movies.csv"), movielens.load_latest),
    Form("MovieLens 1M", ("ratings.dat", "movies.dat"), movielens.load_1m),
    Form("Amazon", ("interactions.tsv", "items.tsv"), amazon.load),
)


def open_dataset(folder: Path) -> SiteData:
    """Read ``folder`` in whichever known form it has, or list the known forms."""
    for form in FORMS:
        if all((folder / file).is_file() for file in form.files):
            return form.load(folder)
    found = "holds no known form of data" if folder.is_dir() else "no such folder"
    known = [f"{form.name}: {', '.join(form.files)}" for form in FORMS]
    raise DataError("\n  ".join([f"{folder}: {found}; known forms:", *known]))
