"""What crosses between a site and the server: ``RoundPlan`` down, ``AdapterUpdate`` up.

Everything in a plan is public. An update holds adapter tensors, the identity of the
round, and the head of the site's ledger: no count, no loss, no time, no text.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.config import read
from shared.errors import ConfigError

Array = npt.NDArray[np.float32]
Adapter = Mapping[str, Array]  # PEFT's tensor name -> float32 array


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """Which LoRA is trained on which encoder; equal at every site.

    Attributes:
        base: SHA-256 of the encoder's weights, tokenizer and configuration.
        modules: ``output`` (the last layer's ``output.dense``), ``dense:K`` (all dense
            modules of the top K layers) or ``attention:K`` (their query and value).
        rank: LoRA rank r.
        scale: LoRA's s in ``W + s B A`` (alpha / r).
        seed: Public seed of the frozen A.
        max_tokens: Longest text, in tokens; the rest is cut.
    """

    base: str
    modules: str = "output"
    rank: int = 32
    scale: float = 1.0
    seed: int = 2026
    max_tokens: int = 32

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = []
        kind, _, depth = self.modules.partition(":")
        deep = kind in {"dense", "attention"} and depth.isdigit() and int(depth) > 0
        if self.modules != "output" and not deep:
            faults.append(
                f"modules={self.modules!r} is not output, dense:K or attention:K"
            )
        if not 1 <= self.rank <= 1024:
            faults.append(f"rank={self.rank} is not in 1..1024")
        if not 0 < self.scale <= 64:
            faults.append(f"scale={self.scale} is not in (0, 64]")
        if not 4 <= self.max_tokens <= 512:
            faults.append(f"max-tokens={self.max_tokens} is not in 4..512")
        return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """The Poisson-subsampled Gaussian mechanism of one round (Abadi et al. 2016).

    Attributes:
        q: Probability that a user is drawn in a step.
        sigma: Noise multiplier; noise has standard deviation ``sigma * clip``. Zero
            means no noise and no clipping: epsilon is infinite and output NOT PRIVATE.
        clip: Largest L2 norm of one user's joint gradient over adapter and head.
        steps: Noisy steps in one round, T.
        prior_sigma: Noise multiplier of the one popularity release that precedes the
            site's first round of a run; zero with ``sigma`` zero, for exact counts.
    """

    q: float = 0.2
    sigma: float = 1.5
    clip: float = 0.3
    steps: int = 20
    prior_sigma: float = 4.0

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = []
        if not 0 < self.q <= 1:
            faults.append(f"q={self.q} is not in (0, 1]")
        if not (self.sigma == 0 or 0.3 <= self.sigma < 1e6):
            faults.append(
                f"sigma={self.sigma} is neither 0 (not private) nor in [0.3, 1e6)"
            )
        if (self.prior_sigma == 0) != (self.sigma == 0) or self.prior_sigma < 0:
            faults.append(
                f"prior-sigma={self.prior_sigma} must be 0 exactly when sigma is 0"
            )
        if not 0 < self.clip < 1e6:
            faults.append(f"clip={self.clip} is not in (0, 1e6)")
        if not 1 <= self.steps <= 100_000:
            faults.append(f"steps={self.steps} is not in 1..100000")
        return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a step learns; nothing here changes what is guaranteed.

    Attributes:
        learning_rate: Adam step for the adapter.
        head_learning_rate: Adam step for the CF head.
        temperature: Scale T of the cosine in the score.
        cf_scale: Scale S of the CF part in the score.
        alpha: Weight of text against CF while training.
        prior_weight: Weight of the log popularity prior in the score.
        factors: Width f of the CF head's item factors.
        history: Likes that a user's vector is made of while training, H.
        shown: Latest likes that it is made of while serving.
        recency: Power p of the weight 1 / rank**p of these, newest first.
        targets: Items a user predicts in one step, M.
        negatives: Items drawn from a user's softmax over the catalogue in one step, m.
        seed: Public seed of the head's first factors and of the data order.
    """

    learning_rate: float = 0.02
    head_learning_rate: float = 0.02
    temperature: float = 16.0
    cf_scale: float = 2.0
    alpha: float = 0.5
    prior_weight: float = 1.0
    factors: int = 32
    history: int = 16
    shown: int = 50
    recency: float = 1.0
    targets: int = 4
    negatives: int = 16
    seed: int = 0

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = [
            f"{name.replace('_', '-')}={value} must be above 0"
            for name, value in asdict(self).items()
            if name not in {"alpha", "prior_weight", "seed", "recency"} and value <= 0
        ]
        if not 0 <= self.alpha <= 1:
            faults.append(f"alpha={self.alpha} is not in [0, 1]")
        if self.prior_weight < 0 or self.recency < 0:
            faults.append("prior-weight and recency must not be below 0")
        return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """What the server asks of every site in one round. All of it is public.

    Attributes:
        run: Name of the run, the same in all its rounds.
        number: Round, from 1.
        sites: Names of the sites that may take part, in the agreed order.
        spec, mechanism, recipe: What is trained, under which noise, and how.
        shapes: Tensor name -> shape of the adapter that is exchanged.
        max_norm: Longest joint L2 norm of an update that the server accepts.
        quorum: Fewest sites that must answer.
        deadline_s: Seconds that the server waits.
    """

    run: str
    number: int
    sites: tuple[str, ...]
    spec: AdapterSpec
    mechanism: Mechanism
    recipe: Recipe
    shapes: Mapping[str, tuple[int, ...]]
    max_norm: float
    quorum: int
    deadline_s: float

    def to_json(self) -> str:
        """Return the plan as one canonical line: sorted keys, no spaces, no NaN."""
        return json.dumps(
            asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False
        )

    def digest(self) -> str:
        """Return the SHA-256 of the canonical line, as the ledger records it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterUpdate:
    """One site's noised change of the adapter; only ``client/egress.py`` makes one.

    Attributes:
        site, run, number: Who answers which round of which run.
        plan: Digest of the plan that was followed.
        delta: Tensor name -> change, float32.
        ledger_head: Hash of the newest entry of the site's ledger.
    """

    site: str
    run: str
    number: int
    plan: str
    delta: Adapter
    ledger_head: str


def plan_from_json(line: str) -> RoundPlan:
    """Read a plan strictly: unknown keys, wrong types and bad ranges are all reported.

    Raises:
        ConfigError: If the line is not a plan.
    """
    try:
        raw = json.loads(line)
        nested = {
            name: read(
                kind, {k.replace("_", "-"): v for k, v in raw[name].items()}, name
            )
            for name, kind in (
                ("spec", AdapterSpec),
                ("mechanism", Mechanism),
                ("recipe", Recipe),
            )
        }
        shapes = {
            str(name): tuple(int(n) for n in shape)
            for name, shape in raw["shapes"].items()
        }
        plan = RoundPlan(
            **{**raw, **nested, "shapes": shapes, "sites": tuple(raw["sites"])}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"round plan cannot be read: {type(error).__name__}"
        ) from None
    return _checked(plan)


def _checked(plan: RoundPlan) -> RoundPlan:
    """Return the plan, or raise with every value of its own that is out of range."""
    scalars: dict[str, Any] = {
        "run": str,
        "number": int,
        "max_norm": float,
        "quorum": int,
    }
    faults = [
        f"{name} is not {kind.__name__}"
        for name, kind in scalars.items()
        if type(getattr(plan, name)) is not kind
    ]
    if not faults and not (plan.number >= 1 and plan.max_norm > 0 and plan.quorum >= 1):
        faults.append("number, max-norm and quorum must be above 0")
    if faults:
        raise ConfigError("round plan: " + "; ".join(faults))
    return plan
