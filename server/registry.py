"""Versions of the global adapter on disk: one PEFT folder and manifest per round.

A version is written whole or not at all, and is believed only while every digest in its
manifest still holds. With the operator's key, each version is signed: a release.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.numpy
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.statement import privacy_after
from shared.adapter import check, digest
from shared.errors import ModelError, RoundError
from shared.protocol import Adapter, Array, RoundPlan
from shared.release import (
    MANIFEST,
    RULE_STATE,
    SCHEMA,
    WEIGHTS,
    file_digests,
    read_manifest,
    require_files,
    seal_manifest,
    trained,
)
from shared.signing import load_key
from shared.witness import Witness, keep_witness, kept_witness

WITNESSES = "witnesses"
RESIDUAL = "residual/"  # before a tensor's name, in the memory of the rule
LIBRARIES = ("flwr", "numpy", "safetensors")


@dataclass(frozen=True, slots=True)
class Registry:
    """The versions under ``root``, grown from the adapter in the folder ``start``.

    Versions are signed with ``key``, where there is one.
    """

    root: Path
    start: Path
    key: Ed25519PrivateKey | None = field(default=None, repr=False)

    @classmethod
    def open(cls, root: Path, start: Path, key_path: str = "") -> "Registry":
        """Open or create the registry.

        Args:
            root: Folder of the versions.
            start: PEFT folder that round 1 starts from.
            key_path: File of the operator's key; empty to sign nothing.

        Raises:
            ModelError: If ``start`` is not a PEFT folder with tensors to train.
            ConfigError: If the key cannot be read or is not the owner's alone.
        """
        key = load_key(Path(key_path)) if key_path else None
        root.mkdir(parents=True, exist_ok=True)
        registry = cls(root, start, key)
        if not trained(registry.start_tensors()):
            raise ModelError(f"{start / WEIGHTS} holds no lora_B tensor to train")
        return registry

    def start_tensors(self) -> dict[str, Array]:
        """Return all tensors of the start adapter, the frozen ones too."""
        try:
            return _load(self.start / WEIGHTS)
        except (OSError, safetensors.SafetensorError) as error:
            raise ModelError(f"{self.start} is not a PEFT folder: {error}") from None

    def folder(self, number: int) -> Path:
        """Return where the version of round ``number`` lies."""
        return self.root / f"round-{number:04}"

    def newest(self) -> int:
        """Return the newest round with a version, or 0."""
        found = (path.name.removeprefix("round-") for path in self.root.glob("round-*"))
        return max((int(number) for number in found if number.isdigit()), default=0)

    def current(self) -> tuple[int, dict[str, Array]]:
        """Return the newest round and the exchanged tensors after it.

        Raises:
            RoundError: If the newest version is damaged.
        """
        number = self.newest()
        if number == 0:
            return 0, trained(self.start_tensors())
        self.manifest(number)
        return number, trained(_load(self.folder(number) / WEIGHTS))

    def rule_state(self) -> dict[str, Array]:
        """Return the memory of the aggregation rule after the newest round."""
        memory = self._memory()
        return {n: a for n, a in memory.items() if not n.startswith(RESIDUAL)}

    def residual(self) -> dict[str, Array]:
        """Return what packing left out of the newest version; empty for nothing."""
        return {
            name.removeprefix(RESIDUAL): array
            for name, array in self._memory().items()
            if name.startswith(RESIDUAL)
        }

    def _memory(self) -> dict[str, Array]:
        number = self.newest()
        return _load(self.folder(number) / RULE_STATE) if number else {}

    def manifest(self, number: int) -> dict[str, Any]:
        """Return the manifest of a version after checking every digest in it.

        Raises:
            RoundError: If anything differs from what was published.
        """
        folder = self.folder(number)
        try:
            manifest = read_manifest(folder)
            require_files(file_digests(folder), manifest)
        except (ModelError, OSError) as error:
            raise RoundError(
                f"version {folder} is damaged: {error}; restore the folder from a copy,"
                f" or move it away to go on from round {number - 1}"
            ) from None
        return manifest

    def witnesses(self, sites: Iterable[str]) -> dict[str, Witness]:
        """Return the newest end that the server has seen of each site's ledger.

        Raises:
            LedgerBroken: If a kept witness is damaged.
        """
        found = {site: kept_witness(self._witness_path(site)) for site in sites}
        return {site: seen for site, seen in found.items() if seen is not None}

    def keep_witnesses(self, witnesses: Iterable[Witness]) -> None:
        """Keep the newest end of each site's ledger, durably."""
        for witness in witnesses:
            path = self._witness_path(witness.site)
            path.parent.mkdir(exist_ok=True)
            keep_witness(path, witness)

    def _witness_path(self, site: str) -> Path:
        return self.root / WITNESSES / f"{site}.json"

    def publish(
        self,
        plan: RoundPlan,
        adapter: Adapter,
        rule: str,
        rule_state: Adapter,
        received: Mapping[str, Sequence[str]],
    ) -> Path:
        """Write the version of ``plan.number`` in one step and return its folder.

        Args:
            plan: The plan that was carried out.
            adapter: The exchanged tensors after it.
            rule: Name of the aggregation rule.
            rule_state: Its memory, ``with_residual``.
            received: Site -> SHA-256 of each sealed release that it sent.

        Raises:
            RoundError: If the round does not follow the newest one.
        """
        check(adapter, plan.shapes)
        number, before = self.current()
        if plan.number != number + 1:
            raise RoundError(f"round {plan.number} cannot follow round {number}")
        earlier = self.manifest(number)["privacy"]["training"] if number else []
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".new-") as scratch:
            folder = Path(scratch) / "version"
            self._write_folder(folder, adapter, rule_state)
            files = file_digests(folder)
            said = {
                "schema": SCHEMA,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "run": plan.run,
                "round": plan.number,
                "base": plan.spec.base,
                "spec": asdict(plan.spec),
                "shapes": {name: list(shape) for name, shape in plan.shapes.items()},
                "adapter": digest(adapter),
                "parent": digest(before),
                "plan": plan.digest(),
                "rule": rule,
                "rule_state": files.pop(RULE_STATE),
                "sites": {site: list(sent) for site, sent in received.items()},
                "privacy": privacy_after(earlier, plan.mechanism),
                "libraries": {name: version(name) for name in LIBRARIES},
                "files": files,
            }
            manifest = seal_manifest(said, self.key)
            text = json.dumps(manifest, indent=2, sort_keys=True)
            (folder / MANIFEST).write_text(text + "\n", "utf-8")
            return folder.replace(self.folder(plan.number))

    def _write_folder(
        self, folder: Path, adapter: Adapter, rule_state: Adapter
    ) -> None:
        """Write the start folder anew with ``adapter`` in place of its tensors."""
        shutil.copytree(self.start, folder, ignore=shutil.ignore_patterns(WEIGHTS))
        tensors = {**self.start_tensors(), **adapter}
        safetensors.numpy.save_file(tensors, folder / WEIGHTS, {"format": "pt"})
        safetensors.numpy.save_file(dict(rule_state), folder / RULE_STATE)


def with_residual(rule_state: Adapter, residual: Adapter) -> dict[str, Array]:
    """Return a rule's memory, and beside it what packing left out of a version."""
    left = {f"{RESIDUAL}{name}": array for name, array in residual.items()}
    return {**rule_state, **left}


def _load(path: Path) -> dict[str, Array]:
    tensors: dict[str, Array] = safetensors.numpy.load_file(path)
    return tensors
