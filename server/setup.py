"""The operator's folder, made once, and what in it is made anew later.

A folder that holds anything is refused, and one that cannot be finished is left empty.
"""

import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from server.certificates import make_authority, make_server_certificate
from server.operator import SETTINGS, Operator, ServerSettings, settings_text
from server.templates import COMPOSE, UNIT, compose_text, proxy_text, unit_text
from shared.config import key_of, read
from shared.durable import replace_file
from shared.errors import ConfigError
from shared.secret_file import keep_secret
from shared.signing import make_key


def init(folder: Path, settings: ServerSettings, now: datetime) -> Operator:
    """Make an operator's folder, for its owner's eyes alone.

    Args:
        folder: Must be empty, or not there yet.
        settings: What ``server.toml`` will say.
        now: When its certificates are made, with a time zone.

    Raises:
        ConfigError: If the folder holds anything or cannot be made, or a setting is out
            of range.
    """
    flat = {key_of(name): value for name, value in asdict(settings).items()}
    read(ServerSettings, flat, "server settings")
    with _all_or_nothing(folder):
        operator = Operator(folder.resolve(), settings)
        for part in (
            *(operator.tls, operator.sites, operator.invitations, operator.runs),
            *(operator.starts, operator.releases, operator.state),
            *(operator.state / "logs", operator.state / "nginx"),
        ):
            part.mkdir(mode=0o700)
        keep_bundle(operator)
        make_key(operator.key)
        keep_secret(operator.secret, secrets.token_hex(32).encode())
        make_authority(operator.tls, settings.name, now)
        replace_file(operator.folder / SETTINGS, settings_text(settings).encode())
        renew(operator, now)
    return operator


def renew(operator: Operator, now: datetime) -> None:
    """Make the server's certificate anew, and all texts that follow from the settings.

    Raises:
        ConfigError: If the authority cannot be read or has expired.
    """
    settings, folder = operator.settings, operator.folder
    make_server_certificate(operator.tls, settings.name, settings.addresses, now)
    replace_file(operator.proxy, proxy_text(operator).encode())
    program = Path(sys.executable).with_name("tacit")
    replace_file(folder / UNIT, unit_text(operator, program).encode())
    replace_file(folder / COMPOSE, compose_text(operator).encode())


def keep_bundle(operator: Operator) -> str:
    """Build the app bundle from the installed source, keep it, return its digest."""
    from shared.bundle import build_bundle, bundle_digest  # noqa: PLC0415

    content = build_bundle()
    replace_file(operator.bundle, content)
    return bundle_digest(content)


def kept_bundle(operator: Operator) -> str:
    """Return the digest of the bundle in the folder.

    Raises:
        ConfigError: If there is none.
    """
    from shared.bundle import bundle_digest  # noqa: PLC0415

    try:
        return bundle_digest(operator.bundle.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{operator.bundle} cannot be read ({type(error).__name__}); tacit server "
            "upgrade builds it anew"
        ) from None


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """Open an empty folder of mode 0700; empty it again if it cannot be finished."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; name an empty or a new folder")
        folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}") from None
    try:
        yield
    except BaseException:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise
