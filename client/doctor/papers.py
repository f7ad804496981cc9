"""Whether the site's own papers are in order: invitation, keys, approvals, marks."""

from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)

from client.approval import approved
from client.doctor.verdict import Verdict, fault, ok, warning
from client.site import Site
from client.standing import has_left, is_paused
from shared.identity import identity_from
from shared.invitation import Invitation, fingerprint, invitation_from
from shared.signing import OTHERS, load_key, public_key

KEYS = ("site.key", "node.key")


def read_invitation(folder: Path) -> Invitation:
    """Return the invitation in ``folder``, verified."""
    return invitation_from((folder / "join.toml").read_text("utf-8"))


def invited(invitation: Invitation, name: str) -> Verdict:
    """Say who invited whom."""
    by = f"from the operator {fingerprint(invitation.operator)}"
    if invitation.site == name:
        return ok("invitation", f"for {name}, {by}")
    return fault(
        "invitation",
        f"for {invitation.site}, {by}; site.toml says {name}",
        f'set name = "{invitation.site}" in site.toml, or ask for a join file for '
        f"{name}",
    )


def permissions(folder: Path) -> Verdict:
    """Say whether folder and keys are their owner's alone."""
    modes = {
        path: path.stat().st_mode & 0o777
        for path in (folder, *(folder / name for name in KEYS))
    }
    wide = {path: mode for path, mode in modes.items() if mode & OTHERS}
    if not wide:
        return ok("permissions", "folder and keys are their owner's alone")
    return fault(
        "permissions",
        ", ".join(f"{path} has mode {mode:03o}" for path, mode in wide.items()),
        " && ".join(f"chmod {700 if path.is_dir() else 600} {path}" for path in wide),
    )


def identity(folder: Path, name: str) -> Verdict:
    """Say whether ``site.pub`` is of this site and of its two keys."""
    said = identity_from((folder / "site.pub").read_text("utf-8"))
    node = load_ssh_private_key((folder / "node.key").read_bytes(), None).public_key()
    line = node.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    ours = {
        "site.toml": said.site == name,
        "node.key": said.node == line,
        "site.key": said.ledger == public_key(load_key(folder / "site.key")),
    }
    wrong = [file for file, same in ours.items() if not same]
    if not wrong:
        return ok("identity", f"site.pub of {name}, for both keys")
    return fault(
        "identity",
        f"site.pub does not fit {', '.join(wrong)}",
        f"restore {', '.join(wrong)} and site.pub from one backup of this site",
    )


def bundle(site: Site, invitation: Invitation) -> Verdict:
    """Say whether the code that the operator runs was approved here."""
    wanted = invitation.bundle
    if any(approval.bundle == wanted for approval in approved(site)):
        return ok("approval", f"bundle {wanted[:16]} is approved")
    return fault(
        "approval",
        f"bundle {wanted[:16]} of the invitation is not approved",
        f"review the source, then: tacit site approve {site.folder}",
    )


def marks(folder: Path) -> Verdict:
    """Say whether the site takes part at all."""
    if has_left(folder):
        return fault(
            "taking part",
            "this site has left",
            f"to come back: tacit site rotate {folder}, send site.pub to be admitted "
            f"anew, then tacit site resume {folder}",
        )
    if is_paused(folder):
        return warning(
            "taking part", "this site is paused", f"tacit site resume {folder}"
        )
    return ok("taking part", "neither paused nor left")
