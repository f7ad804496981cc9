"""What a site would train on, counted for its own screen; it trains nothing."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.data import load
from client.examples import make_examples
from client.mapping import read_mapping
from client.sources.refresh import Refreshed, refresh
from shared.popularity import items_of


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Checked:
    """Counts of a site's data. They are exact, so they stay at the site.

    Args:
        source: ``files`` or ``database``.
        items: In the catalogue.
        catalogue: Digest of its items, public; a plan that shares popularity names it.
        users: Who have at least one event.
        users_with_likes: Who have something to train on.
        events: Of all users.
        likes: Of these, the positive ones.
        likes_trained: Of these, what a user's example keeps.
        oldest: Date of the first event, UTC.
        newest: Date of the last event, UTC.
        refreshed: What reading the database came to; None: there are files.
    """

    source: str
    items: int
    catalogue: str
    users: int
    users_with_likes: int
    events: int
    likes: int
    likes_trained: int
    oldest: str
    newest: str
    refreshed: Refreshed | None


def check(folder: Path, site: Path | None = None, *, full: bool = False) -> Checked:
    """Read the source, check every row, and count what a round would train on.

    Args:
        folder: Of ``data.toml``.
        site: Folder of the site that the data are of; None: of no site.
        full: Read a database anew from the start.

    Raises:
        InputError: If anything is wrong, as in a round; a database's last good snapshot
            then stays in use.
    """
    database = read_mapping(folder).source is not None
    refreshed = refresh(folder, site, full=full) if database else None
    data = load(folder, site)
    kept = [len(example.likes) for example in make_examples(data.histories)]
    times = [int(time) for history in data.histories for time in history.times[[0, -1]]]
    return Checked(
        source="database" if database else "files",
        items=len(data.catalogue),
        catalogue=items_of(data.catalogue.ids).digest,
        users=len(data.histories),
        users_with_likes=sum(count > 0 for count in kept),
        events=sum(map(len, data.histories)),
        likes=sum(int(history.likes.sum()) for history in data.histories),
        likes_trained=sum(kept),
        oldest=_date(min(times)),
        newest=_date(max(times)),
        refreshed=refreshed,
    )


def _date(time: int) -> str:
    """Return an instant's date; whole numbers far off any calendar as they are."""
    try:
        return datetime.fromtimestamp(time, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return str(time)
