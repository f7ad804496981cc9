"""Forgetting a user at a site: never read again, and gone from what the site keeps.

It edits no file and no database of the partner's own, and takes back nothing that was
learned: differential privacy bounds what that can say of the user.
"""

from dataclasses import dataclass

from client import tables
from client.forgotten import add
from client.mapping import DataMapping, read_mapping
from client.serving.removal import remove_rows
from client.site import Site
from client.sources.refresh import cleanse
from client.tables import Faults
from shared.errors import InputError
from shared.ledger_file import read_ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """What forgetting came to; for the site's own screen.

    Attributes:
        source: What holds the user's rows still: a file's name, or ``the database``.
        held: Whether any row of the user was in the data as they were read last, or
            came live while the site served.
    """

    source: str
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What was spent on all that was learned so far, from every user alike."""

    epsilon: float
    delta: float


def forget(site: Site, user: str) -> Forgetting:
    """Put a user on the site's list, and take the user out of what the site keeps.

    Guarantee: whatever reads the site's data from now on does not see the user, and
    sees every other user as before. Snapshots and the serving store hold no row of the
    user, and a server that runs knows the user no more and keeps nothing of them.

    Args:
        site: Where.
        user: The id as it stands in the data.

    Raises:
        ConfigError: If the id can be nobody's, or the list cannot be believed.
        InputError: If the data cannot be looked at; the user is on the list already.
        StoreFailed: If the serving store cannot be rewritten; so is the user then.
    """
    add(site.folder, user)
    live = remove_rows(site.folder, user)
    try:
        mapped = read_mapping(site.data)
        held = cleanse(site.data, site.folder) or live
        if mapped.source is not None:
            return Forgetting(source="the database", held=held)
        file = mapped.interactions.file
        return Forgetting(source=file, held=_is_in_file(site, mapped, user) or live)
    except InputError as error:
        raise type(error)(
            f"{error}\n  the user is on the list and is read no more, but a snapshot "
            "may hold rows still: mend this, then forget the user again"
        ) from None


def learned(site: Site) -> Learned | None:
    """Return what the site's ledger says was spent, or None before the first round.

    Raises:
        LedgerBroken: If the ledger cannot be believed.
    """
    if not site.ledger.exists():
        return None
    chain = read_ledger(site.ledger)
    if not chain.events and not chain.exposed:
        return None
    return Learned(epsilon=chain.epsilon("add_remove"), delta=chain.opening["delta"])


def _is_in_file(site: Site, mapped: DataMapping, user: str) -> bool:
    """Return whether a file holds the user; one that cannot be read holds nobody."""
    events, unread = mapped.interactions, Faults(site.data)
    rows = tables.read(site.data / events.file, {"user": events.user}, unread)
    return "user" in rows.columns and user in rows["user"]
