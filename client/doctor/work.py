"""Whether the site could train: policy, encoder, data, ledger. It trains nothing."""

import math
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from client.doctor.verdict import Verdict, fault, ok, warning
from client.policy import SitePolicy
from client.site import Site, SiteSettings
from shared.config import read
from shared.errors import LedgerBroken
from shared.invitation import Invitation
from shared.ledger import Ledger
from shared.ledger_file import CLOCK_SLACK, Pen
from shared.signing import load_key

WEAK_EPSILON = 10.0  # above it the guarantee says little about one user


def read_settings(folder: Path) -> SiteSettings:
    """Return ``site.toml`` alone, read strictly."""
    path = folder / "site.toml"
    return read(SiteSettings, tomllib.loads(path.read_text("utf-8")), str(path))


def promise(policy: SitePolicy) -> Verdict:
    """Say whether the policy promises users something, and how much."""
    remedy = "set it in policy.toml"
    if policy.insecure_test_noise:
        return fault("policy", "insecure-test-noise: NO PRIVACY", f"{remedy} to false")
    if not math.isfinite(policy.epsilon):
        return fault("policy", "epsilon is infinite: NO PRIVACY", f"{remedy} to 8")
    said = f"epsilon {policy.epsilon:g}, delta {policy.delta:g}, {policy.users} users"
    if policy.epsilon > WEAK_EPSILON:
        return warning("policy", said, f"{remedy}: epsilon of at most {WEAK_EPSILON:g}")
    if policy.serve_only:
        return warning(
            "policy", "serve-only: this site never trains", f"{remedy} to false"
        )
    return ok("policy", said)


def plans(policy: SitePolicy, invitation: Invitation) -> Verdict:
    """Say whether the policy lets through what the operator means to ask."""
    asked = {
        "max-q": (policy.max_q, invitation.max_q),
        "max-clip": (policy.max_clip, invitation.max_clip),
        "max-steps": (policy.max_steps, invitation.max_steps),
        "max-rank": (policy.max_rank, invitation.max_rank),
        "min-sigma": (-policy.min_sigma, -invitation.min_sigma),
        "min-prior-sigma": (-policy.min_prior_sigma, -invitation.min_prior_sigma),
    }
    narrow = [
        f"{key}={abs(ours):g} (join.toml: {abs(theirs):g})"
        for key, (ours, theirs) in asked.items()
        if ours < theirs
    ]
    missing = sorted(set(invitation.modules) - set(policy.modules))
    narrow += [f"modules without {name}" for name in missing]
    if not narrow:
        return ok("plans", "the policy allows what the invitation says")
    return warning(
        "plans",
        "may be refused by policy: " + ", ".join(narrow),
        "agree with the operator, or widen policy.toml if you are content with it",
    )


def encoder(settings: SiteSettings, policy: SitePolicy, agreed: str) -> Verdict:
    """Load the encoder and compare its digest with what all sites agreed on."""
    from shared.encoder import base_digest  # noqa: PLC0415  # seconds

    here = base_digest(settings.base)
    if here != agreed:
        return fault(
            "encoder",
            f"{settings.base} has digest {here[:16]}, the invitation {agreed[:16]}",
            "set base in site.toml to the encoder that the operator names, or fetch "
            "its weights anew",
        )
    if policy.base not in {"", agreed}:
        return fault(
            "encoder",
            f"the policy allows {policy.base[:16]} alone, not {agreed[:16]}",
            f'set base = "{agreed}" in policy.toml',
        )
    return ok("encoder", f"{settings.base}, digest {here[:16]}")


def data(site: Site) -> Verdict:
    """Read and check every row as a round would; no count is told.

    What is wrong with rows stands in the site's own ``data check``.
    """
    from client.sources.check import check  # noqa: PLC0415  # polars

    users = check(site.data, site.folder).users
    if not users / 2 <= site.policy.users <= users * 2:
        return warning(
            "data",
            "valid, but the declared users are not half to twice as many as the data's",
            "compare: tacit site data check; declare a round number near it as users "
            "in policy.toml",
        )
    return ok("data", "every row is valid")


def ledger(site: Site, now: datetime) -> Verdict:
    """Verify the whole ledger, and write nothing: a first round begins one.

    Its delta is fixed with its first entry.
    """
    witness = site.folder / site.settings.witness
    if not site.ledger.exists() and not witness.exists():
        return ok("ledger", "not begun: it begins with the first round")
    try:
        chain = Ledger(
            path=site.ledger,
            delta=site.policy.delta,
            pen=Pen(
                site=site.settings.name,
                key=load_key(site.folder / "site.key"),
                now=now.isoformat,
            ),
            witness_path=witness,
        ).chain()
    except LedgerBroken as error:
        return fault(
            "ledger",
            f"broken: {error}",
            f"restore {site.ledger.name} and {witness.name} from their newest copies; "
            "never remove them",
        )
    newest = datetime.fromisoformat(chain.entries[-1].body["date"])
    if now < newest.astimezone(UTC) - CLOCK_SLACK:
        return fault(
            "ledger",
            f"its newest entry is of {newest:%Y-%m-%d %H:%M}, after this clock's time",
            "set the clock right: timedatectl set-ntp true",
        )
    return ok("ledger", f"{len(chain.entries)} entries, verified")
