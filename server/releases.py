"""The releases of an operator: every signed version of every run, and the one in force.

    runs/<run>/registry/round-0003/   the release <run>/3
    releases/pointer-000007.json      what was put in force as the seventh
    releases/current.json             the newest of them

A version that the operator's own key did not sign is none.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from server.operator import Operator, open_operator
from server.registry import Registry
from shared.durable import replace_file
from shared.errors import ConfigError, ModelError
from shared.pointer import Pointer, parts, point, pointer_from
from shared.release import Release, read_release, verify_release

CURRENT = "current.json"
WAIT_S = 10.0  # for another process that signs a pointer


@dataclass(frozen=True, slots=True)
class InForce:
    """The release that sites are told to use, and the pointer that says so."""

    release: Release
    pointer: Pointer


def releases(folder: Path) -> list[Release]:
    """Return the releases in the operator's folder, oldest first.

    Their manifests are verified, their files are not; ``find`` verifies all of one.
    """
    operator = open_operator(folder)
    key, found = operator.public_key(), list[Release]()
    for _, version in _versions(operator):
        with suppress(ModelError):
            found.append(read_release(version, key))
    return sorted(found, key=lambda release: str(release.manifest["time"]))


def unreadable(folder: Path) -> dict[str, str]:
    """Return the versions that are no releases: name -> what is wrong."""
    operator = open_operator(folder)
    key, faults = operator.public_key(), dict[str, str]()
    for name, version in _versions(operator):
        try:
            read_release(version, key)
        except ModelError as error:
            faults[name] = str(error)
    return faults


def find(folder: Path, name: str) -> Release:
    """Return a release by its name, such as ``spring/3``, wholly verified.

    Raises:
        ConfigError: If there is none of this name.
        ModelError: If it is damaged or not signed by the operator.
    """
    operator = open_operator(folder)
    run, number = parts(name)
    version = _registry(operator, run).folder(number)
    if not version.is_dir():
        raise ConfigError(
            f"no release is called {name}: {version} is not there; tacit server "
            "releases list names them"
        )
    return verify_release(version, operator.public_key())


def in_force(folder: Path) -> InForce | None:
    """Return the release in force, wholly verified, or None before there is one.

    Raises:
        ModelError: If it or its pointer is damaged or not signed by the operator.
    """
    operator = open_operator(folder)
    path = operator.releases / CURRENT
    if not path.exists():
        return None
    pointer = pointer_from(path.read_text("utf-8"), operator.public_key())
    release = find(folder, pointer.release)
    if release.digest != pointer.digest:
        raise ModelError(
            f"release {pointer.release} is not the one that was put in force; tacit "
            f"server releases rollback {pointer.release} does so again"
        )
    return InForce(release, pointer)


def set_current(folder: Path, run: str) -> InForce | None:
    """Put the newest release of a finished run in force, unless it ever was.

    Nothing is undone by asking again: neither a rollback nor a later run's release.

    Returns:
        What is in force now, or None if there was nothing to do.
    """
    operator = open_operator(folder)
    newest = _registry(operator, run).newest()
    if newest == 0:
        return None
    release = find(folder, f"{run}/{newest}")
    with _signing_alone(operator):
        if release.digest in {one.digest for one in pointers(operator)}:
            return None
        return InForce(release, _put_in_force(operator, release))


def rollback(folder: Path, name: str) -> InForce:
    """Put a release in force, an older one too, by a pointer newer than all before.

    Raises:
        ConfigError: If there is none of this name.
        ModelError: If it is damaged or not signed by the operator.
    """
    operator, release = open_operator(folder), find(folder, name)
    with _signing_alone(operator):
        return InForce(release, _put_in_force(operator, release))


def pointers(operator: Operator) -> list[Pointer]:
    """Return every pointer that was ever signed, oldest first.

    Raises:
        ModelError: If one of them is damaged.
    """
    return [
        pointer_from(path.read_text("utf-8"))
        for path in sorted(operator.releases.glob("pointer-*.json"))
    ]


def _put_in_force(operator: Operator, release: Release) -> Pointer:
    """Sign the next pointer; it is kept for ever, and then made the current one."""
    number = 1 + max((one.number for one in pointers(operator)), default=0)
    time = datetime.now(UTC).isoformat(timespec="seconds")
    pointer = point(release, number, time, operator.signing_key())
    line = f"{pointer.to_json()}\n".encode()
    replace_file(operator.releases / f"pointer-{number:06}.json", line)
    replace_file(operator.releases / CURRENT, line)
    return pointer


def _signing_alone(operator: Operator) -> FileLock:
    """Return what keeps two processes from signing one number."""
    operator.releases.mkdir(exist_ok=True)
    return FileLock(operator.releases / ".lock", timeout=WAIT_S)


def _versions(operator: Operator) -> Iterator[tuple[str, Path]]:
    """Yield name and folder of each version of each run."""
    for root in sorted(operator.runs.glob("*/registry")):
        for version in sorted(root.glob("round-*")):
            number = version.name.removeprefix("round-")
            if number.isdigit():
                yield f"{root.parent.name}/{int(number)}", version


def _registry(operator: Operator, run: str) -> Registry:
    return Registry(operator.runs / run / "registry", operator.folder)
