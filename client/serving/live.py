"""What a process serves at this moment, renewed aside and changed over in one step.

What cannot be verified or read is told as a fault, and the last good state serves on.
"""

import gc
import logging
import threading
import time
from pathlib import Path

from client.forgotten import KEY, LIST
from client.serving.added_items import NewItem
from client.serving.feedback.tallies import FILE as TALLIES
from client.serving.loaded import Loaded, load
from client.serving.settings import FILE as SETTINGS
from client.serving.store import Store
from client.site import open_site
from client.sources import snapshot
from shared.logs import told

LOOK_S = 1.0  # between two looks at what the site's files say
AGAIN_S = 15.0  # before a failed renewal is tried once more with the same files
RESTS = 3.0  # times as long as it lasted, after one that did not fail

log = logging.getLogger("tacit.site")
Stamp = tuple[tuple[str, int, int], ...]


class Live:
    """The state that requests are answered with; ``now`` is replaced, never changed.

    Attributes:
        now: To be read once by each request.
        fault: Class of the error for which the newest state could not be taken up; the
            log says more. Empty if it was.
    """

    def __init__(self, folder: Path, release: Path | None, store: Store) -> None:
        """Load the first state.

        Raises:
            TacitError: If there is nothing that could be served.
        """
        self._folder, self._release, self._store = folder, release, store
        self._stamp = _stamp_of(folder)
        self._rest_until = self._again_from = 0.0
        self._changing = threading.Lock()
        self._items: dict[str, NewItem] = {}
        self._cursor, self.fault = 0, ""
        self.now: Loaded = load(folder, release, store)
        self.add_items()
        _settle()

    def add_items(self) -> None:
        """Take up the items that were put since; short, so that they count at once."""
        with self._changing:
            items, self._cursor = self._store.items_since(self._cursor)
            if items:
                self._items |= {item.id: item for item in items}
                self.now = self.now.with_items([*self._items.values()])

    def renew(self) -> bool:
        """Load anew if anything that is served has changed; return whether it was.

        Between two renewals it rests some while, so that requests come first. What
        could not be taken up is tried again later, or as soon as anything changes.
        """
        self.add_items()
        begun = time.monotonic()
        if begun < self._rest_until:
            return False
        try:
            stamp = _stamp_of(self._folder)
            waits = not self.fault or begun < self._again_from
            if stamp == self._stamp and waits:
                return False
            self._stamp = stamp
            fresh = load(self._folder, self._release, self._store)
            fresh.with_items([*self._items.values()])  # what is encoded now stays so
            with self._changing:
                self.now = fresh.with_items([*self._items.values()])
        except Exception as error:  # noqa: BLE001  # serving goes on, whatever came
            self._again_from = time.monotonic() + AGAIN_S
            if self.fault != type(error).__name__:
                log.warning("the last good state serves on: %s", told(error))
            self.fault = type(error).__name__
            return False
        self._rest_until = time.monotonic() + RESTS * (time.monotonic() - begun)
        self.fault = ""
        _settle()
        log.info("serves %s", fresh.served.release)
        return True

    def watch(self, stop: threading.Event) -> None:
        """Renew whenever there is reason to, until ``stop``; in a thread of its own."""
        while not stop.wait(LOOK_S):
            self.renew()


def _settle() -> None:
    """Keep what was loaded out of garbage collection, which would stall requests."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _stamp_of(folder: Path) -> Stamp:
    """Return what changes whenever the files that a site serves from do."""
    data = open_site(folder).data
    names = ("site.toml", "policy.toml", SETTINGS, TALLIES, LIST, KEY)
    files = [folder / name for name in (*names, "releases/current.json")]
    files += sorted(path for path in data.iterdir() if path.is_file())
    state = snapshot.current(data)
    stamps = [_stat(path) for path in files if path.exists()]
    return (*stamps, ("snapshot", state.number if state else 0, 0))


def _stat(path: Path) -> tuple[str, int, int]:
    said = path.stat()
    return str(path), said.st_mtime_ns, said.st_size
