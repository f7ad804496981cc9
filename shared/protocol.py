"""What crosses between a site and the server: ``RoundPlan`` down, ``AdapterUpdate`` up.

Everything in a plan is public. An update holds adapter tensors, the identity of the
round, and the head of the site's ledger: no count, no loss, no time, no text.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.config import read
from shared.errors import ConfigError
from shared.witness import Witness

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
TENSOR_NAME = re.compile(r"(?!.{257})[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
MOST_ROUNDS = 1_000_000
MOST_VALUES = 1 << 26  # 256 MiB as float32
FLOAT32 = "float32"
WIRES = (FLOAT32, "float16", "int8")  # what an update may travel as
LARGEST_SEED = 2**63
DOWNS = ("seed", "text")  # where the frozen half of an adapter comes from
OWN, SHARED = "own", "shared"
PRIORS = (OWN, SHARED)
OPTIMIZERS = ("adam", "sgd")
STEPS, COOCCURRENCE = "steps", "cooccurrence"
HEADS = (STEPS, COOCCURRENCE)  # how the CF head is learned

_UNREADABLE = (
    *(ValueError, KeyError, TypeError, AttributeError),
    *(OverflowError, RecursionError),  # a whole number no float holds; depth
)

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
        down: Where the frozen A comes from: ``seed``, at random, or ``text``, which
            reads off the directions in which texts differ; see ``shared/down.py``.
        seed: Public seed of the frozen A.
        max_tokens: Longest text, in tokens; the rest is cut.
    """

    base: str
    modules: str = "output"
    rank: int = 32
    scale: float = 1.0
    down: str = "seed"
    seed: int = 2026
    max_tokens: int = 32

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        kind, _, depth = self.modules.partition(":")
        deep = kind in {"dense", "attention"} and depth.isdigit() and int(depth) > 0
        checks = [
            (
                self.modules == "output" or deep,
                f"modules={self.modules!r} is not output, dense:K or attention:K",
            ),
            (
                self.down in DOWNS,
                f"down={self.down!r} is not one of {', '.join(DOWNS)}",
            ),
            (
                self.down != "text" or self.modules == "output",
                f"down='text' is for modules=output, not {self.modules!r}",
            ),
            (1 <= self.rank <= 1024, f"rank={self.rank} is not in 1..1024"),
            (0 < self.scale <= 64, f"scale={self.scale} is not in (0, 64]"),
            (
                0 <= self.seed <= LARGEST_SEED,
                f"seed={self.seed} is not in 0..{LARGEST_SEED}",
            ),
            (
                4 <= self.max_tokens <= 512,
                f"max-tokens={self.max_tokens} is not in 4..512",
            ),
        ]
        return [fault for holds, fault in checks if not holds]


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
            site's first round of a run. Zero makes no release and a flat prior; with
            ``sigma`` zero as well, exact counts.
        head_sigma: Noise multiplier of the one co-occurrence release that does, where
            the recipe's head is learned from it. Zero makes no release and a head that
            says nothing; with ``sigma`` zero as well, exact sums.
        metric_sigma: Noise multiplier of the metric that each round releases to the
            server, at rate q; zero asks for no metric.
    """

    q: float = 0.2
    sigma: float = 1.5
    clip: float = 0.3
    steps: int = 20
    prior_sigma: float = 4.0
    head_sigma: float = 0.0
    metric_sigma: float = 0.0

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = []
        if not 0 < self.q <= 1:
            faults.append(f"q={self.q} is not in (0, 1]")
        if not (self.sigma == 0 or 0.3 <= self.sigma < 1e6):
            faults.append(
                f"sigma={self.sigma} is neither 0 (not private) nor in [0.3, 1e6)"
            )
        if not 0 <= self.prior_sigma < 1e6 or (self.sigma == 0 < self.prior_sigma):
            faults.append(
                f"prior-sigma={self.prior_sigma} is not in [0, 1e6), or not 0 although "
                "sigma is"
            )
        if not 0 <= self.head_sigma < 1e6 or (self.sigma == 0 < self.head_sigma):
            faults.append(
                f"head-sigma={self.head_sigma} is not in [0, 1e6), or not 0 although "
                "sigma is"
            )
        if not (self.metric_sigma == 0 or 0.3 <= self.metric_sigma < 1e6):
            faults.append(
                f"metric-sigma={self.metric_sigma} is neither 0 (no metric) nor in "
                "[0.3, 1e6)"
            )
        if not 0 < self.clip < 1e6:
            faults.append(f"clip={self.clip} is not in (0, 1e6)")
        if not 1 <= self.steps <= 100_000:
            faults.append(f"steps={self.steps} is not in 1..100000")
        return faults


MOST = {  # largest values of a recipe: beyond them a plan can only exhaust a machine
    "learning_rate": 1e3,
    "head_learning_rate": 1e3,
    "temperature": 1e6,
    "cf_scale": 1e6,
    "recency": 1e3,
    "factors": 4096,
    "head_items": 10_000,
    "history": 4096,
    "shown": 1_000_000,
    "targets": 4096,
    "negatives": 1_000_000,
}
POSITIVE = MOST.keys() - {"recency"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a step learns; nothing here changes what is guaranteed.

    Attributes:
        optimizer: ``adam``, or ``sgd``: plain steps, which leave the noise white for
            the server's rule ``spectral``.
        learning_rate: Step for the adapter: Adam's, or of the mean gradient in units
            of the clip.
        head_learning_rate: Adam step for the CF head.
        head: How the CF head is learned: by the same ``steps``, or from one
            ``cooccurrence`` release before them.
        head_items: Most items that such a release is about: the most popular ones, and
            fewer where there is more noise.
        temperature: Scale T of the cosine in the score.
        cf_scale: Scale S of the CF part in the score.
        alpha: Weight of text against CF while training.
        prior: Whose popularity the prior is made of: a site's ``own``, or ``shared``
            by all sites of one catalogue, each of which then lets its release out.
        prior_weight: Weight of the log popularity prior in the score.
        factors: Width f of the CF head's item factors.
        history: Likes that a user's vector is made of while training, H.
        shown: Latest likes that it is made of while serving.
        recency: Power p of the weight 1 / rank**p of these, newest first.
        targets: Items a user predicts in one step, M.
        negatives: Items drawn from a user's softmax over the catalogue in one step, m.
        seed: Public seed of the head's first factors and of the data order.
    """

    optimizer: str = "adam"
    learning_rate: float = 0.02
    head_learning_rate: float = 0.02
    head: str = STEPS
    head_items: int = 100
    temperature: float = 16.0
    cf_scale: float = 2.0
    alpha: float = 0.5
    prior: str = OWN
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
        ranges = [(name, 0.0, MOST[name]) for name in MOST]
        ranges += [("alpha", 0.0, 1.0), ("prior_weight", 0.0, 1e6)]
        ranges += [("seed", 0, LARGEST_SEED)]
        faults = [
            f"{name}={value!r} is not one of {', '.join(known)}"
            for name, value, known in (
                ("optimizer", self.optimizer, OPTIMIZERS),
                ("head", self.head, HEADS),
                ("prior", self.prior, PRIORS),
            )
            if value not in known
        ]
        if self.optimizer == "sgd" and self.head == STEPS:
            faults.append("optimizer='sgd' goes with head='cooccurrence'")
        return faults + [
            f"{name.replace('_', '-')}={value} is not in {low:g}..{high:g}"
            for name, low, high in ranges
            for value in [getattr(self, name)]
            if not (low <= value <= high) or (value == 0 and name in POSITIVE)
        ]


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
        wire: What updates travel as, one of ``WIRES``. Guarantee: it is applied to
            what is noised already, and chosen in public; so it costs no budget.
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
    wire: str = FLOAT32

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
        delta: Tensor name -> change, float32; exactly what ``wire`` can say.
        ledger_head: Hash of the newest entry of the site's ledger.
        wire: What it travels as, one of ``WIRES``; the plan's.
    """

    site: str
    run: str
    number: int
    plan: str
    delta: Adapter
    ledger_head: str
    wire: str = FLOAT32


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRelease:
    """One site's noised metric of a round; only ``client/egress.py`` makes one.

    Attributes:
        site, run, number: Who answers which round of which run.
        plan: Digest of the plan that was followed.
        name: What is measured, such as ``ndcg@10``.
        value: Noised mean over the site's declared users; may lie outside [0, 1].
    """

    site: str
    run: str
    number: int
    plan: str
    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """All that leaves a site in a round that is not refused.

    Attributes:
        update: The adapter's noised change.
        metric: The released metric, if the plan asks for one and the policy allows it.
        witness: The signed end of the site's ledger, for the server to keep.
    """

    update: AdapterUpdate
    metric: MetricRelease | None
    witness: Witness


def plan_from_json(line: str) -> RoundPlan:
    """Read a plan strictly: unknown keys, wrong types and bad ranges are all reported.

    Guarantee: only the line that the plan's own ``to_json`` gives is read, so that both
    ends follow one plan, whose digest both know.

    Raises:
        ConfigError: If the line is not a plan.
    """
    try:
        raw = json.loads(line, parse_constant=_refuse, parse_float=_finite)
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
    except _UNREADABLE as error:
        raise ConfigError(
            f"round plan cannot be read: {type(error).__name__}"
        ) from None
    if _checked(plan).to_json() != line:
        raise ConfigError("round plan: not the canonical line of the plan that it says")
    return plan


LATER: Mapping[str, Mapping[str, object]] = {  # keys that older plans do not say
    "spec": {"down": "seed"},
    "mechanism": {"head_sigma": 0.0},
    "recipe": {"optimizer": "adam", "head": STEPS, "head_items": 100, "prior": OWN},
}


def kept_plan(line: str) -> RoundPlan:
    """Read a plan that a site kept; what it does not say was not there to be chosen.

    Raises:
        ConfigError: If the line is not a plan.
    """
    try:
        said = {"wire": FLOAT32, **json.loads(line)}
        for name, later in LATER.items():
            said[name] = {**later, **said[name]}
    except _UNREADABLE as error:
        raise ConfigError(f"kept plan cannot be read: {type(error).__name__}") from None
    return plan_from_json(json.dumps(said, sort_keys=True, separators=(",", ":")))


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number of a plan")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _checked(plan: RoundPlan) -> RoundPlan:
    """Return the plan, or raise with every value of its own that is out of range."""
    scalars: dict[str, Any] = {
        "run": str,
        "number": int,
        "quorum": int,
        "max_norm": float,
        "deadline_s": float,
        "wire": str,
    }
    faults = [
        f"{name} is not {kind.__name__}"
        for name, kind in scalars.items()
        if type(getattr(plan, name)) is not kind
    ]
    if not faults:
        faults = _plan_faults(plan)
    if faults:
        raise ConfigError("round plan: " + "; ".join(faults))
    return plan


def _plan_faults(plan: RoundPlan) -> list[str]:
    """Return what is out of range; a name or a size that is odd is not repeated."""
    checks = [
        (1 <= plan.number <= MOST_ROUNDS, f"number is not in 1..{MOST_ROUNDS}"),
        (plan.max_norm > 0, "max-norm is not above 0"),
        (plan.deadline_s > 0, "deadline-s is not above 0"),
        (plan.quorum >= 1, "quorum is not above 0"),
        (plan.wire in WIRES, f"wire is not one of {', '.join(WIRES)}"),
        (is_safe(plan.run), "run is not 1 to 64 letters, digits, '.', '_' or '-'"),
        (all(map(is_safe, plan.sites)), "sites holds something that is no name"),
        (
            all(TENSOR_NAME.fullmatch(name) for name in plan.shapes),
            "shapes holds something that is no tensor's name",
        ),
        (
            all(n >= 1 for shape in plan.shapes.values() for n in shape)
            and sum(map(math.prod, plan.shapes.values())) <= MOST_VALUES,
            f"shapes are empty or of more than {MOST_VALUES} values together",
        ),
    ]
    return [fault for holds, fault in checks if not holds]


def is_safe(name: object) -> bool:
    """Return whether ``name`` may name a run or a site, also in the name of a file."""
    return isinstance(name, str) and bool(SAFE_NAME.fullmatch(name))
