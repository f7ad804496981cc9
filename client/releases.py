"""Releases at a site: what the server sent, kept only if the site itself believes it.

    releases/<run>-<round>/    a release as it came, whole
    releases/current.json      the one in force here, and the newest pointer received

Whatever is wrong with what comes, the release that was in force stays so.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.numpy

from client.site import Site
from shared.adapter import digest
from shared.durable import replace_file, sync_folder
from shared.encoder import TextEncoder, load_base
from shared.errors import ConfigError, ModelError
from shared.invitation import invitation_from
from shared.pointer import Pointer, parts, pointer_from
from shared.popularity import encoder_part, shared_part
from shared.protocol import Adapter, AdapterSpec
from shared.release import WEIGHTS, Release, trained, verify_release

FOLDER = "releases"
CURRENT = "current.json"
CONFIG = "adapter_config.json"
LOCAL = {"base_model_name_or_path", "peft_version", "inference_mode"}  # may differ


@dataclass(frozen=True, slots=True)
class Kept:
    """What ``current.json`` says: the release in force, and the newest pointer."""

    release: str
    newest: Pointer


def receive(site: Site, line: str, files: Mapping[str, bytes]) -> Path:
    """Keep a release and put it in force, if its pointer is new; return its folder.

    Guarantee: it is kept only if the operator whose invitation the site holds signed
    both the release and a pointer to it that is not older than any before, and if it
    adapts the site's own encoder, in its very tensors. It is kept whole or not at all.

    Args:
        site: Where to.
        line: The pointer.
        files: What the release is made of, by path.

    Raises:
        ConfigError: If the site has no invitation, or its own files are damaged.
        ModelError: If the release or its pointer is not believed.
    """
    operator, kept = _operator(site), _kept(site)
    pointer = pointer_from(line, operator)
    _require_newer(pointer, kept)
    folder = site.folder / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / _folder_name(pointer.release)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as aside:
        release = _written(Path(aside) / "release", files, operator)
        if (release.name, release.digest) != (pointer.release, pointer.digest):
            raise ModelError(
                f"release {release.name} is not the one that its pointer names, "
                f"{pointer.release}"
            )
        _require_own(site, release)
        if not _is_there(target, release):
            if target.exists():
                target.rename(Path(aside) / "earlier")
            release.folder.rename(target)
    sync_folder(folder)
    again = kept is not None and kept.newest == pointer  # a rollback here outlasts it
    if not again:
        _put_in_force(site, Kept(pointer.release, pointer))
    return target


def current(site: Site) -> Path | None:
    """Return the folder of the release in force, verified, or None before there is one.

    Raises:
        ModelError: If it is damaged.
        ConfigError: If what names it cannot be read.
    """
    kept = _kept(site)
    return _verified(site, kept.release, kept).folder if kept else None


def rollback(site: Site, name: str) -> Path:
    """Put a release that came earlier in force at this site; return its folder.

    It holds until the operator signs a newer pointer.

    Raises:
        ConfigError: If the site never received it.
        ModelError: If it is damaged.
    """
    kept = _kept(site)
    if not kept or not (site.folder / FOLDER / _folder_name(name)).is_dir():
        raise ConfigError(
            f"release {name} is not at this site; it has {_names(site) or 'none'}"
        )
    release = _verified(site, name, kept)
    _put_in_force(site, Kept(name, kept.newest))
    return release.folder


def _written(folder: Path, files: Mapping[str, bytes], operator: str) -> Release:
    """Write files durably and return the release that they are."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    return verify_release(folder, operator)


def _is_there(target: Path, release: Release) -> bool:
    """Return whether the very release lies in ``target`` already, whole."""
    try:
        there = verify_release(target, release.manifest["key"])
    except ModelError:
        return False
    return there.digest == release.digest


def _require_newer(pointer: Pointer, kept: Kept | None) -> None:
    """Return if the pointer may follow the newest that was received.

    The first one of a new key, which came with a new invitation, may have any number.

    Raises:
        ModelError: If it is older, or has its number and says something else.
    """
    if kept is None or kept.newest.key != pointer.key or kept.newest == pointer:
        return
    if pointer.number <= kept.newest.number:
        raise ModelError(
            f"pointer {pointer.number} to {pointer.release} is not newer than "
            f"{kept.newest.number} to {kept.newest.release}, which this site has"
        )


