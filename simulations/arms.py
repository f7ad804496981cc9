"""The arms of a comparison: who trains what, on the same sites and the same split.

A trained arm runs the real server and client apps; ``local`` is a federation of one for
each site. Every trained arm has site folders and ledgers of its own, because arms are
alternatives, not steps that one site would take one after the other.
"""

import math
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from client.app import app
from client.site import open_site
from server.app import federate
from server.events import Event, RoundReport, read_events
from server.registry import Registry
from server.settings import Settings
from shared.accounting import GaussianEvent, epsilon, noise_for, release_noise
from shared.errors import BudgetSpent, RoundError
from shared.protocol import COOCCURRENCE, Adapter, Mechanism
from simulations.attack import data_of, turns
from simulations.crew import Crew
from simulations.crew_grid import CrewGrid
from simulations.grid import LocalGrid, Turn
from simulations.scenario import Scenario
from simulations.stage import Stage
from simulations.world import write_site

Watch = Callable[[RoundReport], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """What an arm left on disk for one site.

    Attributes:
        name: The site.
        folder: The site's folder, with its ledger and its head.
        registry: Versions of the adapter that the site uses.
        private: Whether the arm promises anything.
    """

    name: str
    folder: Path
    registry: Path
    private: bool


def mechanism_for(scenario: Scenario, *, private: bool) -> Mechanism:
    """Return q, sigma, clip and steps of every round.

    The releases before training get their shares of the budget; sigma is then the
    smallest, rounded up, that keeps these and all steps of all rounds within epsilon.
    Without privacy all are zero.
    """
    if not private:
        return scenario.mechanism(sigma=0.0, prior_sigma=0.0, head_sigma=0.0)
    asked, shape = scenario.simulation, scenario.mechanism(sigma=1.0)
    whole = release_noise(asked.epsilon, asked.delta)
    prior_sigma, head_sigma = (
        math.ceil(100 * whole / math.sqrt(share)) / 100
        for share in (asked.prior_share, asked.head_share)
    )
    if scenario.recipe().head != COOCCURRENCE:
        head_sigma = 0.0
    sigma = noise_for(
        asked.epsilon,
        asked.delta,
        q=shape.q,
        steps=shape.steps * asked.rounds,
        others=[
            *_releases(prior_sigma, head_sigma),
            *_metric_events(shape, asked.rounds),
        ],
    )
    return scenario.mechanism(
        sigma=sigma, prior_sigma=prior_sigma, head_sigma=head_sigma
    )


def _releases(*sigmas: float) -> list[GaussianEvent]:
    """Return the releases before training: every user, one step each; 0 makes none."""
    return [GaussianEvent(q=1.0, sigma=sigma, steps=1) for sigma in sigmas if sigma]


def _metric_events(mechanism: Mechanism, rounds: int) -> list[GaussianEvent]:
    """Return what the metrics of all rounds cost, if the mechanism asks for any."""
    if not mechanism.metric_sigma:
        return []
    sigma = mechanism.metric_sigma
    return [GaussianEvent(q=mechanism.q, sigma=sigma, steps=rounds)]


def train_together(
    stage: Stage,
    folder: Path,
    *,
    private: bool,
    names: Sequence[str],
    alone: bool,
    watch: Watch,
) -> list[Trained]:
    """Run one federation of the sites ``names`` in ``folder``.

    A site that trains ``alone`` stops where its budget ends and keeps what it has.
    """
    scenario, world, bench = stage.scenario, stage.world, stage.bench
    hostile = turns(scenario)
    folder.mkdir(parents=True, exist_ok=True)
    sites = {
        name: write_site(
            folder,
            name,
            data_of(scenario, world, name, bench.data / name, folder),
            scenario=scenario,
            users=len(data.histories),
            private=private,
        )
        for name, data in zip(world.names, world.training, strict=True)
        if name in names
    }
    settings = Settings(
        federation=scenario.federation(
            run="run",
            out=str(folder.resolve()),
            start=str(bench.start.resolve()),
            sites=",".join(names),
            rounds=scenario.simulation.rounds,
            resume=stage.resume,
            **(_lone_terms(scenario) if alone else {}),
        ),
        spec=bench.spec,
        mechanism=mechanism_for(scenario, private=private),
        recipe=scenario.recipe(),
    )
    try:
        if scenario.simulation.engine == "ray":
            _by_ray(settings, sites, watch)
        else:
            _in_process(settings, sites, watch, stage.crew, hostile)
    except RoundError:
        if not (alone and all(_budget_is_spent(site) for site in sites.values())):
            raise
    registry = folder / "registry"
    return [Trained(name, sites[name], registry, private) for name in names]


def _lone_terms(scenario: Scenario) -> dict[str, object]:
    """Return what suits a site alone: its own quorum, and nothing for Krum to pick."""
    krum = scenario.overrides["federation"].get("rule") in {"krum", "multikrum"}
    return {"quorum": 1, **({"rule": "fedavg"} if krum else {})}


def _budget_is_spent(folder: Path) -> bool:
    """Return whether the site's ledger ends with a refusal for want of budget."""
    newest = open_site(folder).open_ledger().entries()[-1]
    return newest.body.get("reason") == BudgetSpent.__name__


def _in_process(
    settings: Settings,
    sites: dict[str, Path],
    watch: Watch,
    crew: Crew,
    hostile: Mapping[str, Turn],
) -> None:
    """Run the server in this process, and the clients too or at the crew's workers."""
    nodes = {name: {"site": str(site.resolve())} for name, site in sites.items()}

    def tell(event: Event) -> None:
        if isinstance(event, RoundReport):
            watch(event)

    grid = (
        CrewGrid(crew, nodes, turns=hostile)
        if crew.workers > 1
        else LocalGrid(app, nodes, turns=hostile)
    )
    federate(grid, settings, tell)


def _by_ray(settings: Settings, sites: dict[str, Path], watch: Watch) -> None:
    """Run the same apps under ``flwr run`` with Flower's simulation runtime."""
    from simulations.ray_engine import build_app, run_by_flower  # noqa: PLC0415

    out = Path(settings.federation.out)
    flower = out / "flower"
    shutil.rmtree(flower, ignore_errors=True)
    before = len(read_rounds(out))
    run_by_flower(
        build_app(flower / "tacit-app", settings.flat()),
        nodes=len(sites),
        sites_folder=out.resolve() / "sites",
        flwr_home=flower / "home",
        port=_free_port(),
    )
    for report in read_rounds(out)[before:]:
        watch(report)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read_rounds(out: Path) -> list[RoundReport]:
    """Return the rounds that a server recorded in ``out/events.jsonl``."""
    events = read_events(out / "events.jsonl")
    return [RoundReport.of(said) for said in events if said["event"] == "round"]


def final_adapter(trained: Trained, start: Path) -> tuple[int, Adapter]:
    """Return the newest version's number and exchanged tensors; 0 is the start."""
    return Registry.open(trained.registry, start).current()


def newest_version(trained: Trained, start: Path) -> Path:
    """Return the PEFT folder of the newest version."""
    registry = Registry.open(trained.registry, start)
    return registry.folder(registry.newest())


def describe(scenario: Scenario, *, private: bool) -> dict[str, float]:
    """Return the mechanism of every round as plain numbers."""
    return asdict(mechanism_for(scenario, private=private))


def epsilon_after(scenario: Scenario, rounds: int) -> float:
    """Return the epsilon of a site that took part in the first ``rounds`` rounds."""
    mechanism = mechanism_for(scenario, private=True)
    steps = GaussianEvent(
        q=mechanism.q, sigma=mechanism.sigma, steps=mechanism.steps * rounds
    )
    charged = [
        *_releases(mechanism.prior_sigma, mechanism.head_sigma),
        steps,
        *_metric_events(mechanism, rounds),
    ]
    return epsilon(charged, scenario.simulation.delta)


def spent(site: Trained, *purposes: str) -> float:
    """Return the epsilon of what a site charged for these purposes, from its ledger."""
    opened = open_site(site.folder)
    charged = [
        entry.body
        for entry in opened.open_ledger().entries()
        if entry.state == "planned" and entry.body["what"] in purposes
    ]
    if any(body["sigma"] is None for body in charged):
        return math.inf
    events = [
        GaussianEvent(q=b["q"], sigma=b["sigma"], steps=b["steps"]) for b in charged
    ]
    return epsilon(events, opened.policy.delta)
