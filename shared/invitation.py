"""An invitation: all that a site must know of a federation before it joins.

The operator signs it and sends it (``join.toml``). It holds no secret; whoever has it
can do no more than ask, because only admitted keys are answered.
"""

import hashlib
import ipaddress
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import BasicConstraints, load_pem_x509_certificate
from cryptography.x509.extensions import ExtensionNotFound

from shared.protocol import AdapterSpec, is_safe
from shared.signed_text import SignedText

TITLE = """\
# Invitation to a federation of Tacit, signed by its operator. It holds no secret.
# Compare the operator's fingerprint by telephone when you use it:
#   tacit site init --join THIS-FILE --users N FOLDER
"""
HEX = re.compile("[0-9a-f]{64}")
LABEL = "(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
HOST_NAME = re.compile(  # the last label is no number: 1.2.3 is no name
    rf"(?=.{{1,253}}\Z)(?!(.*\.)?[0-9]+\Z){LABEL}(\.{LABEL})*"
)
VERSION = re.compile("[0-9A-Za-z.+-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLimits:
    """How far the plans of an operator go.

    The defaults admit the protocol's own round, and few full steps as docs/deploy.md
    has them, up to an epsilon of 8. A site takes the limits for the start of its own
    policy, which alone decides; its budget holds whatever they are.

    Attributes:
        max_q: Largest chance that a user takes part in a step.
        min_sigma: Smallest noise multiplier of a training step.
        max_clip: Longest gradient of one user, after clipping.
        max_steps: Most steps in one round.
        modules: Where adapters may sit.
        max_rank: Largest LoRA rank.
        min_prior_sigma: Smallest noise multiplier of the popularity release.
    """

    max_q: float = 1.0
    min_sigma: float = 1.5
    max_clip: float = 1.0
    max_steps: int = 20
    modules: tuple[str, ...] = ("output",)
    max_rank: int = 64
    min_prior_sigma: float = 0.9

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        ranges = [
            ("max-q", self.max_q, 0 < self.max_q <= 1, "(0, 1]"),
            ("min-sigma", self.min_sigma, 0.3 <= self.min_sigma < 1e6, "[0.3, 1e6)"),
            ("max-clip", self.max_clip, 0 < self.max_clip < 1e6, "(0, 1e6)"),
            ("max-steps", self.max_steps, 1 <= self.max_steps <= 100_000, "1..100000"),
            ("max-rank", self.max_rank, 1 <= self.max_rank <= 1024, "1..1024"),
            (
                "min-prior-sigma",
                self.min_prior_sigma,
                0 < self.min_prior_sigma < 1e6,
                "(0, 1e6)",
            ),
        ]
        faults = [
            f"{key}={value} is not in {limit}"
            for key, value, fits, limit in ranges
            if not fits
        ]
        if not self.modules:
            faults.append(
                "modules=[] allows no adapter; name output, dense:K, attention:K"
            )
        for one in self.modules:
            faults += AdapterSpec(base="", modules=one).faults()
        return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation(PlanLimits):
    """What an operator sends to one site, beside the limits of its plans.

    Attributes:
        site: The name under which the site is invited.
        address: ``host:port`` of the operator's proxy.
        ca: The one certificate authority that the site believes, as PEM.
        operator: The operator's Ed25519 public key, 64 hexadecimal digits.
        base: Digest of the encoder that is trained.
        bundle: SHA-256 of the app bundle that the site is asked to approve.
        tacit, flwr: Versions that the operator runs.
    """

    site: str
    address: str
    ca: str
    operator: str
    base: str
    bundle: str
    tacit: str
    flwr: str

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        digests = {name: getattr(self, name) for name in ("operator", "base", "bundle")}
        versions = {name: getattr(self, name) for name in ("tacit", "flwr")}
        checks = [
            (is_safe(self.site), f"site={self.site!r} is no site's name"),
            (is_address(self.address), f"address={self.address!r} is not host:port"),
            (_is_authority(self.ca), "ca is not one certificate authority as PEM"),
            *(
                (bool(HEX.fullmatch(value)), f"{name} is not 64 hexadecimal digits")
                for name, value in digests.items()
            ),
            *(
                (bool(VERSION.fullmatch(value)), f"{name}={value!r} is no version")
                for name, value in versions.items()
            ),
        ]
        faults = [fault for holds, fault in checks if not holds]
        return faults + PlanLimits.faults(self)


_SIGNED = SignedText(Invitation, "invitation", "operator", TITLE)


def to_text(invitation: Invitation, key: Ed25519PrivateKey) -> str:
    """Return the join file, signed by the operator.

    Raises:
        ConfigError: If a value is out of range, or ``key`` is not the operator's.
    """
    return _SIGNED.write(invitation, key)


def invitation_from(text: str) -> Invitation:
    """Read a join file strictly.

    Guarantee: only the very text that the operator it names has signed is read. That
    this is the operator one means is for people to compare, by ``fingerprint``.

    Raises:
        ConfigError: If it is anything else; all faults at once.
    """
    return _SIGNED.read(text)


def fingerprint(public_key: str) -> str:
    """Return a public key as eight short groups, to be read over the telephone."""
    digest = hashlib.sha256(bytes.fromhex(public_key)).hexdigest()[:32]
    return " ".join(digest[n : n + 4] for n in range(0, 32, 4))


def is_host(host: str) -> bool:
    """Return whether ``host`` is a DNS name or an IP address."""
    return is_ip(host) or bool(HOST_NAME.fullmatch(host))


def is_ip(host: str) -> bool:
    """Return whether ``host`` is an IP address, without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host  # a zone means nothing on another machine


def is_address(address: str) -> bool:
    """Return whether ``address`` is host:port, an IPv6 host in brackets."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        fits = ":" in host and is_ip(host[1:-1])
    else:
        fits = ":" not in host and is_host(host)
    return fits and bool(re.fullmatch("[1-9][0-9]{0,4}", port)) and int(port) < 65536


def _is_authority(pem: str) -> bool:
    """Return whether ``pem`` is exactly one certificate, that of an authority."""
    try:
        certificate = load_pem_x509_certificate(pem.encode())
        about = certificate.extensions.get_extension_for_class(BasicConstraints)
    except (ValueError, ExtensionNotFound):
        return False
    return about.value.ca and certificate.public_bytes(Encoding.PEM).decode() == pem
