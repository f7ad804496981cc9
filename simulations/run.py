"""One simulation from scenario to report: world, arms, evaluation, files."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import tomli_w

from shared.encoder import base_digest
from shared.errors import ConfigError
from shared.limits import PURPOSES
from shared.start import write_start
from simulations import arms, cold, evaluate, report
from simulations.arms import Trained
from simulations.evaluate import Outcome, Score
from simulations.scenario import Scenario
from simulations.stage import Bench, Stage, Tell, arm_folder, main_arm, to_train
from simulations.world import World, make_world, write_data


def simulate(
    scenario: Scenario, out: Path, *, resume: bool, tell: Tell, newcomers: bool = False
) -> dict[str, object]:
    """Run the scenario in ``out`` and return its report, which is also written there.

    Args:
        scenario: What to run.
        out: The run's folder.
        resume: Whether to go on with what is there.
        tell: Told of every round.
        newcomers: Whether to train again for newcomers, and measure how they are
            served.

    Raises:
        ConfigError: If ``out`` holds another run, or this one without ``resume``.
    """
    begun = time.monotonic()
    _claim(out, scenario, resume=resume)
    world = make_world(scenario)
    stage = Stage(out, scenario, world, _prepare(out, scenario, world), resume, tell)
    prepared = time.monotonic()
    trained = {arm: _train(stage, arm) for arm in to_train(scenario)}
    fitted = time.monotonic()
    outcomes = [_outcome(stage, arm, trained) for arm in scenario.simulation.arms]
    timing = {
        "prepare_s": round(prepared - begun, 3),
        "train_s": round(fitted - prepared, 3),
        "evaluate_s": round(time.monotonic() - fitted, 3),
    }
    made = report.build(stage, trained, outcomes, timing)
    if newcomers:
        made["cold"] = cold.section(cold.cold_start(stage))
    report.write(out, made)
    report.save_adapter(stage, trained)
    return made


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
        write_start(start, scenario.simulation.base, spec)
    return Bench(spec, scenario.recipe(), start, data)


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
            stage,
            place,
            private=private,
            names=names,
            alone=arm == "local",
            watch=lambda told: stage.tell(arm, asked.rounds * len(groups), told),
        )
    return trained


def _outcome(stage: Stage, arm: str, trained: dict[str, list[Trained]]) -> Outcome:
    """Rank every site's held-out events by one arm."""
    world, bench = stage.world, stage.bench
    scores: list[Score]
    if arm == "popularity":
        scores, epsilon = evaluate.popularity_scores(world), math.inf
    elif arm == "text":
        sites = trained[main_arm(stage.scenario) or ""]
        scores = [evaluate.frozen_score(s, bench.spec, bench.recipe) for s in sites]
        epsilon = max(arms.spent(site, "popularity") for site in sites)
    else:
        scores = [_trained_score(stage, site) for site in trained[arm]]
        epsilon = max(arms.spent(s, *PURPOSES) for s in trained[arm])
    if stage.scenario.simulation.insecure_test_noise:
        epsilon = math.inf
    rankings = {
        name: evaluate.rank_site(score, split, len(data.catalogue))
        for name, score, split, data in zip(
            world.names, scores, world.splits, world.training, strict=True
        )
    }
    return Outcome(arm, epsilon, rankings)


def _trained_score(stage: Stage, site: Trained) -> Score:
    number, adapter = arms.final_adapter(site, stage.bench.start)
    return evaluate.trained_score(
        site, stage.bench.spec, stage.bench.recipe, adapter, number
    )
