"""A release: one version of the adapter, with a manifest that its operator signed.

What is not whole, not signed by the operator that a reader knows, or holds a file or a
tensor that the manifest does not name, is no release.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.adapter import check, digest
from shared.config import key_of, read
from shared.errors import ConfigError, ModelError
from shared.popularity import shared_part
from shared.protocol import Adapter, AdapterSpec, Array, is_safe
from shared.signing import is_signed, public_key, sign

SCHEMA = 3
MANIFEST = "manifest.json"
WEIGHTS = "adapter_model.safetensors"
RULE_STATE = "rule_state.safetensors"  # the server's own memory: it never travels
FIELDS = {  # every field of a manifest, with its type
    **dict.fromkeys(("schema", "round"), int),
    **dict.fromkeys(("time", "run", "base", "adapter", "parent", "plan", "rule"), str),
    **dict.fromkeys(("rule_state", "key", "digest", "signature"), str),
    **dict.fromkeys(("spec", "shapes", "sites", "privacy"), dict),
    **dict.fromkeys(("libraries", "files"), dict),
}
_ODD = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Release:
    """A version whose manifest its operator signed.

    Attributes:
        folder: Where it lies.
        manifest: What was signed; every field of ``FIELDS``.
        spec: Which adapter it holds.
    """

    folder: Path
    manifest: Mapping[str, Any]
    spec: AdapterSpec

    @property
    def name(self) -> str:
        """The run and the round, such as ``spring/3``."""
        return f"{self.manifest['run']}/{self.manifest['round']}"

    @property
    def digest(self) -> str:
        """The SHA-256 that the operator signed."""
        return str(self.manifest["digest"])

    def files(self) -> dict[str, bytes]:
        """Return what travels: the manifest and every file that it names."""
        names = [MANIFEST, *sorted(self.manifest["files"])]
        return {name: (self.folder / name).read_bytes() for name in names}


def verify_release(folder: Path, operator: str) -> Release:
    """Return the release in ``folder`` after checking everything in it.

    Guarantee: every byte but that of the server's own memory, which may be absent, is
    under the operator's signature; the adapter's tensors are those of the manifest,
    float32 and finite.

    Args:
        folder: A PEFT folder with a manifest.
        operator: Public key of the operator, 64 hexadecimal digits.

    Raises:
        ModelError: If anything differs, is missing, is unknown, or does not fit.
    """
    release = read_release(folder, operator)
    found = file_digests(folder)
    found.setdefault(RULE_STATE, release.manifest["rule_state"])
    try:
        require_files(found, release.manifest)
        _require_tensors(folder / WEIGHTS, release.manifest)
    except ModelError as error:
        raise ModelError(f"release {folder} is damaged: {error}") from None
    return release


def read_release(folder: Path, operator: str) -> Release:
    """Return the release in ``folder`` after checking its manifest, not its files.

    Raises:
        ModelError: If the manifest cannot be read or is not signed by the operator.
    """
    try:
        manifest = read_manifest(folder)
        spec = read_spec(manifest)
    except ModelError as error:
        raise ModelError(f"release {folder} is damaged: {error}") from None
    key = manifest["key"]
    if key != operator:
        by = f"by the key {key[:16]}..." if key else "by nobody"
        raise ModelError(
            f"release {folder} is signed {by}, not by the operator's {operator[:16]}..."
        )
    if not is_signed(operator, _statement(manifest["digest"]), manifest["signature"]):
        raise ModelError(f"release {folder} has a signature that is not its operator's")
    return Release(folder, manifest, spec)


def seal_manifest(
    said: Mapping[str, Any], key: Ed25519PrivateKey | None
) -> dict[str, Any]:
    """Return a manifest with its digest and, given a key, its signature."""
    whole = {**said, "key": public_key(key) if key else ""}
    made = manifest_digest(whole)
    signature = sign(key, _statement(made)) if key else ""
    return {**whole, "digest": made, "signature": signature}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest in ``folder`` if it is whole and says what it always said.

    Raises:
        ModelError: If it is missing, of another schema, malformed or was changed.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        schema = manifest["schema"]
        kinds = {name: type(value) for name, value in manifest.items()}
    except (OSError, *_ODD) as error:
        raise ModelError(
            f"{MANIFEST} cannot be read ({type(error).__name__})"
        ) from None
    if schema != SCHEMA:
        raise ModelError(
            f"{MANIFEST} has schema {schema!r}, and this Tacit reads {SCHEMA}"
        )
    named = kinds == FIELDS and is_safe(manifest["run"]) and manifest["round"] >= 1
    if not named or manifest_digest(manifest) != manifest["digest"]:
        raise ModelError(f"{MANIFEST} was changed")
    return dict(manifest)


def read_spec(manifest: Mapping[str, Any]) -> AdapterSpec:
    """Return the spec that a manifest names.

    Raises:
        ModelError: If it is none, or of another encoder than the manifest's.
    """
    try:
        flat = {key_of(name): value for name, value in manifest["spec"].items()}
        spec = read(AdapterSpec, flat, "spec")
    except ConfigError as error:
        raise ModelError(f"{MANIFEST}: {error}") from None
    if spec.base != manifest["base"]:
        raise ModelError(f"{MANIFEST} names two encoders")
    return spec


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that a manifest says but digest and signature."""
    said = {k: v for k, v in manifest.items() if k not in {"digest", "signature"}}
    line = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(line.encode()).hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file but the manifest, by its path in the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def require_files(found: Mapping[str, str], manifest: Mapping[str, Any]) -> None:
    """Return if the files found are exactly those of the manifest.

    Raises:
        ModelError: Naming each that is changed, missing or unknown.
    """
    named = {**manifest["files"], RULE_STATE: manifest["rule_state"]}
    odd = sorted(
        name
        for name in named.keys() | found.keys()
        if named.get(name) != found.get(name)
    )
    if odd:
        raise ModelError(f"{', '.join(odd)} changed")


def trained(tensors: Adapter) -> dict[str, Array]:
    """Return what is exchanged: only B, as A is frozen (FFA-LoRA), and popularity."""
    of_encoder = {name: array for name, array in tensors.items() if ".lora_B." in name}
    return {**of_encoder, **shared_part(tensors)}


def _require_tensors(path: Path, manifest: Mapping[str, Any]) -> None:
    """Return if the trained tensors are the manifest's, and the others sound."""
    try:
        tensors: dict[str, Array] = safetensors.numpy.load_file(path)
        shapes = {n: tuple(shape) for n, shape in manifest["shapes"].items()}
    except (OSError, safetensors.SafetensorError, *_ODD) as error:
        raise ModelError(f"{WEIGHTS} cannot be read ({type(error).__name__})") from None
    exchanged = trained(tensors)
    check(exchanged, shapes)
    frozen = {n: array for n, array in tensors.items() if n not in exchanged}
    check(frozen, {name: array.shape for name, array in frozen.items()})
    if digest(exchanged) != manifest["adapter"]:
        raise ModelError(f"{WEIGHTS} does not hold the adapter that was published")


def _statement(made: str) -> str:
    """Return what the signature is over; it names its own purpose."""
    return f"tacit release\n{made}"
