"""What one simulation is asked, and what each of its arms makes of that."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from shared.config import read
from shared.protocol import AdapterSpec, Mechanism, Recipe

if TYPE_CHECKING:
    from server.settings import Federation

BASELINES = ("popularity", "item-knn", "ease", "als", "bpr")
NOT_PRIVATE = (  # arms that promise nothing, whatever the budget
    *BASELINES,
    *("central-no-dp", "local-no-dp", "federated-no-dp"),
)
ARMS = (
    *("popularity", "dp-popularity", "item-knn", "ease", "als", "bpr"),
    *("text", "text-dp-popularity", "cf"),
    *("central-no-dp", "local-no-dp", "local", "federated-no-dp", "federated"),
)
DEFAULT_ARMS = ("popularity", "text-dp-popularity", "local", "federated")
SPLITS = ("leave-two-out", "leave-one-out")
POSITIVES = ("likes", "all")
ATTACKS = ("random", "sign-flip", "promotion")
PEACE = "none"  # the same sites are set aside, and send what they learned
PRECISIONS = ("auto", "float32", "bfloat16")
PARTITIONS = ("iid", "size", "taste", "domain")
ENGINES = ("inprocess", "ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """The table ``[attack]``: what some sites do instead of what they are asked.

    Attributes:
        kind: ``random``, ``sign-flip`` or ``promotion`` (of one item); ``none`` is the
            clean run of the same users.
        sites: How many sites attack, the last ones, whose users are not evaluated.
        strength: Factor on what an attacking site sends.
    """

    kind: str = "sign-flip"
    sites: int = 0
    strength: float = 1.0

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = []
        if self.kind not in (*ATTACKS, PEACE):
            known = ", ".join((*ATTACKS, PEACE))
            faults.append(f"kind={self.kind!r} is not one of {known}")
        if self.sites < 0:
            faults.append(f"sites={self.sites} must not be below 0")
        if not 0 < self.strength < float("inf"):
            faults.append(f"strength={self.strength} must be finite and above 0")
        return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The table ``[simulation]``; what has no default here has it in ``DEFAULTS``.

    Attributes:
        data: Folder of a data set; empty for the generated population.
        sites: Number of sites.
        users: Number of generated users, all sites together.
        items: Number of generated items.
        split: ``leave-two-out``, or ``leave-one-out``, which trains on the validation
            event as well.
        positives: ``likes``, or ``all``: every event counts as a like.
        negatives: Also rank among so many random items that the user never met; 0 for
            the full ranking alone.
        cold_items: Share of the items whose events no site may train on.
        unseen_sites: So many sites, the last ones, never train: they are served with
            what the others trained.
        curves: Whether every round's version is measured on validation events.
        rounds: Rounds of every trained arm.
        epsilon: Budget of each site, for all its rounds and its popularity release.
        delta: Target delta of each site.
        prior_share: Part of the budget for the popularity release, as a share of mu**2
            (Gaussian DP), which adds up over releases.
        head_share: The same for the co-occurrence release, where the recipe asks for
            one.
        partition: How users come to sites: iid, size, taste or domain.
        attribute: Catalogue attribute that taste and domain go by; empty: found.
        engine: ``inprocess`` or ``ray``.
        arms: What to compare.
        seed: Of population, partition, data order, first factors and bootstrap.
        no_dp: Train every arm without clip and noise: NOT PRIVATE.
        insecure_test_noise: Repeatable noise from the seed: no privacy claim.
        base: Encoder.
        precision: Of frozen products in training: ``auto``, ``float32``, ``bfloat16``.
        workers: Processes that train and evaluate; 1 is this process alone, 0 as many
            as pay.
    """

    data: str = ""
    sites: int = 3
    users: int = 900
    items: int = 1320
    split: str = "leave-two-out"
    positives: str = "likes"
    negatives: int = 0
    cold_items: float = 0.0
    unseen_sites: int = 0
    curves: bool = True
    rounds: int
    epsilon: float = 8.0
    delta: float = 1e-5
    prior_share: float
    head_share: float
    partition: str = "iid"
    attribute: str = ""
    engine: str = "inprocess"
    arms: tuple[str, ...] = DEFAULT_ARMS
    seed: int = 0
    no_dp: bool = False
    insecure_test_noise: bool = False
    base: str = "minilm"
    precision: str = "auto"
    workers: int = 0

    def faults(self) -> list[str]:
        """Return one sentence for each value out of range."""
        faults = [
            f"{name}={value!r} is not one of {', '.join(known)}"
            for name, value, known in (
                ("partition", self.partition, PARTITIONS),
                ("engine", self.engine, ENGINES),
                ("precision", self.precision, PRECISIONS),
                ("split", self.split, SPLITS),
                ("positives", self.positives, POSITIVES),
                *(("arms", arm, ARMS) for arm in self.arms),
            )
            if value not in known
        ]
        faults += [
            f"{name}={value} must be at least 1"
            for name, value in (
                ("sites", self.sites),
                ("rounds", self.rounds),
                ("users", self.users),
            )
            if value < 1
        ]
        if not 0 < self.epsilon < float("inf"):
            faults.append(
                f"epsilon={self.epsilon} must be finite and above 0; see --no-dp"
            )
        faults += [
            f"{name}={share} is not in (0, 1)"
            for name, share in (
                ("prior-share", self.prior_share),
                ("head-share", self.head_share),
                ("prior-share + head-share", self.prior_share + self.head_share),
            )
            if not 0 < share < 1
        ]
        if not 0 < self.delta < 1:
            faults.append(f"delta={self.delta} is not in (0, 1)")
        if not 0 <= self.cold_items < 1:
            faults.append(f"cold-items={self.cold_items} is not in [0, 1)")
        if not 0 <= self.unseen_sites < max(1, self.sites):
            faults.append(
                f"unseen-sites={self.unseen_sites} must leave one of {self.sites} "
                "sites that trains"
            )
        faults += [
            f"{name}={value} must not be below 0"
            for name, value in (
                ("seed", self.seed),
                ("workers", self.workers),
                ("negatives", self.negatives),
            )
            if value < 0
        ]
        return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario: the table above, overrides of what is sent, single budgets.

    Attributes:
        simulation: What to run.
        overrides: Table name -> keys that differ from the defaults.
        budgets: Site name -> its own epsilon.
        attack: What hostile sites do.
        no_dp: The same tables again, for arms without privacy: what learns best under
            noise is not what learns best without.
        name: Of its file; ``generated`` without one.
    """

    simulation: Simulation
    overrides: Mapping[str, Mapping[str, Any]]
    budgets: Mapping[str, float]
    attack: Attack = Attack()
    no_dp: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = "generated"

    def of(self, arm: str) -> "Scenario":
        """Return the scenario as an arm runs it, with ``no_dp`` merged where due."""
        own = self.simulation
        if not self.no_dp or not (own.no_dp or arm in NOT_PRIVATE):
            return self
        rounds = self.no_dp.get("simulation", {}).get("rounds", own.rounds)
        merged = {
            name: {**keys, **self.no_dp.get(name, {})}
            for name, keys in self.overrides.items()
        }
        asked = replace(own, rounds=rounds)
        return replace(self, simulation=asked, overrides=merged, no_dp={})

    def tables(self) -> dict[str, Any]:
        """Return the scenario as it would stand in a file: all that makes the result.

        How many workers there are is not of it: a run may go on with others.
        """
        own = {
            name.replace("_", "-"): list(value) if isinstance(value, tuple) else value
            for name in Simulation.__dataclass_fields__
            for value in [getattr(self.simulation, name)]
            if name != "workers"
        }
        return {
            "simulation": own,
            **{name: dict(keys) for name, keys in self.overrides.items() if keys},
            **({"budgets": dict(self.budgets)} if self.budgets else {}),
            **({"attack": asdict(self.attack)} if self.attack.sites else {}),
            **({"no-dp": dict(self.no_dp)} if self.no_dp else {}),
        }

    def spec(self, base: str) -> AdapterSpec:
        """Return the adapter's spec on the encoder with digest ``base``."""
        return read(AdapterSpec, {"base": base, **self.overrides["spec"]}, "[spec]")

    def recipe(self) -> Recipe:
        """Return how a step learns."""
        return read(
            Recipe,
            {"seed": self.simulation.seed, **self.overrides["recipe"]},
            "[recipe]",
        )

    def mechanism(self, **noise: float) -> Mechanism:
        """Return the mechanism; ``noise`` gives sigma, and prior-sigma if zero."""
        noisy = {key.replace("_", "-"): value for key, value in noise.items()}
        return read(Mechanism, {**self.overrides["mechanism"], **noisy}, "[mechanism]")

    def federation(self, **rest: object) -> "Federation":
        """Return what the server is asked; ``rest`` follows from the arm."""
        from server.settings import Federation  # noqa: PLC0415  # Flower, only when used

        own = {key.replace("_", "-"): value for key, value in rest.items()}
        return read(Federation, {**self.overrides["federation"], **own}, "[federation]")


def site_names(count: int) -> tuple[str, ...]:
    """Return ``site-1`` to ``site-N``, padded so that they sort in order."""
    width = len(str(count))
    return tuple(f"site-{number:0{width}}" for number in range(1, count + 1))
