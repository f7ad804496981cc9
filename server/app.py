"""Flower's ServerApp: run config -> plans -> rounds -> registry."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.aggregate import make_rule, restore_rule
from server.events import Begun, Ended, Event, to_line
from server.registry import Registry
from server.rounds import run
from server.settings import Settings, read_settings
from shared.errors import ConfigError
from shared.protocol import Recipe, RoundPlan

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry out the run that the run config describes."""
    federate(grid, read_settings(context.run_config))


def federate(
    grid: Grid, settings: Settings, tell: Callable[[Event], None] = lambda _: None
) -> None:
    """Run the rounds that are missing in ``out`` and record every event there.

    Args:
        grid: Where the sites are.
        settings: What to run.
        tell: Hears of each event as well, for a display.

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
    asked = plans(settings, registry)
    with journal(out / "events.jsonl", asked, task.rounds, tell) as watch:
        run(asked, grid, rule, registry, watch)


@contextmanager
def journal(
    path: Path,
    plans: Sequence[RoundPlan],
    rounds: int,
    tell: Callable[[Event], None],
) -> Iterator[Callable[[Event], None]]:
    """Record a run's events in ``path``, each at once, its begin and end among them.

    A line that an earlier process could not finish is taken out first. A run that has
    nothing left to do leaves no event.
    """
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)

        def watch(event: Event) -> None:
            file.write(to_line(event).encode() + b"\n")
            file.flush()
            tell(event)

        if not plans:
            yield watch
            return
        first = plans[0]
        watch(
            Begun(
                run=first.run,
                rounds=rounds,
                first=first.number,
                sites=first.sites,
                deadline_s=first.deadline_s,
            )
        )
        try:
            yield watch
        except Exception as error:
            watch(Ended(reason=type(error).__name__))
            raise
        watch(Ended(reason="Completed"))


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