def _require_own(site: Site, release: Release) -> None:
    """Return if the release adapts the site's own encoder, in its very tensors.

    Beside them there may be one popularity, of a run whose sites shared theirs.

    Raises:
        ModelError: If encoder, tensors, frozen values or configuration are others.
    """
    ours, said = _start(site.settings.base, release.spec)
    theirs = _tensors(release.folder)
    shapes = {name: array.shape for name, array in ours.items()}
    adapted = {name: array.shape for name, array in encoder_part(theirs).items()}
    shared = [array.ndim for array in shared_part(theirs).values()]
    fits = adapted == shapes and shared in ([], [1])
    if not fits or digest(_frozen(ours)) != digest(_frozen(theirs)):
        raise ModelError(
            f"release {release.name} does not hold the tensors that "
            f"{release.spec.modules} of rank {release.spec.rank} has here"
        )
    told = _config(release.folder)
    odd = sorted(
        key for key in (said.keys() & told.keys()) - LOCAL if said[key] != told[key]
    )
    if odd:
        raise ModelError(f"release {release.name}: {', '.join(odd)} in {CONFIG} differ")


@lru_cache(maxsize=2)
def _start(base: str, spec: AdapterSpec) -> tuple[Adapter, dict[str, Any]]:
    """Return tensors and configuration that the site itself makes for a spec."""
    with tempfile.TemporaryDirectory() as folder:
        TextEncoder(load_base(base), spec).save(Path(folder))
        return _tensors(Path(folder)), _config(Path(folder))


def _tensors(folder: Path) -> Adapter:
    tensors: Adapter = safetensors.numpy.load_file(folder / WEIGHTS)
    return tensors


def _frozen(tensors: Adapter) -> Adapter:
    exchanged = trained(tensors)
    return {name: array for name, array in tensors.items() if name not in exchanged}


def _config(folder: Path) -> dict[str, Any]:
    """Return PEFT's configuration; the order of a set that it wrote means nothing."""
    try:
        said = json.loads((folder / CONFIG).read_text("utf-8"))
        return {
            key: sorted(map(str, value)) if isinstance(value, list) else value
            for key, value in said.items()
        }
    except (OSError, ValueError, AttributeError, RecursionError):
        raise ModelError(f"a release without a readable {CONFIG}") from None


def _operator(site: Site) -> str:
    """Return the public key of the operator who invited this site."""
    path = site.folder / "join.toml"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: this site knows no operator whose releases to "
            "believe; tacit site init --join FILE"
        ) from None
    return str(invitation_from(text).operator)


def _kept(site: Site) -> Kept | None:
    """Return what is in force, or None at first.

    Raises:
        ConfigError: If the file is damaged.
    """
    path = site.folder / FOLDER / CURRENT
    try:
        said = json.loads(path.read_text("utf-8"))
        parts(said["release"])
        return Kept(said["release"], pointer_from(said["newest"]))
    except FileNotFoundError:
        return None
    except (ModelError, ValueError, LookupError, TypeError, RecursionError):
        raise ConfigError(f"{path} cannot be read; restore it from a backup") from None


def _put_in_force(site: Site, kept: Kept) -> None:
    """Write the release in force and the newest pointer, both or neither."""
    said = {"release": kept.release, "newest": kept.newest.to_json()}
    text = json.dumps(said, indent=2, sort_keys=True)
    replace_file(site.folder / FOLDER / CURRENT, f"{text}\n".encode())


def _verified(site: Site, name: str, kept: Kept) -> Release:
    folder = site.folder / FOLDER / _folder_name(name)
    return verify_release(folder, kept.newest.key)


def _folder_name(name: str) -> str:
    """Return the folder of a release: ``spring/3`` lies in ``spring-3``."""
    run, number = parts(name)
    return f"{run}-{number}"


def _names(site: Site) -> str:
    """Return the releases that the site has, for a person."""
    folders = sorted((site.folder / FOLDER).glob("[!.]*-*"))
    return ", ".join("/".join(path.name.rsplit("-", 1)) for path in folders)
