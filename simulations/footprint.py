"""How much memory this process takes, and what it is made of; the kernel's own figures.

It looks and keeps nothing but the most that it saw.
"""

import resource
from pathlib import Path
from threading import Event, Thread
from typing import Self

LOOK_S = 0.02  # between two looks at what the memory is made of
STATUS = Path("/proc/self/status")
KINDS = {"own": {"RssAnon"}, "mapped": {"RssFile", "RssShmem"}}
KIB = 1024


def peak_mib() -> float:
    """Return the most that was ever resident of this process's own memory.

    The kernel's ``VmHWM``, where it tells: ``ru_maxrss`` begins with what the parent
    had before this program was loaded.
    """
    return (
        _status().get("VmHWM", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / KIB
    )


def _status() -> dict[str, int]:
    """Return the kernel's figures of this process, in KiB; none where it gives none."""
    if not STATUS.exists():
        return {}
    rows = (line.split() for line in STATUS.read_text("utf-8").splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if row[-1] == "kB"}


class Watched:
    """Looks, while inside, at how much is the process's own and how much is mapped.

    Attributes:
        before: ``own`` and ``mapped``: what there was of each at the beginning, in MiB;
            nothing where the kernel does not tell.
        kinds: The most that was seen of each.
    """

    def __init__(self) -> None:
        self.before = _kinds()
        self.kinds = dict(self.before)
        self._over = Event()
        self._looking = Thread(target=self._look)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()

    def told(self) -> dict[str, float]:
        """Return what was the process's own: before, at most, and by how much more."""
        if "own" not in self.kinds:
            return {}
        before, most = self.before["own"], self.kinds["own"]
        own = {"before_mib": before, "most_mib": most, "grown_mib": most - before}
        return {name: round(mib, 1) for name, mib in own.items()}

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            for kind, seen in _kinds().items():
                self.kinds[kind] = max(seen, self.kinds[kind])


def _kinds() -> dict[str, float]:
    """Return how much of each kind there is now, in MiB."""
    told = _status()
    return {
        kind: sum(told[name] for name in names) / KIB
        for kind, names in KINDS.items()
        if names <= told.keys()
    }
