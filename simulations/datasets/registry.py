"""Public data sets by name: where they are published, and how to know they are whole.

Nothing is shipped with Tacit. A file is believed when its SHA-256 is the one recorded
here; what cannot be checked is named, not passed over.
"""

import hashlib
import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from pathlib import Path

from shared.errors import DataError

TIMEOUT_S = 60
LARGEST_BYTES = 500_000_000  # unpacked; the largest known data set has 25 MB
_GROUPLENS = "https://files.grouplens.org/datasets/movielens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One data set as its publisher packs it: a zip archive with one folder.

    Args:
        name: Also the folder inside the archive.
        url: Of the archive, at the publisher.
        summary: What is in it.
        files: What must be there: name to SHA-256, or "" where none is recorded.
        archive_sha256: Of the archive, for a release whose files have no digest.
    """

    name: str
    url: str
    summary: str
    files: Mapping[str, str] = field(default_factory=dict)
    archive_sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found in a folder, and how far it can be believed."""

    name: str
    folder: Path
    verified: tuple[str, ...]
    unverified: tuple[str, ...]


_ML_100K = {
    "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
}
_ML_LATEST_SMALL = {
    "ratings.csv": "80da8b3393dae325bbba5a31f291a6ba55d8d4f4396de3c456f2c1635b1b70e8",
    "movies.csv": "c47b783f23eb304413307e1bb05335e427737da20ec8d3c0e96335567dd5f3dc",
}
RELEASES = (
    Release(
        name="ml-100k",
        url=f"{_GROUPLENS}/ml-100k.zip",
        summary="MovieLens 100K: 100,000 ratings, 943 users, 1,682 films",
        files=_ML_100K,
    ),
    Release(
        name="ml-latest-small",
        url=f"{_GROUPLENS}/ml-latest-small.zip",
        summary="MovieLens latest-small: 100,836 ratings, 610 users, 9,742 films",
        files=_ML_LATEST_SMALL,
    ),
    # No digest of its files is known to us. That of the archive is the one that
    # TensorFlow Datasets records (url_checksums/movielens.txt).
    Release(
        name="ml-1m",
        url=f"{_GROUPLENS}/ml-1m.zip",
        summary="MovieLens 1M: 1,000,209 ratings, 6,040 users, 3,883 films",
        files={"ratings.dat": "", "movies.dat": ""},
        archive_sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    ),
)


def fetch(name: str, to: Path, *, releases: tuple[Release, ...] = RELEASES) -> Checked:
    """Download a data set into ``to/name``, which appears checked or not at all.

    Raises:
        DataError: If the name is unknown, the folder is there already, the publisher
            cannot be reached, or what it sent is not what is recorded.
    """
    release = next((known for known in releases if known.name == name), None)
    if release is None:
        names = ", ".join(known.name for known in releases)
        raise DataError(f"no data set is called {name!r}; known: {names}")
    folder = to / name
    if folder.exists():
        raise DataError(f"{folder} is there already; verify it, or move it away")
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=to) as scratch:
        archive = Path(scratch) / "archive.zip"
        _download(release, archive, folder)
        _unpack(archive, Path(scratch))
        unpacked = Path(scratch) / name
        checked = _check(release, unpacked, archived=bool(release.archive_sha256))
        unpacked.rename(folder)
    return replace(checked, folder=folder)


def verify(folder: Path, *, releases: tuple[Release, ...] = RELEASES) -> Checked:
    """Say which known data set a folder holds, and which of its files are as published.

    Raises:
        DataError: If it holds none, or a file differs from the recorded one.
    """
    for release in releases:
        if all((folder / file).is_file() for file in release.files):
            return _check(release, folder)
    known = [f"{known.name}: {', '.join(known.files)}" for known in releases]
    raise DataError(
        "\n  ".join([f"{folder} holds no known data set; each has files:", *known])
    )


def _check(release: Release, folder: Path, *, archived: bool = False) -> Checked:
    """Compare files with the record; ``archived``: as a whole they agreed."""
    absent = [file for file in release.files if not (folder / file).is_file()]
    if absent:
        raise DataError(f"{folder}: {release.name} lacks {', '.join(absent)}")
    wrong = [
        f"{file}: SHA-256 {_sha256(folder / file)}, recorded {digest}"
        for file, digest in release.files.items()
        if digest and _sha256(folder / file) != digest
    ]
    if wrong:
        raise DataError("\n  ".join([f"{folder} is not {release.name}:", *wrong]))
    known = {file for file, digest in release.files.items() if digest or archived}
    return Checked(
        name=release.name,
        folder=folder,
        verified=tuple(file for file in release.files if file in known),
        unverified=tuple(file for file in release.files if file not in known),
    )


def _download(release: Release, archive: Path, folder: Path) -> None:
    """Write the archive to a file, and check it where its digest is known."""
    try:
        with (
            urllib.request.urlopen(release.url, timeout=TIMEOUT_S) as reply,  # noqa: S310 - the URL is ours
            archive.open("wb") as file,
        ):
            shutil.copyfileobj(reply, file)
    except (OSError, HTTPException) as error:
        raise DataError(
            f"cannot fetch {release.url}: {error}\n  Without a network: bring the "
            f"archive, unpack it as {folder}, and run: tacit datasets verify {folder}"
        ) from None
    digest = _sha256(archive)
    if release.archive_sha256 and digest != release.archive_sha256:
        raise DataError(
            f"{release.url}: SHA-256 {digest}, recorded {release.archive_sha256}"
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip archive, all of it inside ``folder``, or refuse it."""
    try:
        with zipfile.ZipFile(archive) as packed:
            inside = folder.resolve()
            for entry in packed.infolist():
                if not (inside / entry.filename).resolve().is_relative_to(inside):
                    raise DataError(
                        f"the archive would write outside: {entry.filename!r}"
                    )
            size = sum(entry.file_size for entry in packed.infolist())
            if size > LARGEST_BYTES:
                raise DataError(
                    f"the archive unpacks to {size} bytes, over {LARGEST_BYTES}"
                )
            packed.extractall(folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"what was sent is not a zip archive: {error}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
