"""What the arms of one simulation share, and where each of them works."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from server.events import RoundReport
from shared.protocol import AdapterSpec
from simulations.crew import Crew
from simulations.scenario import Scenario
from simulations.world import World

Tell = Callable[[str, int, RoundReport], None]  # arm, rounds of it in all, one round


@dataclass(frozen=True, slots=True)
class Bench:
    """What all trained arms share: encoder, spec, start adapter and data folders."""

    spec: AdapterSpec
    start: Path
    data: Path


@dataclass(frozen=True, slots=True)
class Stage:
    """What every arm of one simulation works with."""

    out: Path
    scenario: Scenario
    world: World
    bench: Bench
    resume: bool
    tell: Tell
    crew: Crew = field(default_factory=Crew)

    def of(self, arm: str) -> "Stage":
        """Return the stage with the scenario as an arm runs it."""
        return replace(self, scenario=self.scenario.of(arm))

    def honest(self) -> tuple[str, ...]:
        """Return the sites that train and do not attack."""
        trains = self.world.trains
        return trains[: len(trains) - self.scenario.attack.sites]


CENTRAL = "central-no-dp"
LOCAL = ("local", "local-no-dp")  # each site is a federation of its own
TRAINED = ("federated", "federated-no-dp", *LOCAL, CENTRAL)
RELEASED = ("dp-popularity", "text-dp-popularity")  # by what a private arm released


def to_train(scenario: Scenario) -> list[str]:
    """Return the trained arms that are asked for, or that others are measured with."""
    asked = {*scenario.simulation.arms}
    if "cf" in asked:
        asked.add("local")
    if asked.intersection(RELEASED) and not asked.intersection(("federated", "local")):
        asked.add("federated")
    return [arm for arm in TRAINED if arm in asked]


def main_arm(scenario: Scenario) -> str | None:
    """Return the arm whose adapter, ledgers and rounds the run's folder shows first."""
    return next(iter(to_train(scenario)), None)


def releasing_arm(scenario: Scenario) -> str:
    """Return the arm whose sites' released popularity the arms ``RELEASED`` show."""
    return "federated" if "federated" in to_train(scenario) else "local"


def arm_folder(out: Path, scenario: Scenario, arm: str) -> Path:
    """Return where an arm works: the run's folder itself for the main arm."""
    return out if arm == main_arm(scenario) else out / "arms" / arm
