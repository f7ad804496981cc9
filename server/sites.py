"""Who may take part: sites that were invited, admitted, expelled.

A name, a node key and a ledger belong to one site each; what contradicts that is
refused, and nothing that is there is overwritten.
"""

from datetime import UTC, datetime
from pathlib import Path

from server.certificates import read_authority
from server.operator import Operator
from server.setup import kept_bundle
from shared.durable import replace_file, sync_folder
from shared.errors import ConfigError
from shared.identity import Identity, identity_from
from shared.invitation import Invitation, PlanLimits, to_text
from shared.protocol import is_safe


def invite(operator: Operator, name: str) -> str:
    """Return a signed join file for the site ``name``.

    Raises:
        ConfigError: If the name is not safe, or a file of the folder is missing.
        ModelError: If the encoder cannot be loaded.
    """
    from shared.bundle import installed_versions  # noqa: PLC0415
    from shared.encoder import base_digest  # noqa: PLC0415

    _require_safe(name)
    settings, versions = operator.settings, installed_versions()
    limits = {each: getattr(settings, each) for each in PlanLimits.__slots__}
    invitation = Invitation(
        site=name,
        address=settings.address,
        ca=read_authority(operator.tls),
        operator=operator.public_key(),
        base=base_digest(settings.base),
        bundle=kept_bundle(operator),
        tacit=versions.tacit,
        flwr=versions.flwr,
        **limits,
    )
    return to_text(invitation, operator.signing_key())


def admit(operator: Operator, text: str) -> Identity:
    """Admit the site whose ``site.pub`` this is; once more changes nothing.

    Raises:
        ConfigError: If the text is no sound identity, the name is another's already, or
            one of its keys is known under another name.
    """
    identity = identity_from(text)
    for known in admitted(operator):
        if known == identity:
            return identity
        if clash := _clash(known, identity):
            raise ConfigError(
                f"site {identity.site!r} cannot be admitted: {clash}; if that one is "
                f"gone for good: tacit server expel {known.site}"
            )
    replace_file(_path(operator, identity.site), text.encode())
    return identity


def admitted(operator: Operator) -> list[Identity]:
    """Return the admitted sites, by name.

    Raises:
        ConfigError: If a file of the folder is not what was admitted.
    """
    return [_admitted(path) for path in sorted(operator.sites.glob("*.pub"))]


def admitted_at(operator: Operator, name: str) -> datetime:
    """Return when the site was admitted, UTC: the time of its file."""
    return datetime.fromtimestamp(_path(operator, name).stat().st_mtime, UTC)


def expel(operator: Operator, name: str) -> None:
    """Forget the identity of a site; what it contributed stays.

    Raises:
        ConfigError: If no site of that name is admitted.
    """
    known = [identity.site for identity in admitted(operator)]
    if name not in known:
        raise ConfigError(
            f"no site {name!r} is admitted; admitted: {', '.join(known) or 'none'}"
        )
    _path(operator, name).unlink()
    sync_folder(operator.sites)


def _admitted(path: Path) -> Identity:
    try:
        identity = identity_from(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        fault = str(error) if isinstance(error, ConfigError) else type(error).__name__
        raise ConfigError(f"{path} cannot be used: {fault}") from None
    if identity.site != path.stem:
        raise ConfigError(f"{path} holds the identity of {identity.site!r}; rename it")
    return identity


def _clash(known: Identity, new: Identity) -> str:
    """Return what the two may not share, or nothing."""
    if known.site == new.site:
        return "another identity has that name"
    if known.node == new.node:
        return f"its node key is that of {known.site!r}"
    if known.ledger == new.ledger:
        return f"its ledger key is that of {known.site!r}"
    return ""


def _require_safe(name: str) -> None:
    if not is_safe(name):
        raise ConfigError(
            f"site {name!r} must be 1 to 64 letters, digits, dots, dashes, underscores"
        )


def _path(operator: Operator, name: str) -> Path:
    return operator.sites / f"{name}.pub"
