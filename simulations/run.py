"""One simulation from scenario to report: world, arms, evaluation, files."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tomli_w

from server.rounds import RoundReport
from shared.encoder import base_digest, open_encoder
from shared.errors import ConfigError
from simulations import arms, evaluate, report
from simulations.arms import Bench, Trained
from simulations.evaluate import Outcome, Score
from simulations.scenario import Scenario
from simulations.world import World, make_world, write_data

Tell = Callable[[str, int, RoundReport], None]  # arm, rounds of it in all, one round


@dataclass(frozen=True, slots=True)
class Stage:
    """What every arm of one simulation works with."""

    out: Path
    scenario: Scenario
    world: World
    bench: Bench
    resume: bool
    tell: Tell


def simulate(
    scenario: Scenario, out: Path, *, resume: bool, tell: Tell
) -> dict[str, object]:
    """Run the scenario in ``out`` and return its report, which is also written there.

    Raises:
        ConfigError: If ``out`` holds another run, or this one without ``resume``.
    """
    begun = time.monotonic()
    _claim(out, scenario, resume=resume)
    world = make_world(scenario)
    stage = Stage(out, scenario, world, _prepare(out, scenario, world), resume, tell)
    prepared = time.monotonic()
    trained = {arm: _train(stage, arm) for arm in _to_train(scenario)}
    fitted = time.monotonic()
    outcomes = [_outcome(stage, arm, trained) for arm in scenario.simulation.arms]
    timing = {
        "prepare_s": round(prepared - begun, 3),
        "train_s": round(fitted - prepared, 3),
        "evaluate_s": round(time.monotonic() - fitted, 3),
    }
    made = report.build(stage, trained, outcomes, timing)
    report.write(out, made)
    report.save_adapter(stage, trained)
    return made


def main_arm(scenario: Scenario) -> str | None:
    """Return the arm whose adapter, ledgers and rounds the run's folder shows first."""
    trained = _to_train(scenario)
    first = [arm for arm in ("federated", "federated-no-dp", "local") if arm in trained]
    return first[0] if first else None


def arm_folder(out: Path, scenario: Scenario, arm: str) -> Path:
    """Return where an arm works: the run's folder itself for the main arm."""
    return out if arm == main_arm(scenario) else out / "arms" / arm


def _claim(out: Path, scenario: Scenario, *, resume: bool) -> None:
    """Make the folder this run's own, or make sure that it is."""
    config = out / "config.toml"
    text = tomli_w.dumps(scenario.tables())
    if config.exists() and not resume:
        raise ConfigError(f"{out} holds a run already: give --resume, or another --out")
    if config.exists() and config.read_text("utf-8") != text:
        raise ConfigError(
            f"{config} differs from what is asked: resume with the same settings"
        )
    if not config.exists() and out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no run: give another --out")
    out.mkdir(parents=True, exist_ok=True)
    config.write_text(text, "utf-8")


def _prepare(out: Path, scenario: Scenario, world: World) -> Bench:
    """Write data and the start adapter, once."""
    spec = scenario.spec(base_digest(scenario.simulation.base))
    start, data = out / "start", out / "data"
    if not start.exists():
        write_data(data, world)
        encoder = open_encoder(scenario.simulation.base, spec, "cpu")
        encoder.set_adapter(
            {n: np.zeros(s, np.float32) for n, s in encoder.shapes().items()}
        )
        encoder.save(start)
    return Bench(spec, scenario.recipe(), start, data)


def _to_train(scenario: Scenario) -> list[str]:
    """Return the trained arms that are asked for, or that others are measured with."""
    asked = scenario.simulation.arms
    needed = [arm for arm in ("federated", "federated-no-dp", "local") if arm in asked]
    return needed or (["federated"] if "text" in asked else [])


def _train(stage: Stage, arm: str) -> list[Trained]:
    """Train one arm; ``local`` is one federation for each site."""
    asked, world = stage.scenario.simulation, stage.world
    private = not asked.no_dp and arm != "federated-no-dp"
    folder = arm_folder(stage.out, stage.scenario, arm)
    groups: Sequence[tuple[str, ...]] = (
        [(name,) for name in world.names] if arm == "local" else [world.names]
    )
    trained: list[Trained] = []
    for names in groups:
        place = folder / names[0] if arm == "local" else folder
        trained += arms.train_together(
            place,
            stage.scenario,
            world,
            stage.bench,
            private=private,
            names=names,
            resume=stage.resume,
            watch=lambda told: stage.tell(arm, asked.rounds * len(groups), told),
        )
    return trained


def _outcome(stage: Stage, arm: str, trained: dict[str, list[Trained]]) -> Outcome:
    """Rank every site's held-out events by one arm."""
    world, bench = stage.world, stage.bench
    scores: list[Score]
    if arm == "popularity":
        scores, private = evaluate.popularity_scores(world), False
    elif arm == "text":
        first = trained[main_arm(stage.scenario) or ""]
        scores = [
            evaluate.frozen_score(site, bench.spec, bench.recipe) for site in first
        ]
        private = first[0].private
    else:
        scores, private = (
            [_trained_score(stage, site) for site in trained[arm]],
            trained[arm][0].private,
        )
    rankings = {
        name: evaluate.rank_site(score, split, len(data.catalogue))
        for name, score, split, data in zip(
            world.names, scores, world.splits, world.training, strict=True
        )
    }
    return Outcome(arm, private, rankings)


def _trained_score(stage: Stage, site: Trained) -> Score:
    number, adapter = arms.final_adapter(site, stage.bench.start)
    return evaluate.trained_score(
        site, stage.bench.spec, stage.bench.recipe, adapter, number
    )
