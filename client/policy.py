"""What a site allows, whatever the server asks (DESIGN D9).

The policy is the site's own file. A plan outside it is refused before any data is read;
nothing in it can be changed by the server. Limits are public; what travels on a refusal
is a class name alone.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import time

from shared.adapter import norm
from shared.errors import PolicyRefused
from shared.limits import Limits
from shared.popularity import encoder_part, shared_part
from shared.protocol import OWN, Adapter, RoundPlan

RELEASES = ("popularity", "shared-popularity", "cooccurrence", "metrics", "serving")
TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
HOURS = re.compile(rf"(?!(.{{5}})-\1){TIME}-{TIME}")  # two different times
DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePolicy:
    """The site's limits; ``client/policy_file.py`` says each in a person's words.

    Attributes:
        epsilon: The budget of the site's ledger, over its whole life; ``inf`` only for
            simulations without privacy.
        delta: Fixed at the ledger's first record; below 1 / users.
        users: Declared, public number of users; the divisor of every sum.
        min_sigma: Smallest noise multiplier of a training step.
        min_prior_sigma: Smallest noise multiplier of the popularity release.
        min_head_sigma: Smallest noise multiplier of the co-occurrence release.
        min_metric_sigma: Smallest noise multiplier of a metric's release.
        min_serving_sigma: Smallest noise multiplier of the tallies that adapt serving.
        max_q: Largest sampling rate.
        max_steps: Most steps in a round.
        max_clip: Longest clipping norm.
        base: Digest of the one encoder that is trained; empty for the site's own.
        modules: Where LoRA may sit.
        max_rank: Largest LoRA rank.
        max_tensor_mib: Largest adapter, in MiB of float32, in one round.
        max_start_norm: Longest joint L2 norm of the adapter that a round starts from.
        code: Digest of the one code that may train; empty for any.
        releases: DP releases beside updates that may be made.
        hours: When the site trains, local time; empty for always.
        serve_only: Whether the site trains at all.
        insecure_test_noise: Draw coins and noise from a seed: there is no privacy.
    """

    epsilon: float
    delta: float = 1e-5
    users: int
    min_sigma: float = 0.5
    min_prior_sigma: float = 0.5
    min_head_sigma: float = 0.5
    min_metric_sigma: float = 1.0
    min_serving_sigma: float = 1.0
    max_q: float = 1.0
    max_steps: int = 1000
    max_clip: float = 10.0
    base: str = ""
    modules: tuple[str, ...] = ("output",)
    max_rank: int = 256
    max_tensor_mib: float = 64.0
    max_start_norm: float = 1000.0
    code: str = ""
    releases: tuple[str, ...] = ("popularity", "cooccurrence")
    hours: str = ""
    serve_only: bool = False
    insecure_test_noise: bool = False

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        largest = 1 / max(1, self.users)
        unknown = sorted(set(self.releases) - set(RELEASES))
        checks = [
            (self.epsilon > 0, f"epsilon={self.epsilon} must be above 0"),
            (self.users >= 1, f"users={self.users} must be at least 1"),
            (
                0 < self.delta <= largest,
                f"delta={self.delta} is not in (0, 1/users = {largest:.1e}]",
            ),
            (not unknown, f"releases={unknown} is not of {', '.join(RELEASES)}"),
            (
                not self.hours or bool(HOURS.fullmatch(self.hours)),
                f"hours={self.hours!r} is not like 22:00-06:00",
            ),
            *(
                (not digest or bool(DIGEST.fullmatch(digest)), f"{key} is no SHA-256")
                for key, digest in (("base", self.base), ("code", self.code))
            ),
            *(
                (0 < value < math.inf, f"{key}={value} must be finite and above 0")
                for key, value in self._positive().items()
            ),
        ]
        return [fault for holds, fault in checks if not holds]

    @property
    def private(self) -> bool:
        """Whether the site promises anything at all."""
        return math.isfinite(self.epsilon)

    def digest(self) -> str:
        """Return the SHA-256 of all that the policy says, as the ledger records it."""
        line = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(line.encode()).hexdigest()

    def limits(self) -> Limits:
        """Return what the ledger holds every charge against."""
        return Limits(
            epsilon=self.epsilon,
            max_q=self.max_q,
            max_steps=self.max_steps,
            max_clip=self.max_clip,
            min_sigma_training=self.min_sigma,
            min_sigma_popularity=self.min_prior_sigma,
            min_sigma_metrics=self.min_metric_sigma,
            min_sigma_serving=self.min_serving_sigma,
            min_sigma_cooccurrence=self.min_head_sigma,
            policy=self.digest(),
        )

    def _positive(self) -> Mapping[str, float]:
        return {
            "min-sigma": self.min_sigma,
            "min-prior-sigma": self.min_prior_sigma,
            "min-head-sigma": self.min_head_sigma,
            "min-metric-sigma": self.min_metric_sigma,
            "min-serving-sigma": self.min_serving_sigma,
            "max-q": self.max_q,
            "max-steps": self.max_steps,
            "max-clip": self.max_clip,
            "max-rank": self.max_rank,
            "max-tensor-mib": self.max_tensor_mib,
            "max-start-norm": self.max_start_norm,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What a plan is held against beside the policy; all of it is public.

    Attributes:
        site: The site's name.
        base: Digest of its encoder.
        code: Digest of the code that runs.
        now: Local time.
    """

    site: str
    base: str
    code: str
    now: time


