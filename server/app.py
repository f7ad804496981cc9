"""Flower's ServerApp: run config -> plans -> rounds -> registry."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.aggregate import make_rule, restore_rule
from server.registry import Registry
from server.rounds import RoundReport, run
from server.settings import Settings, read_settings
from shared.errors import ConfigError
from shared.protocol import RoundPlan

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry out the run that the run config describes."""
    federate(grid, read_settings(context.run_config))


def federate(grid: Grid, settings: Settings) -> None:
    """Run the rounds that are missing in ``out``, one line of events for each.

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
            line = {"event": "round", "run": task.run, **asdict(report)}
            events.write(json.dumps(line) + "\n")
            events.flush()

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
            recipe=settings.recipe,
            shapes={name: array.shape for name, array in adapter.items()},
            max_norm=task.max_norm,
            quorum=task.needed,
            deadline_s=task.deadline_s,
        )
        for number in range(newest + 1, task.rounds + 1)
    ]
