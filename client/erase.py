"""Erasing what a site that has left no longer needs; never what an auditor may ask for.

Ledger, witness, key, policy and settings stay, and so does the list of who was
forgotten: a site that comes back without them would forget what it spent, or whom.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from client import forgotten
from client.site import Site
from client.sources import snapshot
from shared.errors import ConfigError

FOLDERS = ("runs", "approved", "node", "releases", "serving")


def erasable(site: Site) -> list[Path]:
    """Return the folders that are there and may go.

    Raises:
        ConfigError: If one of them holds something that must stay.
    """
    named = [site.folder / name for name in FOLDERS]
    if site.cache.resolve().is_relative_to(site.folder.resolve()):
        named.append(site.cache)  # one that lies elsewhere may serve others too
    there = [path for path in (*named, site.data / snapshot.FOLDER) if path.is_dir()]
    faults = [
        f"{folder} holds {path.name}, which must stay: move it and say so in site.toml"
        for folder in there
        for path in _lasting(site)
        if path.resolve().is_relative_to(folder.resolve())
    ]
    if faults:
        raise ConfigError("\n  ".join(["nothing was erased:", *faults]))
    return there


def erase(site: Site) -> list[Path]:
    """Delete what ``erasable`` returns, and return it.

    Guarantee: whatever the settings say, ledger, witness, key, policy, settings,
    ``data.toml`` and the list of who was forgotten stay as they were.

    Raises:
        ConfigError: If one of the folders holds something that must stay; then nothing
            is deleted.
    """
    gone = erasable(site)
    for folder in gone:
        shutil.rmtree(folder.resolve())
        if folder.is_symlink():
            folder.unlink()
    return gone


def _lasting(site: Site) -> Iterator[Path]:
    """Yield what must outlast the site's leaving."""
    names = ("site.toml", "policy.toml", "site.key", forgotten.LIST, forgotten.KEY)
    yield from (site.folder / name for name in names)
    yield from (site.ledger, site.folder / site.settings.witness)
    yield site.data / "data.toml"
