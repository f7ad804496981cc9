"""Where a site is served: address, TLS and the release that its operator names.

It refuses to listen beyond this machine without TLS: what passes there is behaviour.
"""

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """What is served, and where.

    Attributes:
        folder: The site's.
        release: Folder of a release to serve in place of the one in force; empty: none.
        host, port: Where to listen.
        names: Under which the site is asked, beside ``host`` and this machine's own.
        cert, key: TLS certificate and private key, both or neither.
    """

    folder: str
    release: str
    host: str
    port: int
    names: tuple[str, ...]
    cert: str
    key: str

    def check(self) -> None:
        """Raise if these premises cannot be used.

        Raises:
            ConfigError: Naming every fault at once.
        """
        files = {"--cert": self.cert, "--key": self.key}
        faults = [
            f"{name} {path} is no file"
            for name, path in files.items()
            if path and not Path(path).is_file()
        ]
        checks = {
            "--cert and --key go together": bool(self.cert) == bool(self.key),
            f"--release {self.release} is no folder": not self.release
            or Path(self.release).is_dir(),
            f"--host {self.host} is beyond this machine: give --cert and --key, or "
            "listen at 127.0.0.1 behind a proxy that speaks TLS": bool(self.cert)
            or _is_loopback(self.host),
            f"--port {self.port} is not in 1..65535": 1 <= self.port <= 65_535,
        }
        faults += [fault for fault, holds in checks.items() if not holds]
        if self.cert and not faults and not self._is_pair():
            faults = [
                f"--cert {self.cert} and --key {self.key} are no certificate and its "
                "private key, both as PEM and the key not encrypted"
            ]
        if faults:
            raise ConfigError("\n  ".join(["this cannot be served:", *faults]))

    def listen(self) -> socket.socket:
        """Return a socket that listens; who asks before all is loaded has to wait.

        Raises:
            ConfigError: If the address cannot be had.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family)
        except OSError as error:
            reason, _, _ = str(error.strerror).partition(" (while")
            raise ConfigError(
                f"--host {self.host} --port {self.port} cannot be listened at: "
                f"{reason}; end what does, or give another"
            ) from None

    @property
    def release_folder(self) -> Path | None:
        """The release to serve in place of the one in force."""
        return Path(self.release) if self.release else None

    @property
    def address(self) -> str:
        """Where the page is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.cert else ''}://{host}:{self.port}"

    def _is_pair(self) -> bool:
        """Return whether certificate and key can be used, and used together."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except (OSError, ValueError):  # an SSLError is an OSError
            return False
        return True


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
