"""Which code runs: a digest over the source that has to do with privacy at a site."""

import hashlib
from functools import lru_cache
from pathlib import Path

PACKAGES = ("client", "shared")  # all that a site runs


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return the SHA-256 over paths and contents of the packages' Python files.

    A site's policy may name it (``code``) and every charge records it; a checkout of
    the same release gives the same digest on every machine.
    """
    root, total = Path(__file__).resolve().parents[1], hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{name} {content}\n".encode())
    return total.hexdigest()