def require_allowed(plan: RoundPlan, policy: SitePolicy, here: Circumstances) -> None:
    """Return if the plan lies inside the policy, or refuse with every reason.

    Guarantee: a plan with less noise, a larger sampling rate, more steps, a longer
    clip, a bigger or another adapter, another encoder, another code, an unwanted
    release or another hour than the site allows never reaches the site's data.

    Raises:
        PolicyRefused: Naming each value and its limit; public values only.
    """
    reasons = [
        *_setting_reasons(plan, policy, here),
        *_adapter_reasons(plan, policy, here),
        *_mechanism_reasons(plan, policy),
    ]
    if reasons:
        raise PolicyRefused(
            f"round {plan.number} refused by policy: " + "; ".join(reasons)
        )


def require_shapes(plan: RoundPlan, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Return if the plan exchanges exactly the tensors of the site's own encoder.

    Raises:
        PolicyRefused: If the plan names another tensor or shape.
    """
    if encoder_part(plan.shapes) != dict(shapes):
        raise PolicyRefused(
            f"round {plan.number} refused by policy: its tensors are not the "
            f"{len(shapes)} that {plan.spec.modules} of rank {plan.spec.rank} has"
        )


def require_one_popularity(plan: RoundPlan) -> None:
    """Return if the plan exchanges a popularity exactly where its prior is shared.

    Raises:
        PolicyRefused: If there is one too few or too many.
    """
    shared = len(shared_part(plan.shapes))
    if shared != (plan.recipe.prior != OWN):
        raise PolicyRefused(
            f"round {plan.number} refused by policy: prior={plan.recipe.prior!r} with "
            f"{shared} tensors of popularity"
        )


def require_start(adapter: Adapter, policy: SitePolicy) -> None:
    """Return if a round may start from this adapter.

    Its values do not bear on the guarantee; absurd ones would make the site pay for a
    change that is lost in rounding.

    Raises:
        PolicyRefused: If the adapter is longer than the policy allows.
    """
    length = norm(adapter)
    if not length <= policy.max_start_norm:
        raise PolicyRefused(
            f"the adapter to start from has norm {length:.4g}, over "
            f"max-start-norm={policy.max_start_norm}"
        )


def is_open(hours: str, now: time) -> bool:
    """Return whether ``now`` lies in ``hours``, which may pass midnight."""
    if not hours:
        return True
    start, end = (time.fromisoformat(part) for part in hours.split("-"))
    return start <= now < end if start < end else now >= start or now < end


def _setting_reasons(
    plan: RoundPlan, policy: SitePolicy, here: Circumstances
) -> list[str]:
    """Return what is wrong with who is asked, when, and by which code."""
    limits = [
        (not policy.serve_only, "serve-only: this site does not train"),
        (is_open(policy.hours, here.now), f"outside the hours {policy.hours}"),
        (here.site in plan.sites, f"site {here.site!r} is not among the plan's sites"),
        (
            policy.code in {"", here.code},
            f"code {here.code[:16]} is not the approved {policy.code[:16]}",
        ),
    ]
    return [reason for allowed, reason in limits if not allowed]


def _adapter_reasons(
    plan: RoundPlan, policy: SitePolicy, here: Circumstances
) -> list[str]:
    """Return what is wrong with the adapter that is asked for."""
    spec, size = plan.spec, _mebibytes(plan)
    base = policy.base or here.base
    limits = [
        (
            spec.base == base == here.base,
            f"base digest {spec.base[:16]} is not ours, {base[:16]}",
        ),
        (
            spec.modules in policy.modules,
            f"modules={spec.modules} is not of {', '.join(policy.modules)}",
        ),
        (spec.rank <= policy.max_rank, f"rank={spec.rank} is over {policy.max_rank}"),
        (
            size <= policy.max_tensor_mib,
            f"adapter of {size:.1f} MiB is over {policy.max_tensor_mib}",
        ),
    ]
    return [reason for allowed, reason in limits if not allowed]


def _mechanism_reasons(plan: RoundPlan, policy: SitePolicy) -> list[str]:
    """Return what is wrong with noise, rates and releases."""
    noise = plan.mechanism
    unprotected = noise.sigma == 0 and not policy.private
    no_prior, no_metric = noise.prior_sigma == 0, noise.metric_sigma == 0
    no_head = noise.head_sigma == 0
    limits = [
        (noise.q <= policy.max_q, f"q={noise.q} is over {policy.max_q}"),
        (
            noise.steps <= policy.max_steps,
            f"steps={noise.steps} is over {policy.max_steps}",
        ),
        (
            unprotected or noise.clip <= policy.max_clip,
            f"clip={noise.clip} is over {policy.max_clip}",
        ),
        (
            unprotected or noise.sigma >= policy.min_sigma,
            f"sigma={noise.sigma} is under {policy.min_sigma}",
        ),
        (
            no_prior or noise.prior_sigma >= policy.min_prior_sigma,
            f"prior-sigma={noise.prior_sigma} is under {policy.min_prior_sigma}",
        ),
        (
            no_metric or noise.metric_sigma >= policy.min_metric_sigma,
            f"metric-sigma={noise.metric_sigma} is under {policy.min_metric_sigma}",
        ),
        (
            no_prior or "popularity" in policy.releases,
            "a popularity release is not allowed",
        ),
        (
            no_head or noise.head_sigma >= policy.min_head_sigma,
            f"head-sigma={noise.head_sigma} is under {policy.min_head_sigma}",
        ),
        (
            no_head or "cooccurrence" in policy.releases,
            "a co-occurrence release is not allowed",
        ),
        (
            plan.recipe.prior == OWN or "shared-popularity" in policy.releases,
            "the released popularity may not leave: releases lacks shared-popularity",
        ),
        (no_metric or "metrics" in policy.releases, "a metric may not leave"),
    ]
    return [reason for allowed, reason in limits if not allowed]


def _mebibytes(plan: RoundPlan) -> float:
    """Return the size of the exchanged adapter as float32."""
    return sum(4 * math.prod(shape) for shape in plan.shapes.values()) / 2**20
