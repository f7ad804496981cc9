"""The part of a site's policy that its ledger holds every charge against.

It stands in the ledger itself, so that an auditor can check that nothing was ever
planned outside the policy of its day. The rest of the policy is there as a digest.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from shared.accounting import GaussianEvent
from shared.config import read
from shared.errors import ConfigError

PURPOSES = ("training", "popularity", "cooccurrence", "metrics", "serving")
EVERYBODY = ("popularity", "cooccurrence", "serving")  # every user, once


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what may be charged.

    Attributes:
        epsilon: Budget over the ledger's whole life; ``inf`` promises nothing.
        max_q: Largest sampling rate of training and metrics; ``EVERYBODY`` has rate 1.
        max_steps: Most steps of one charge.
        max_clip: Largest L2 norm of one user's part in a training step.
        min_sigma_training, min_sigma_popularity, min_sigma_metrics: Smallest noise
            multiplier of each purpose.
        policy: SHA-256 of the whole policy.
        min_sigma_serving: The same of the tallies that adapt serving; ledgers that were
            written before there were any do not name it.
        min_sigma_cooccurrence: The same of the release that a CF head is learned from;
            older ledgers do not name it either.
    """

    epsilon: float
    max_q: float
    max_steps: int
    max_clip: float
    min_sigma_training: float
    min_sigma_popularity: float
    min_sigma_metrics: float
    policy: str
    min_sigma_serving: float = 1.0
    min_sigma_cooccurrence: float = 0.5

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        bounds = {
            "max-q": self.max_q,
            "max-steps": self.max_steps,
            "max-clip": self.max_clip,
            "min-sigma-training": self.min_sigma_training,
            "min-sigma-popularity": self.min_sigma_popularity,
            "min-sigma-metrics": self.min_sigma_metrics,
            "min-sigma-serving": self.min_sigma_serving,
            "min-sigma-cooccurrence": self.min_sigma_cooccurrence,
        }
        faults = [
            f"{name}={value} must be finite and above 0"
            for name, value in bounds.items()
            if not 0 < value < math.inf
        ]
        if not self.epsilon > 0:
            faults.append(f"epsilon={self.epsilon} must be above 0")
        return faults

    def passed_by(self, what: str, event: GaussianEvent, clip: float) -> list[str]:
        """Return one sentence for each limit that a charge would pass."""
        least = {
            "training": self.min_sigma_training,
            "popularity": self.min_sigma_popularity,
            "metrics": self.min_sigma_metrics,
            "serving": self.min_sigma_serving,
            "cooccurrence": self.min_sigma_cooccurrence,
        }[what]
        rate = 1.0 if what in EVERYBODY else self.max_q
        longest = self.max_clip if what == "training" else 1.0  # of one user's vote
        checks = [
            (event.sigma >= least, f"sigma={event.sigma} is under {least}"),
            (event.q <= rate, f"q={event.q} is over {rate}"),
            (
                event.steps <= self.max_steps,
                f"steps={event.steps} is over {self.max_steps}",
            ),
            (clip <= longest, f"clip={clip} is over {longest}"),
        ]
        return [f"{what} {fault}" for allowed, fault in checks if not allowed]

    def to_body(self) -> dict[str, Any]:
        """Return what a ledger's line says; JSON has no infinity, so that is null."""
        body = {name.replace("_", "-"): getattr(self, name) for name in self.__slots__}
        return {
            **body,
            "epsilon": self.epsilon if math.isfinite(self.epsilon) else None,
        }

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> Self:
        """Read strictly what ``to_body`` wrote.

        Raises:
            ConfigError: For an unknown or missing key, a wrong type or range.
        """
        flat = dict(body)
        if "epsilon" in flat and flat["epsilon"] is None:
            flat["epsilon"] = math.inf
        elif flat.get("epsilon") == math.inf:
            raise ConfigError("limits: an infinite epsilon is written as null")
        return read(cls, flat, "limits")
