"""What a site allows, whatever the server asks (DESIGN D9).

The policy is the site's own file. A plan outside it is refused before any data is read;
nothing in it can be changed by the server. Limits are public; what travels on a refusal
is a class name alone.
"""

import math
from dataclasses import dataclass

from shared.errors import PolicyRefused
from shared.protocol import RoundPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePolicy:
    """The site's limits.

    Attributes:
        epsilon: The budget of the site's ledger, over its whole life; ``inf`` only for
            simulations without privacy.
        delta: Fixed at the ledger's first record; below 1 / users.
        users: Declared, public number of users; the divisor of every sum. Round it, and
            do not update it when users come or go.
        min_sigma: Smallest noise multiplier of a training step.
        min_prior_sigma: Smallest noise multiplier of the popularity release.
        max_q: Largest sampling rate.
        max_steps: Most steps in a round.
        max_rank: Largest LoRA rank.
        max_tensor_mib: Largest adapter, in MiB of float32.
        insecure_test_noise: Draw coins and noise from a seed. For tests and repeatable
            simulations: there is no privacy.
    """

    epsilon: float
    delta: float = 1e-5
    users: int
    min_sigma: float = 0.5
    min_prior_sigma: float = 0.5
    max_q: float = 0.5
    max_steps: int = 1000
    max_rank: int = 256
    max_tensor_mib: float = 64.0
    insecure_test_noise: bool = False

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = []
        if not self.epsilon > 0:
            faults.append(f"epsilon={self.epsilon} must be above 0")
        if self.users < 1:
            faults.append(f"users={self.users} must be at least 1")
        largest = 1 / max(1, self.users)
        if not 0 < self.delta <= largest:
            faults.append(f"delta={self.delta} is not in (0, 1/users = {largest:.1e}]")
        return faults

    @property
    def private(self) -> bool:
        """Whether the site promises anything at all."""
        return math.isfinite(self.epsilon)


def require_allowed(plan: RoundPlan, policy: SitePolicy, site: str, base: str) -> None:
    """Return if the plan lies inside the policy, or refuse with every reason.

    Guarantee: a plan with less noise, a larger sampling rate, more steps, a bigger
    adapter or another encoder than the site allows never reaches the site's data.

    Raises:
        PolicyRefused: Naming each value and its limit; public values only.
    """
    mechanism, size = plan.mechanism, _mebibytes(plan)
    limits = [
        (site in plan.sites, f"site {site!r} is not among the plan's sites"),
        (
            plan.spec.base == base,
            f"base digest {plan.spec.base[:16]} is not ours, {base[:16]}",
        ),
        (mechanism.q <= policy.max_q, f"q={mechanism.q} is over {policy.max_q}"),
        (
            mechanism.steps <= policy.max_steps,
            f"steps={mechanism.steps} is over {policy.max_steps}",
        ),
        (
            plan.spec.rank <= policy.max_rank,
            f"rank={plan.spec.rank} is over {policy.max_rank}",
        ),
        (
            size <= policy.max_tensor_mib,
            f"adapter of {size:.1f} MiB is over {policy.max_tensor_mib}",
        ),
        (
            not policy.private or mechanism.sigma >= policy.min_sigma,
            f"sigma={mechanism.sigma} is under {policy.min_sigma}",
        ),
        (
            not policy.private or mechanism.prior_sigma >= policy.min_prior_sigma,
            f"prior-sigma={mechanism.prior_sigma} is under {policy.min_prior_sigma}",
        ),
    ]
    reasons = [reason for allowed, reason in limits if not allowed]
    if reasons:
        raise PolicyRefused(
            f"round {plan.number} refused by policy: " + "; ".join(reasons)
        )


def _mebibytes(plan: RoundPlan) -> float:
    """Return the size of the exchanged adapter as float32."""
    return sum(4 * math.prod(shape) for shape in plan.shapes.values()) / 2**20
