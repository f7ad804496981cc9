"""A site's policy as a commented TOML file that its owner reads and edits."""

import tomllib
from dataclasses import fields
from pathlib import Path

import tomli_w

from client.policy import SitePolicy
from shared.config import key_of, read
from shared.errors import ConfigError

TITLE = """\
# The policy of this site. It alone decides what the site does, whatever a server asks:
# a plan outside it is refused before any data is read. Changes are recorded in the
# ledger and reset nothing that was spent.
"""
WORDS = {
    "epsilon": "Privacy budget over the ledger's whole life (add or remove one user).",
    "delta": "Chance that epsilon may fail; at most 1/users, fixed with the ledger.",
    "users": "Declared number of users, public: round it, and leave it when users come "
    "or go.",
    "min_sigma": "Smallest noise multiplier of a training step.",
    "min_prior_sigma": "Smallest noise multiplier of the popularity release.",
    "min_head_sigma": "Smallest noise multiplier of the co-occurrence release.",
    "min_metric_sigma": "Smallest noise multiplier of a metric that leaves.",
    "min_serving_sigma": "Smallest noise multiplier of what serving learns from.",
    "max_q": "Largest chance that a user takes part in a step.",
    "max_steps": "Most steps in one round.",
    "max_clip": "Longest gradient of one user, after clipping.",
    "base": 'SHA-256 of the one encoder that may be trained; "" for this site\'s own.',
    "modules": "Where adapters may sit: output, dense:K, attention:K.",
    "max_rank": "Largest LoRA rank.",
    "max_tensor_mib": "Most MiB of tensors that leave in one round.",
    "max_start_norm": "Longest adapter, in L2 norm, that a round may start from.",
    "code": 'SHA-256 of the one code that may train; "" for any.',
    "releases": "DP releases beside updates: popularity, cooccurrence and serving "
    'stay here, metrics leave; add "shared-popularity" to let the popularity out as '
    "well, at the same epsilon, to be averaged with that of other sites.",
    "hours": 'When the site trains, local time, such as "22:00-06:00"; "" for always.',
    "serve_only": "true: serve what there is, train never.",
    "insecure_test_noise": "true: noise from a seed, for tests alone. NO PRIVACY.",
}


def policy_text(policy: SitePolicy) -> str:
    """Return the file's text: each key under a line that says what it means."""
    lines = [TITLE]
    for field in fields(policy):
        value = getattr(policy, field.name)
        kept = list(value) if isinstance(value, tuple) else value
        line = tomli_w.dumps({key_of(field.name): kept})
        lines.append(f"# {WORDS[field.name]}\n{line}")
    return "\n".join(lines)


def read_policy(path: Path) -> SitePolicy:
    """Read a policy strictly.

    Raises:
        ConfigError: If the file is missing, not TOML, or holds anything unknown or out
            of range; all faults at once.
    """
    try:
        return read(SitePolicy, tomllib.loads(path.read_text("utf-8")), str(path))
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: a site without a policy allows nothing"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
