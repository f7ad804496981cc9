"""When a site's node last heard of its server, and whether it works for it just now."""

import time
from contextlib import suppress
from pathlib import Path

FILE = Path("node", "contact")
SILENCE_S = 60.0  # a node asks every three seconds while it waits
WAITING, AT_WORK = "waiting", "at work"


def heard(folder: Path, *, at_work: bool) -> None:
    """Note that the server has answered; at work, a node asks no more for a while."""
    with suppress(OSError):  # a full disk must not end the node
        (folder / FILE).parent.mkdir(mode=0o700, exist_ok=True)
        (folder / FILE).write_text(AT_WORK if at_work else WAITING, "utf-8")


def in_contact(folder: Path, since: float) -> bool:
    """Return whether the server has answered since then, and not long ago.

    Args:
        folder: The site's.
        since: When the node was started, in epoch seconds.
    """
    path = folder / FILE
    try:
        at, said = path.stat().st_mtime, path.read_text("utf-8")
    except OSError:
        return False
    return at >= since and (said == AT_WORK or time.time() - at < SILENCE_S)
