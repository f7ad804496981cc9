"""Taking a user's rows out of the serving store, down to the last byte of its files."""

import sqlite3
from contextlib import closing
from pathlib import Path

from client.serving.schema import OF_USERS, connected, failing, file_of
from shared.errors import StoreFailed


def remove_rows(site: Path, user: str) -> bool:
    """Delete every row of a user from the serving store of a site.

    Guarantee: afterwards neither the file nor its log holds the user's id or anything
    they did. Overwriting what is deleted is not enough for that: pages keep copies of
    rows that moved to another page. So the file is written anew (VACUUM), by way of
    memory, which must hold it once; writers wait meanwhile, readers do not.

    Args:
        site: The site's folder; a site that never served has nothing to remove.
        user: The id.

    Returns:
        Whether there was any row.

    Raises:
        StoreFailed: If a part was not done; then do it again.
    """
    path = file_of(site)
    if not path.exists():
        return False
    with (
        failing(path, "rows of the user may be left: remove the user again"),
        closing(connected(path, "rw")) as db,
    ):
        held = _delete(db, user)
        db.execute("VACUUM")
        (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise StoreFailed(
            f"{path}: somebody reads it for very long, so its log could not be "
            "emptied of the user's rows: end that, then remove the user again"
        )
    return held


def _delete(db: sqlite3.Connection, user: str) -> bool:
    db.execute("BEGIN IMMEDIATE")
    counts = [
        db.execute(f"DELETE FROM {table} WHERE user = ?", (user,)).rowcount  # noqa: S608 - our own names
        for table in OF_USERS
    ]
    db.execute("COMMIT")
    return any(counts)
