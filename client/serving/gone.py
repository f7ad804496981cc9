"""Whom a site has forgotten, asked at every request: read anew whenever it changed."""

from pathlib import Path

from client.forgotten import KEY, LIST, Forgotten, forgotten_at

_Stamp = tuple[int, int, int] | None


class Gone:
    """The site's list as it stands on the disk; ``user in gone`` asks for one id.

    Guarantee: a user whom any process has put on the list is found from then on.
    """

    def __init__(self, site: Path) -> None:
        """Read the list of the site in a folder.

        Raises:
            ConfigError: If nobody knows who was forgotten; so does asking later.
        """
        self._site = site
        self._held = self._read()

    def now(self) -> Forgotten:
        """Return the list as it is at this moment."""
        if self._held[0] != self._stamps():
            self._held = self._read()
        return self._held[1]

    def __contains__(self, user: str) -> bool:
        known = self.now()
        return bool(known.hashes) and user in known

    def _read(self) -> tuple[tuple[_Stamp, ...], Forgotten]:
        before = self._stamps()  # a change while it is read is seen next time
        return before, forgotten_at(self._site)

    def _stamps(self) -> tuple[_Stamp, ...]:
        return tuple(_stamp(self._site / name) for name in (LIST, KEY))


def _stamp(path: Path) -> _Stamp:
    """Return what changes whenever a file is replaced, or None without one."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
