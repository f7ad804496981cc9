"""A site on disk: its settings, policy, ledger, and what it keeps between rounds.

    site.toml              where things are
    policy.toml            what the site allows; written by the site alone
    site.key               the site's Ed25519 key, made here; it never leaves
    data/                  interactions and items, see client/data.py
    ledger.sqlite          what was spent and what left
    ledger.witness         the ledger's signed end; better kept on another disk
    runs/<run>/            plan, adapter, head, prior and sealed releases of a run

Everything that decides privacy comes from here, never from the server.
"""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tomli_w
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from client.policy import SitePolicy
from client.policy_file import read_policy
from shared.config import read
from shared.durable import replace_file
from shared.errors import ConfigError, LedgerBroken
from shared.ledger import Ledger
from shared.protocol import Array, RoundPlan, is_safe
from shared.signing import load_key, make_key

LEDGER = "ledger.sqlite"
PLAN = "plan.json"  # the newest plan of a run: public; serving takes its scales from it


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """Where a site keeps what it works with.

    Attributes:
        name: The site's public name.
        data: Folder of the site's data, relative to the site's own folder.
        base: Encoder: ``minilm``, ``tiny``, a folder or a hub id.
        cache: Folder of the activations of public texts, relative to the site's folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: In which frozen products are taken in training: ``float32``,
            ``bfloat16``, or ``auto`` for the one that is quicker here.
        witness: File with the ledger's signed end, relative to the site's folder;
            better on another disk than the ledger.
    """

    name: str
    data: str = "data"
    base: str = "minilm"
    cache: str = "cache"
    device: str = "auto"
    precision: str = "auto"
    witness: str = "ledger.witness"

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = []
        if not is_safe(self.name):
            faults.append(
                f"name={self.name!r} must be letters, digits, dot, dash, underscore"
            )
        if self.device not in {"auto", "cpu", "cuda", "mps"}:
            faults.append(f"device={self.device!r} is not auto, cpu, cuda or mps")
        if self.precision not in {"auto", "float32", "bfloat16"}:
            faults.append(
                f"precision={self.precision!r} is not auto, float32 or bfloat16"
            )
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

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.folder / LEDGER

    def open_ledger(self) -> Ledger:
        """Open and verify the ledger, or create it and the key before the first round.

        Raises:
            LedgerBroken: If the ledger cannot be believed.
            ConfigError: If the key is missing where there is or was a ledger, or is not
                fit.
        """
        key, witness = self.folder / "site.key", self.folder / self.settings.witness
        fresh = not any(path.exists() for path in (key, witness, self.ledger))
        return Ledger.open(
            self.ledger,
            site=self.settings.name,
            delta=self.policy.delta,
            limits=self.policy.limits(),
            key=make_key(key) if fresh else load_key(key),
            witness_path=witness,
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
        replace_file(path, content)

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
        if not is_safe(run):
            raise ConfigError(
                f"run {run!r} must be letters, digits, dot, dash, underscore"
            )
        file = name if name == PLAN else f"{name}.safetensors"
        return self.folder / "runs" / run / file


def settings_text(settings: SiteSettings) -> str:
    """Return ``site.toml`` for these settings."""
    return tomli_w.dumps(asdict(settings))


def open_site(folder: Path) -> Site:
    """Read ``site.toml`` and ``policy.toml`` strictly.

    Raises:
        ConfigError: If a file is missing or holds anything unknown or out of range.
    """
    path = folder / "site.toml"
    try:
        flat = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no site: it has no site.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    settings = read(SiteSettings, flat, str(path))
    return Site(folder, settings, read_policy(folder / "policy.toml"))


def round_name(plan: RoundPlan, what: str) -> str:
    """Return the name under which something of a round is kept, e.g. ``head-0003``."""
    return f"{what}-{plan.number:04}"
