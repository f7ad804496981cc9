"""Flower's ServerApp: run config -> plans -> rounds -> registry."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server.aggregate import make_rule, restore_rule
from server.delivery import deliver
from server.events import Begun, Ended, Event, Released, to_line
from server.registry import Registry
from server.releases import in_force, set_current
from server.rounds import run
from server.settings import Federation, Settings, read_settings
from shared.errors import ConfigError, RoundError
from shared.logs import log_as_asked
from shared.protocol import Recipe, RoundPlan

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry out the run that the run config describes."""
    log_as_asked()
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
    registry = Registry.open(out / "registry", Path(task.start), task.key)
    rule = make_rule(
        task.rule,
        learning_rate=task.server_learning_rate,
        trim=task.trim,
        malicious=task.malicious,
    )
    require_own(registry, settings, type(rule).__name__)
    restore_rule(rule, registry.rule_state())
    asked = plans(settings, registry)
    begun = Begun(
        run=task.run,
        rounds=task.rounds,
        first=task.rounds - len(asked) + 1,
        sites=task.names,
        deadline_s=task.deadline_s,
    )
    with journal(out / "events.jsonl", begun, tell) as watch:
        run(asked, grid, rule, registry, watch)
        if task.key:
            watch(release(grid, task))


def release(grid: Grid, task: Federation) -> Released:
    """Put the last version of a run in force, once, and send what is in force.

    After a rollback that is an older one. A site that is away gets it another time.
    """
    operator = Path(task.out).parents[1]
    set_current(operator, task.run)
    current = in_force(operator)
    if current is None:
        raise RoundError(f"run {task.run} has no version to release")
    told = deliver(grid, current, task.names, task.deadline_s)
    return Released(release=current.pointer.release, told=told)


@contextmanager
def journal(
    path: Path, begun: Begun, tell: Callable[[Event], None]
) -> Iterator[Callable[[Event], None]]:
    """Record a run's events in ``path``, each at once, its begin and end among them.

    A line that an earlier process could not finish is taken out first.
    """
    with path.open("a+b", buffering=0) as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)

        def watch(event: Event) -> None:
            line = to_line(event).encode() + b"\n"
            try:
                whole = file.write(line) == len(line)
            except OSError:
                whole = False
            if not whole:
                raise RoundError(f"{path} cannot be written; make room, then --resume")
            tell(event)

        watch(begun)
        try:
            yield watch
        except Exception as error:
            with suppress(RoundError):  # the disk may be what failed
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
            wire=task.wire,
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
