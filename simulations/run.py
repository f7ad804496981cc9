"""One simulation from scenario to report: world, arms, evaluation, files."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from client.mapping import FILE
from shared.errors import ConfigError
from shared.protocol import SHARED
from simulations import arms, jobs
from simulations.arms import Trained
from simulations.crew import Crew
from simulations.footprint import Watched
from simulations.outcomes import outcomes
from simulations.report import build, files, page
from simulations.scenario import NOT_PRIVATE, Scenario
from simulations.stage import CENTRAL, LOCAL, Bench, Stage, Tell, arm_folder, to_train
from simulations.world import CENTRE, World, centre, make_world, write_data


def simulate(
    scenario: Scenario,
    out: Path,
    *,
    resume: bool,
    tell: Tell,
    newcomers: bool = False,
    crew: Crew | None = None,
) -> dict[str, Any]:
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
    if newcomers and scenario.simulation.cold_items:
        raise ConfigError("--cold holds items back of its own: give cold-items=0")
    begun, crew = time.monotonic(), crew or Crew()
    _claim(out, scenario, resume=resume)
    world = make_world(scenario)
    bench = prepare(out, scenario, world, crew)
    stage = Stage(out, scenario, world, bench, resume, tell, crew)
    prepared = time.monotonic()
    with Watched() as memory:
        trained = _train(stage)
    fitted = time.monotonic()
    found = outcomes(stage, trained)
    timing = {
        "prepare_s": round(prepared - begun, 3),
        "train_s": round(fitted - prepared, 3),
        "evaluate_s": round(time.monotonic() - fitted, 3),
    }
    made = build.build(stage, trained, found, timing)
    made["memory"] = memory.told()
    if newcomers:
        from simulations import cold  # noqa: PLC0415  # torch, only when it is asked

        made["cold"] = cold.section(cold.cold_start(stage))
    files.write(out, made)
    page.write_page(out, made)
    files.save_adapter(stage, trained)
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


def prepare(
    out: Path, scenario: Scenario, world: World, crew: Crew | None = None
) -> Bench:
    """Write data and the start adapter, once."""
    start, data = out / "start", out / "data"
    if not start.exists():
        write_data(data, world)
    shared = _shared(scenario, world)
    spec = (crew or Crew()).do(start, jobs.begin, start, scenario, shared)
    if not scenario.simulation.no_dp:
        arms.mechanism_for(scenario, private=True)  # found meanwhile, and kept
    return Bench(spec.result(), start, data)


def _shared(scenario: Scenario, world: World) -> tuple[str, ...]:
    """Return the ids of the items whose popularity is shared, if the recipe says so.

    Raises:
        ConfigError: If the sites' catalogues are not one.
    """
    if scenario.recipe().prior != SHARED:
        return ()
    catalogues = {data.catalogue.ids for data in world.training}
    if len(catalogues) > 1:
        raise ConfigError(
            f"recipe.prior='shared' with {len(catalogues)} different catalogues: give "
            "recipe.prior=own, or a partition in which all sites have the same items"
        )
    return catalogues.pop()


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
    """Return who trains together; hostile sites have no part where nobody shares."""
    names, honest = stage.world.trains, stage.honest()
    if arm in LOCAL:
        return [(name,) for name in honest]
    return [(CENTRE,)] if arm == CENTRAL else [names]


def _train_group(stage: Stage, arm: str, names: tuple[str, ...]) -> list[Trained]:
    """Train one federation of an arm."""
    stage = stage.of(arm)
    asked = stage.scenario.simulation
    folder = arm_folder(stage.out, stage.scenario, arm)
    of = asked.rounds * len(_groups(stage, arm))
    alone = arm in LOCAL
    return arms.train_together(
        _centred(stage, folder) if arm == CENTRAL else stage,
        folder / names[0] if alone else folder,
        private=not asked.no_dp and arm not in NOT_PRIVATE,
        names=names,
        alone=alone or arm == CENTRAL,
        watch=lambda told: stage.tell(arm, of, told),
    )


def _centred(stage: Stage, folder: Path) -> Stage:
    """Return the stage with all users at one site, whose data are written once."""
    world, data = centre(stage.world, stage.honest()), folder / "data"
    if not (data / CENTRE / FILE).exists():
        write_data(data, world)
    return replace(stage, world=world, bench=replace(stage.bench, data=data))
