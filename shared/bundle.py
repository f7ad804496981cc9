"""The app bundle that a server hands to its sites: the same source, the same bytes.

It is Flower's FAB, a zip of our Python files, the licence and ``bundle.toml``. Reading
one refuses whatever Tacit would not have built, and nothing is unpacked to disk here.
"""

import hashlib
import re
import tomllib
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from io import BytesIO
from pathlib import Path, PurePosixPath

from shared.code import PACKAGES as SITE_PACKAGES
from shared.errors import CodeRefused, ConfigError

PACKAGES = ("client", "server", "shared")
INSTALLED = Path(__file__).resolve().parents[1]
LARGEST = 10 * 2**20  # as Flower's own limit, packed and unpacked
MOST_FILES = 1000
MANIFEST = ".info/CONTENT"  # Flower's list of files and digests
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NAME = re.compile(rf"(?!.{{201}})({_PART}/)*{_PART}\.(py|toml)|LICENSE|\.info/CONTENT")
_VERSION = re.compile(r"[A-Za-z0-9.+-]{1,32}")


@dataclass(frozen=True, slots=True)
class Versions:
    """The release of Tacit, and the Flower it runs on."""

    tacit: str
    flwr: str

    def __str__(self) -> str:
        return f"tacit {self.tacit}, flwr {self.flwr}"


def source_packages(root: Path = INSTALLED) -> list[Path]:
    """Return the folders that a bundle is built of, in a checkout or as installed.

    Raises:
        ConfigError: If ``root`` is no source of Tacit.
    """
    packages = [root / name for name in PACKAGES]
    missing = [path.name for path in packages if not (path / "__init__.py").is_file()]
    if missing:
        raise ConfigError(
            f"{root} is no source of tacit: it has no package {', '.join(missing)}; "
            "give the folder of a checkout"
        )
    return packages


def source_files(packages: Sequence[Path] | None = None) -> dict[str, bytes]:
    """Return what a bundle holds, by the path inside it.

    Args:
        packages: Folders of the packages, one of them ``shared``; the installed ones
            by default.

    Raises:
        ConfigError: If a file cannot be read.
    """
    folders = source_packages() if packages is None else packages
    try:
        files = {
            f"{folder.name}/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for folder in folders
            for path in folder.rglob("*.py")
            if path.is_file() and "__pycache__" not in path.parts
        }
        shared = next(folder for folder in folders if folder.name == "shared")
        files["pyproject.toml"] = (shared / "bundle.toml").read_bytes()
        files["LICENSE"] = _licence(shared.parent)
    except OSError as error:
        raise ConfigError(
            f"{error.filename} cannot be read ({error.strerror}); give the folder of a "
            "whole checkout, or install tacit again"
        ) from None
    return files


def build_bundle(packages: Sequence[Path] | None = None) -> bytes:
    """Build the bundle.

    Guarantee: the bytes depend on paths and contents of the source alone, not on
    folder, machine, file modes, time or locale.

    Args:
        packages: As in ``source_files``.

    Raises:
        ConfigError: If the source is none that can be bundled.
    """
    from flwr.cli.build import build_fab_from_files  # noqa: PLC0415

    files = source_files(packages)
    try:
        with warnings.catch_warnings():  # flwr uses a name that pathspec 1 retires
            warnings.simplefilter("ignore", DeprecationWarning)
            content, _ = build_fab_from_files(files)
    except ValueError as error:
        raise ConfigError(f"the bundle cannot be built: {error}") from None
    dropped = sorted(files.keys() - bundle_files(content).keys())
    if dropped:  # by a pattern of Flower's, such as test_*.py
        raise ConfigError(f"Flower leaves out {', '.join(dropped)}; rename what it is")
    return content


def bundle_digest(content: bytes) -> str:
    """Return the digest that a site approves and Flower names."""
    return hashlib.sha256(content).hexdigest()


def bundle_files(content: bytes) -> dict[str, bytes]:
    """Return the files in a bundle by path, read in memory.

    Raises:
        CodeRefused: If it is too large, no zip, or holds a file that no bundle of
            ours holds: another type, a path that leads outside, a name twice.
    """
    if len(content) > LARGEST:
        raise CodeRefused(f"the bundle has {len(content)} bytes, above {LARGEST}")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            _check_listing(archive.infolist())
            return {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError) as error:
        raise CodeRefused(
            f"the bundle cannot be read as a zip ({type(error).__name__}); ask for it "
            "again"
        ) from None


def bundle_versions(content: bytes) -> Versions:
    """Return the versions that a bundle was made for.

    Raises:
        CodeRefused: If it does not say so, or as ``bundle_files``.
    """
    return _versions(bundle_files(content).get("pyproject.toml", b""))


def installed_versions() -> Versions:
    """Return the versions that run here."""
    ours = (INSTALLED / "shared" / "bundle.toml").read_bytes()
    return Versions(_versions(ours).tacit, version("flwr"))


def bundle_code(content: bytes) -> str:
    """Return the digest that ``shared.code.code_digest`` gives where the bundle runs.

    Raises:
        CodeRefused: As ``bundle_files``.
    """
    return _code_digest(bundle_files(content))


def _code_digest(files: Mapping[str, bytes]) -> str:
    total = hashlib.sha256()
    for package in SITE_PACKAGES:
        inside = (n for n in files if n.startswith(f"{package}/") and n.endswith(".py"))
        for name in sorted(inside, key=lambda name: PurePosixPath(name).parts):
            total.update(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return total.hexdigest()


def _check_listing(entries: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse a zip by what it says of itself, before any of it is read."""
    names = [entry.filename for entry in entries]
    size = sum(entry.file_size for entry in entries)
    faults = [f"{name!r} is no file of ours" for name in names if not _fits(name)]
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        faults.append("it is compressed, which Flower's own are not")
    if len({name.casefold() for name in names}) < len(names):
        faults.append("a name is there twice")
    if len(names) > MOST_FILES:
        faults.append(f"{len(names)} files are above {MOST_FILES}")
    if size > LARGEST:
        faults.append(f"{size} bytes unpacked are above {LARGEST}")
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CodeRefused(f"the bundle is refused: {'; '.join(faults[:5])}{more}")


def _fits(name: str) -> bool:
    """Return whether a bundle of ours could hold a file of that name."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def _versions(pyproject: bytes) -> Versions:
    try:
        table = tomllib.loads(pyproject.decode())
        said = (
            table["project"]["version"],
            table["tool"]["flwr"]["app"]["flwr-version-target"],
        )
    except (ValueError, LookupError, TypeError):
        said = ("", "")
    if not all(isinstance(word, str) and _VERSION.fullmatch(word) for word in said):
        raise CodeRefused("the bundle does not say its versions of tacit and flwr")
    return Versions(*said)


def _licence(root: Path) -> bytes:
    """Return the licence: beside the packages of a checkout, else as installed."""
    if (root / "pyproject.toml").is_file():
        return (root / "LICENSE").read_bytes()
    try:
        text = distribution("tacit").read_text("licenses/LICENSE")
    except PackageNotFoundError:
        text = None
    if text is None:
        raise ConfigError(
            f"the licence is neither beside {root} nor installed: install tacit again"
        )
    return text.encode()
