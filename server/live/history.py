"""The releases of all runs, for people to look at.

A manifest is believed only under the operator's signature. Files are checked of the
newest version alone; ``tacit server releases verify`` has the last word on the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ModelError
from shared.pointer import pointer_from
from shared.release import Release, read_release, verify_release


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseView:
    """One release.

    Attributes:
        name: Run and round, such as ``spring/3``.
        time: When it was published.
        adapter: Digest of its tensors.
        sites: Who contributed.
        epsilon: What it says that a site has spent on it at least; None if no figure
            holds.
        statement: The same in words.
        in_force: Whether it is the one that sites are to serve.
    """

    name: str
    time: str
    adapter: str
    sites: tuple[str, ...]
    epsilon: float | None
    statement: str
    in_force: bool


def history(folder: Path, key: str) -> tuple[tuple[ReleaseView, ...], tuple[str, ...]]:
    """Return the releases in the operator's folder, newest first, and faults.

    Args:
        folder: The operator's.
        key: The operator's public key.
    """
    found, faults = list[Release](), list[str]()
    for version in _versions(folder):
        try:
            read = read_release if found or faults else verify_release
            found.append(read(version, key))
        except ModelError as error:
            faults.append(f"{error}; restore it from a copy")
    try:
        current = _in_force(folder, key)
    except ModelError as error:
        current, faults = "", [*faults, str(error)]
    return tuple(_view(release, current) for release in found), tuple(faults)


def _versions(folder: Path) -> Iterator[Path]:
    """Yield the folder of every version, the newest run's first."""
    runs = folder.glob("runs/*/registry")
    for registry in sorted(runs, key=lambda run: run.stat().st_mtime, reverse=True):
        yield from sorted(registry.glob("round-*"), reverse=True)


def _in_force(folder: Path, key: str) -> str:
    """Return the digest of the manifest that is in force, or nothing."""
    path = folder / "releases" / "current.json"
    if not path.exists():
        return ""
    return pointer_from(path.read_text("utf-8"), key).digest


def _view(release: Release, current: str) -> ReleaseView:
    said = release.manifest
    return ReleaseView(
        name=release.name,
        time=said["time"],
        adapter=said["adapter"],
        sites=tuple(said["sites"]),
        epsilon=said["privacy"]["epsilon"],
        statement=said["privacy"]["statement"],
        in_force=release.digest == current,
    )
