"""One simulation from scenario to report: world, arms, evaluation, files."""

import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import tomli_w

from shared.errors import ConfigError
from shared.limits import PURPOSES
from simulations import arms, evaluate, jobs, report
from simulations.arms import Trained
from simulations.crew import Crew, at_once
from simulations.evaluate import Outcome, Ranking
from simulations.scenario import Scenario
from simulations.stage import Bench, Stage, Tell, arm_folder, main_arm, to_train
from simulations.world import World, make_world, write_data


def simulate(
    scenario: Scenario,
    out: Path,
    *,
    resume: bool,
    tell: Tell,
    newcomers: bool = False,
    crew: Crew | None = None,
) -> dict[str, object]:
    """Run the scenario in ``out`` and return its report, which is also written there.

    Args:
        scenario: What to run.
        out: The run's folder.
        resume: Whether to go on with what is there.
        tell: Told of every round.
        newcomers: Whether to train again for newcomers, and measure how they are
            served.
        crew: Who trains and evaluates; by default this process alone.

    Raises:
        ConfigError: If ``out`` holds another run, or this one without ``resume``.
    """
    begun, crew = time.monotonic(), crew or Crew()
    _claim(out, scenario, resume=resume)
    world = make_world(scenario)
    bench = _prepare(out, scenario, world, crew)
    stage = Stage(out, scenario, world, bench, resume, tell, crew)
    prepared = time.monotonic()
    trained = _train(stage)
    fitted = time.monotonic()
    outcomes = _outcomes(stage, trained)
    timing = {
        "prepare_s": round(prepared - begun, 3),
        "train_s": round(fitted - prepared, 3),
        "evaluate_s": round(time.monotonic() - fitted, 3),
    }
    made = report.build(stage, trained, outcomes, timing)
    if newcomers:
        from simulations import cold  # noqa: PLC0415  # torch, only when it is asked

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


def _prepare(
    out: Path, scenario: Scenario, world: World, crew: Crew | None = None
) -> Bench:
    """Write data and the start adapter, once."""
    start, data = out / "start", out / "data"
    if not start.exists():
        write_data(data, world)
    spec = (crew or Crew()).do(start, jobs.begin, start, scenario)
    if not scenario.simulation.no_dp:
        arms.mechanism_for(scenario, private=True)  # found meanwhile, and kept
    return Bench(spec.result(), scenario.recipe(), start, data)


def _train(stage: Stage) -> dict[str, list[Trained]]:
    """Train all arms, as many federations at a time as there are workers."""
    asked = to_train(stage.scenario)
    groups = [(arm, names) for arm in asked for names in _groups(stage, arm)]
    trained: dict[str, list[Trained]] = {arm: [] for arm in asked}
    found = stage.crew.side_by_side(lambda group: _train_group(stage, *group), groups)
    for (arm, _), sites in zip(groups, found, strict=True):
        trained[arm] += sites
    return trained


def _groups(stage: Stage, arm: str) -> Sequence[tuple[str, ...]]:
    """Return who trains together: ``local`` is one federation for each site."""
    names = stage.world.names
    return [(name,) for name in names] if arm == "local" else [names]


def _train_group(stage: Stage, arm: str, names: tuple[str, ...]) -> list[Trained]:
    """Train one federation of an arm."""
    asked = stage.scenario.simulation
    folder = arm_folder(stage.out, stage.scenario, arm)
    of = asked.rounds * len(_groups(stage, arm))
    return arms.train_together(
        stage,
        folder / names[0] if arm == "local" else folder,
        private=not asked.no_dp and arm != "federated-no-dp",
        names=names,
        alone=arm == "local",
        watch=lambda told: stage.tell(arm, of, told),
    )


def _outcomes(stage: Stage, trained: Mapping[str, Sequence[Trained]]) -> list[Outcome]:
    """Rank every site's held-out events by every arm."""
    asked = stage.scenario.simulation.arms
    ranked = {arm: _ranked(stage, arm, trained) for arm in asked}
    return [
        Outcome(
            arm,
            _spent(stage, arm, trained),
            {name: ranking.result() for name, ranking in sites.items()},
        )
        for arm, sites in ranked.items()
    ]


def _ranked(
    stage: Stage, arm: str, trained: Mapping[str, Sequence[Trained]]
) -> dict[str, Future[Ranking]]:
    """Let every site's held-out events be ranked by one arm."""
    world, bench = stage.world, stage.bench
    sizes = [len(data.catalogue) for data in world.training]
    held = dict(zip(world.names, zip(world.splits, sizes, strict=True), strict=True))
    if arm == "popularity":
        popular = stage.crew.do(bench.data, jobs.popularity, world).result()
        return {
            name: at_once(evaluate.rank_site, evaluate.constant(counts), *held[name])
            for name, counts in zip(world.names, popular, strict=True)
        }
    known = bench.spec, bench.recipe
    if arm == "text":
        return {
            site.name: stage.crew.do(
                site.folder, jobs.rank_frozen, site, *known, *held[site.name]
            )
            for site in trained[main_arm(stage.scenario) or ""]
        }
    return {
        site.name: stage.crew.do(
            site.folder, jobs.rank_trained, site, *known, bench.start, *held[site.name]
        )
        for site in trained[arm]
    }


def _spent(stage: Stage, arm: str, trained: Mapping[str, Sequence[Trained]]) -> float:
    """Return what an arm's sites spent at most, recomputed from their ledgers."""
    if arm == "popularity" or stage.scenario.simulation.insecure_test_noise:
        return math.inf
    if arm == "text":
        sites = trained[main_arm(stage.scenario) or ""]
        return max(arms.spent(site, "popularity") for site in sites)
    return max(arms.spent(site, *PURPOSES) for site in trained[arm])
