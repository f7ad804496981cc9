"""A new site's folder, made from an invitation; it never touches one that is in use.

All keys are made here, and what goes to the operator is ``site.pub`` alone.
"""

from dataclasses import asdict
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from client.mapping import FILE as MAPPING
from client.policy import SitePolicy
from client.policy_file import policy_text
from client.site import Site, SiteSettings
from client.units import FILE as UNIT
from client.units import compose_text, unit_text
from shared.durable import replace_file
from shared.errors import ConfigError
from shared.identity import Identity
from shared.identity import to_text as identity_text
from shared.invitation import Invitation, invitation_from
from shared.programs import beside_python
from shared.secret_file import keep_secret
from shared.signing import load_key, make_key, public_key

TITLE = """\
# Where this site keeps what it works with. Paths are relative to this folder.
"""
WORDS = {
    "name": "The site's public name, as the operator knows it. It stays.",
    "data": "Folder of the interactions, the items, and data.toml that explains them.",
    "base": 'Encoder that all sites share: "minilm", a folder, or a hub id.',
    "cache": "Folder of what the encoder makes of public texts; may be deleted.",
    "device": "auto, cpu, cuda or mps.",
    "precision": "Of frozen products in training: auto, float32 or bfloat16.",
    "witness": "The ledger's signed end; better on another disk than the ledger.",
}
DATA = """\
# Which tables hold this site's interactions and items, and what their columns mean.
# Take the "# " away before what fits, and put in your own names.

# --- 1. Where the rows are: two files beside this one, CSV, TSV or Parquet, named under
# "file" below; or a database, SQLite or PostgreSQL, and then no "file" below.
# [source]
# kind = "database"
# url = "postgresql://reader@host:5432/shop"   # never with a password
# password-env = "SHOP_PASSWORD"               # or password-file = "..."
# cursor = "bought_at"       # column to read on by; without it, all is read each time
# [source.queries]
# interactions = "SELECT customer, sku, bought_at, stars FROM purchases"
# items = "SELECT sku, title FROM products"

# --- 2. What the columns are called
# [interactions]
# file = "interactions.csv"
# user = "customer"          # any text
# item = "sku"               # occurs among the items
# timestamp = "bought_at"    # ISO 8601, or whole seconds since 1970
# rating = "stars"           # leave both out, and every interaction is a like
# positive-rating = 4        # a rating of at least this is a like
# [items]
# file = "items.csv"
# item = "sku"
# text = ["title"]           # what the encoder reads
"""


def init(
    folder: Path,
    text: str,
    *,
    users: int,
    epsilon: float = 8.0,
    delta: float = 1e-5,
    base: str = "minilm",
) -> Invitation:
    """Make the folder of the site that is invited, and return the invitation.

    Guarantee: everything is checked before anything is written, and a folder that holds
    anything is left as it is.

    Args:
        folder: Where the site lives from now on; new or empty.
        text: The invitation as received.
        users: Declared, public number of the site's users.
        epsilon: Privacy budget over the ledger's whole life.
        delta: At most ``1 / users``.
        base: The encoder; its digest must be that of the invitation.

    Raises:
        ConfigError: If the invitation is not genuine, a value is out of range, or the
            folder is not empty or cannot be written.
    """
    invitation = invitation_from(text)
    settings = SiteSettings(name=invitation.site, base=base)
    policy = policy_for(invitation, users=users, epsilon=epsilon, delta=delta)
    faults = [*settings.faults(), *policy.faults()]
    if faults:
        raise ConfigError("\n  ".join(["site init:", *faults]))
    _make_empty(folder)
    try:
        _write(folder, text, settings, policy)
    except OSError as error:
        raise ConfigError(
            f"{folder} is only half a site: {error.strerror}; remove the folder, make "
            "room, and start again"
        ) from None
    return invitation


def policy_for(
    invitation: Invitation, *, users: int, epsilon: float, delta: float
) -> SitePolicy:
    """Return the policy that allows what the invitation says, and no more."""
    return SitePolicy(
        epsilon=epsilon,
        delta=delta,
        users=users,
        min_sigma=invitation.min_sigma,
        min_prior_sigma=invitation.min_prior_sigma,
        max_q=invitation.max_q,
        max_steps=invitation.max_steps,
        max_clip=invitation.max_clip,
        base=invitation.base,
        modules=invitation.modules,
        max_rank=invitation.max_rank,
    )


def settings_file(settings: SiteSettings) -> str:
    """Return ``site.toml``: each key under a line that says what it means."""
    lines = [
        f"# {WORDS[key]}\n{tomli_w.dumps({key: value})}"
        for key, value in asdict(settings).items()
    ]
    return "\n".join([TITLE, *lines])


def _make_empty(folder: Path) -> None:
    """Make ``folder`` its owner's alone, or refuse one that holds anything."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made: {error.strerror}; name one that you may make"
        ) from None
    if found:
        raise ConfigError(
            f"{folder} is not empty: it holds {found[0]!r}; a site is made in a folder "
            "of its own, and a site that exists is never made again"
        )
    folder.chmod(0o700)


def _write(folder: Path, text: str, settings: SiteSettings, policy: SitePolicy) -> None:
    """Write keys, then all that a person reads."""
    ledger, node = make_key(folder / "site.key"), make_node_key(folder / "node.key")
    files = {
        **_public(settings.name, ledger, node),
        "join.toml": text,
        "site.toml": settings_file(settings),
        "policy.toml": policy_text(policy),
        f"{settings.data}/{MAPPING}": DATA,
        UNIT: unit_text(settings.name, folder, Path(beside_python("tacit"))),
        "compose.yaml": compose_text(folder),
    }
    (folder / settings.data).mkdir(mode=0o700)
    for name, content in files.items():
        replace_file(folder / name, content.encode())


def rotate(site: Site) -> None:
    """Make another node key for a site, and the ``site.pub`` that names it.

    The ledger and its key stay: what was spent stays spent. The server takes the new
    key when the operator has expelled the old one and admitted the new.

    Raises:
        ConfigError: If the site's own key cannot be read.
    """
    ledger = load_key(site.folder / "site.key")
    node = make_node_key(site.folder / "node.key")
    for name, content in _public(site.settings.name, ledger, node).items():
        replace_file(site.folder / name, content.encode())


def _public(name: str, ledger: Ed25519PrivateKey, node: str) -> dict[str, str]:
    """Return the files that say who a site is, without any secret."""
    identity = Identity(site=name, node=node, ledger=public_key(ledger))
    return {"node.pub": f"{node}\n", "site.pub": identity_text(identity, ledger)}


def make_node_key(path: Path) -> str:
    """Make the key by which Flower knows this site's node; return its public line.

    ECDSA on P-384 in OpenSSH's form, which is what a SuperNode reads.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    keep_secret(path, private)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return public.decode()
