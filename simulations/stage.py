"""What the arms of one simulation share, and where each of them works."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from server.events import RoundReport
from shared.protocol import AdapterSpec, Recipe
from simulations.crew import Crew
from simulations.scenario import Scenario
from simulations.world import World

Tell = Callable[[str, int, RoundReport], None]  # arm, rounds of it in all, one round


@dataclass(frozen=True, slots=True)
class Bench:
    """What all trained arms share: encoder, spec, start adapter and data folders."""

    spec: AdapterSpec
    recipe: Recipe
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


def to_train(scenario: Scenario) -> list[str]:
    """Return the trained arms that are asked for, or that others are measured with."""
    asked = scenario.simulation.arms
    needed: list[str] = [
        arm for arm in ("federated", "federated-no-dp", "local") if arm in asked
    ]
    return needed or (["federated"] if "text" in asked else [])


def main_arm(scenario: Scenario) -> str | None:
    """Return the arm whose adapter, ledgers and rounds the run's folder shows first."""
    return next(iter(to_train(scenario)), None)


def arm_folder(out: Path, scenario: Scenario, arm: str) -> Path:
    """Return where an arm works: the run's folder itself for the main arm."""
    return out if arm == main_arm(scenario) else out / "arms" / arm
