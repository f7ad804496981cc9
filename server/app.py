"""Flower's ServerApp: run config -> plans -> rounds -> registry."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.aggregate import make_rule, restore_rule
from server.registry import Registry
from server.rounds import RoundReport, run
from server.settings import Settings, read_settings
from shared.errors import ConfigError
from shared.protocol import Recipe, RoundPlan

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry out the run that the run config describes."""
    federate(grid, read_settings(context.run_config))


def federate(
    grid: Grid, settings: Settings, tell: Callable[[RoundReport], None] = lambda _: None
) -> None:
    """Run the rounds that are missing in ``out``, one line of events for each.

    Args:
        grid: Where the sites are.
        settings: What to run.
        tell: Hears of each round as well, for a display.

    Raises:
        ConfigError: If ``out`` already holds versions that this run may not follow.
    """
    task = settings.federation
    out = Path(task.out)
    registry = Registry.open(out / "registry", Path(task.start))
    rule = make_rule(
        task.rule,
        learning_rate=task.server_learning_rate,
        trim=task.trim,
        malicious=task.malicious,
    )
    require_own(registry, settings, type(rule).__name__)
    restore_rule(rule, registry.rule_state())
    with (out / "events.jsonl").open("a", encoding="utf-8") as events:

        def watch(report: RoundReport) -> None:
            events.write(report.to_json() + "\n")
            events.flush()
            tell(report)

        run(plans(settings, registry), grid, rule, registry, watch)


def require_own(registry: Registry, settings: Settings, rule: str) -> None:
    """Raise unless ``registry`` is empty, or resumed by the run that filled it."""
    number = registry.newest()
    if number == 0:
        return
    if not settings.federation.resume:
        raise ConfigError(
            f"{registry.root} already holds round {number}; go on with --resume, or"
            " choose another folder"
        )
    found = registry.manifest(number)
    wanted: Mapping[str, str] = {
        "run": settings.federation.run,
        "base": settings.spec.base,
        "rule": rule,
    }
    faults = [
        f"{key}={found[key]!r}, not {value!r}"
        for key, value in wanted.items()
        if found[key] != value
    ]
    if faults:
        raise ConfigError(f"{registry.root} holds another run: {'; '.join(faults)}")


def plans(settings: Settings, registry: Registry) -> list[RoundPlan]:
    """Return the plans of the rounds that follow the newest version."""
    task = settings.federation
    newest, adapter = registry.current()
    return [
        RoundPlan(
            run=task.run,
            number=number,
            sites=task.names,
            spec=settings.spec,
            mechanism=settings.mechanism,
            recipe=_decayed(settings, number),
            shapes={name: array.shape for name, array in adapter.items()},
            max_norm=task.max_norm,
            quorum=task.needed,
            deadline_s=task.deadline_s,
        )
        for number in range(newest + 1, task.rounds + 1)
    ]


def _decayed(settings: Settings, number: int) -> Recipe:
    """Return the recipe of a round: its step sizes fall linearly over the run."""
    share = 1 - (number - 1) / settings.federation.rounds
    recipe = settings.recipe
    return replace(
        recipe,
        learning_rate=recipe.learning_rate * share,
        head_learning_rate=recipe.head_learning_rate * share,
    )
