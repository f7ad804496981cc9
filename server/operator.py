"""The operator's folder: the server's settings, and where everything of it lies.

    server.toml            who we are, where we listen, how far our plans go
    operator.key           Ed25519; signs invitations and releases
    superexec.secret       between SuperLink and SuperExec
    tls/                   the authority that sites believe, the server's certificate
    nginx.conf, tacit-server.service, compose.yaml
    bundle.fab             the app bundle that sites are asked to approve
    invitations/           one join file for each site that was invited
    sites/                 public identities of the sites that are admitted
    state/                 SuperLink's database, logs, processes
    start/  runs/  releases/

It holds nothing about any user. ``server/setup.py`` makes it.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.config import key_of, read
from shared.errors import ConfigError
from shared.invitation import PlanLimits, is_address, is_host, is_ip
from shared.protocol import is_safe
from shared.signing import load_key, public_key

SETTINGS = "server.toml"
TITLE = """\
# The settings of this server. After a change of addresses, public or port:
#   tacit server renew, then stop and start.
"""
WORDS = {
    "name": "Name of the federation; it stands in certificates.",
    "addresses": "DNS names and IP addresses of this server; the first is what sites "
    "are told.",
    "public": "Where nginx listens for sites; the port is what sites are told.",
    "port": "Where SuperLink listens, on 127.0.0.1 alone.",
    "page_port": "Where the live page is served, on 127.0.0.1 alone.",
    "base": "Encoder that is trained: minilm, tiny, a folder or a hub id.",
    "max_q": "Largest chance that a user takes part in a step. Like all limits below, "
    "sites are told it.",
    "min_sigma": "Smallest noise multiplier of a training step.",
    "max_clip": "Longest gradient of one user, after clipping.",
    "max_steps": "Most steps in one round.",
    "modules": "Where adapters may sit: output, dense:K, attention:K.",
    "max_rank": "Largest LoRA rank.",
    "min_prior_sigma": "Smallest noise multiplier of the popularity release.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings(PlanLimits):
    """Who the operator is, where the server listens, and how far its plans go.

    Attributes:
        name: Name of the federation.
        addresses: DNS names and IP addresses of the server's certificate; the first one
            goes into join files.
        public: ``host:port`` where nginx listens; its port goes into join files.
        port: Port of the SuperLink, on loopback.
        page_port: Port of the live page, on loopback.
        base: Encoder: ``minilm``, ``tiny``, a folder or a hub id.
    """

    name: str = "tacit"
    addresses: tuple[str, ...]
    public: str = "0.0.0.0:9443"
    port: int = 8000
    page_port: int = 8080
    base: str = "minilm"

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        odd = [one for one in self.addresses if not is_host(one)]
        host, _, public_port = self.public.rpartition(":")
        fits = is_address(self.public) and is_ip(host.strip("[]"))
        ports = {"port": self.port, "page-port": self.page_port}
        several = [*ports.values(), int(public_port) if fits else 0]
        checks = [
            (
                is_safe(self.name),
                f"name={self.name!r} must be letters, digits, dot, dash, underscore",
            ),
            (
                bool(self.addresses) and not odd,
                f"addresses={odd} must be DNS names or IP addresses, at least one",
            ),
            (fits, f"public={self.public!r} is not like 0.0.0.0:9443"),
            *(
                (1 <= port <= 65535, f"{key}={port} is not in 1..65535")
                for key, port in ports.items()
            ),
            (
                len(set(several)) == len(several),
                "public, port and page-port must be three different ports",
            ),
            (bool(self.base), "base is empty"),
        ]
        faults = [fault for holds, fault in checks if not holds]
        return faults + PlanLimits.faults(self)

    @property
    def address(self) -> str:
        """What sites are told: the first address and the public port."""
        host = self.addresses[0]
        port = self.public.rpartition(":")[2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator's folder, an absolute path, and its settings."""

    folder: Path
    settings: ServerSettings

    @property
    def tls(self) -> Path:
        """Folder of certificates and their keys."""
        return self.folder / "tls"

    @property
    def ca(self) -> Path:
        """Certificate of the authority that sites believe."""
        return self.tls / "ca.crt"

    @property
    def key(self) -> Path:
        """The operator's Ed25519 key."""
        return self.folder / "operator.key"

    @property
    def secret(self) -> Path:
        """What SuperLink and SuperExec know each other by."""
        return self.folder / "superexec.secret"

    @property
    def proxy(self) -> Path:
        """Configuration of nginx."""
        return self.folder / "nginx.conf"

    @property
    def bundle(self) -> Path:
        """The app bundle that sites are asked to approve."""
        return self.folder / "bundle.fab"

    @property
    def sites(self) -> Path:
        """Folder of the identities of admitted sites."""
        return self.folder / "sites"

    @property
    def invitations(self) -> Path:
        """Folder of the join files."""
        return self.folder / "invitations"

    @property
    def state(self) -> Path:
        """Folder of what the running server keeps."""
        return self.folder / "state"

    @property
    def runs(self) -> Path:
        """Folder of runs: plan, versions, events."""
        return self.folder / "runs"

    @property
    def starts(self) -> Path:
        """Folder of the adapters that runs start from."""
        return self.folder / "start"

    @property
    def releases(self) -> Path:
        """Folder of the pointer to the release in force."""
        return self.folder / "releases"

    def signing_key(self) -> Ed25519PrivateKey:
        """Return the operator's key.

        Raises:
            ConfigError: If it is missing or not fit.
        """
        return load_key(self.key)

    def public_key(self) -> str:
        """Return the public half of it, 64 hexadecimal digits."""
        return public_key(self.signing_key())


def settings_text(settings: ServerSettings) -> str:
    """Return ``server.toml``: each key under a line that says what it means."""
    lines = [TITLE]
    for name, meaning in WORDS.items():
        value = getattr(settings, name)
        kept = list(value) if isinstance(value, tuple) else value
        lines.append(f"# {meaning}\n{tomli_w.dumps({key_of(name): kept})}")
    return "\n".join(lines)


def open_operator(folder: Path) -> Operator:
    """Read ``server.toml`` strictly.

    Raises:
        ConfigError: If there is none, or it holds anything unknown or out of range.
    """
    path = folder / SETTINGS
    try:
        flat = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{folder} is no operator's folder: it has no {SETTINGS}; make one with "
            "tacit server init"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    return Operator(folder.resolve(), read(ServerSettings, flat, str(path)))
