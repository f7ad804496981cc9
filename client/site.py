"""A site on disk: its settings, policy, ledger, and what it keeps between rounds.

    site.toml              settings and policy, written by the site, read by nobody else
    data/                  interactions and items, see client/data.py
    ledger.sqlite          what was spent and what left
    runs/<run>/            head, prior and sealed updates of a run

Everything that decides privacy comes from here, never from the server.
"""

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from client.policy import SitePolicy
from shared.config import read
from shared.errors import ConfigError, LedgerBroken
from shared.ledger import Ledger
from shared.protocol import Array, RoundPlan

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """Where a site keeps what it works with.

    Attributes:
        name: The site's public name.
        data: Folder of the site's data, relative to the site's own folder.
        base: Encoder: ``minilm``, ``tiny``, a folder or a hub id.
        cache: Folder of the activations of public texts, relative to the site's folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    name: str
    data: str = "data"
    base: str = "minilm"
    cache: str = "cache"
    device: str = "auto"

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = []
        if not SAFE_NAME.fullmatch(self.name):
            faults.append(
                f"name={self.name!r} must be letters, digits, dot, dash, underscore"
            )
        if self.device not in {"auto", "cpu", "cuda", "mps"}:
            faults.append(f"device={self.device!r} is not auto, cpu, cuda or mps")
        return faults


@dataclass(frozen=True, slots=True)
class Site:
    """A site's folder, settings and policy."""

    folder: Path
    settings: SiteSettings
    policy: SitePolicy

    @property
    def data(self) -> Path:
        """Folder of interactions and items."""
        return self.folder / self.settings.data

    @property
    def cache(self) -> Path:
        """Folder of the activations of public texts."""
        return self.folder / self.settings.cache

    def open_ledger(self) -> Ledger:
        """Open and verify the ledger, or create it before the first round."""
        return Ledger.open(
            self.folder / "ledger.sqlite",
            site=self.settings.name,
            epsilon=self.policy.epsilon,
            delta=self.policy.delta,
        )

    def keep(self, run: str, name: str, tensors: dict[str, Array]) -> None:
        """Store tensors of a run durably, all or nothing."""
        self.keep_bytes(
            run, name, save({k: np.asarray(v, order="C") for k, v in tensors.items()})
        )

    def keep_bytes(self, run: str, name: str, content: bytes) -> None:
        """Store bytes of a run durably, all or nothing."""
        path = self._path(run, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    def kept(self, run: str, name: str) -> dict[str, Array] | None:
        """Return tensors stored earlier, or None.

        Raises:
            LedgerBroken: If the file is there but cannot be read.
        """
        path = self._path(run, name)
        try:
            return load_file(path) if path.exists() else None
        except SafetensorError:
            raise LedgerBroken(
                f"{path} cannot be read; restore it or start a new run"
            ) from None

    def newest_head(self, run: str, before: int) -> dict[str, Array] | None:
        """Return the head after the newest round up to ``before``, or None."""
        for number in range(before, 0, -1):
            head = self.kept(run, f"head-{number:04}")
            if head is not None:
                return head
        return None

    def kept_bytes(self, run: str, name: str) -> bytes | None:
        """Return bytes stored earlier, or None."""
        path = self._path(run, name)
        return path.read_bytes() if path.exists() else None

    def _path(self, run: str, name: str) -> Path:
        if not SAFE_NAME.fullmatch(run):
            raise ConfigError(
                f"run {run!r} must be letters, digits, dot, dash, underscore"
            )
        return self.folder / "runs" / run / f"{name}.safetensors"


def open_site(folder: Path) -> Site:
    """Read ``site.toml`` strictly.

    Raises:
        ConfigError: If the file is missing or holds anything unknown or out of range.
    """
    path = folder / "site.toml"
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no site: it has no site.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    unknown = tables.keys() - {"site", "policy"}
    if unknown:
        raise ConfigError(
            f"{path}: unknown tables {sorted(unknown)}; known: site, policy"
        )
    settings = read(SiteSettings, tables.get("site", {}), f"{path} [site]")
    return Site(
        folder, settings, read(SitePolicy, tables.get("policy", {}), f"{path} [policy]")
    )


def round_name(plan: RoundPlan, what: str) -> str:
    """Return the name under which something of a round is kept, e.g. ``head-0003``."""
    return f"{what}-{plan.number:04}"
