"""The world of the loop's tests: a registry to fill, sites of known worth, reports."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp

from server.aggregate import make_rule
from server.events import Event, RoundReport
from server.registry import Registry
from server.rounds import run
from shared.protocol import Adapter, AdapterUpdate, RoundPlan
from shared.wire import pack_refusal
from simulations.grid import LocalGrid
from tests.standin import (
    B,
    Behaviour,
    a_client,
    a_plan,
    an_update,
    node_configs,
    packed,
    valued,
)

VALUES = {"a": 1.0, "b": 3.0, "c": 5.0}


@dataclass
class World:
    """A registry to fill and what was told of its rounds."""

    registry: Registry
    events: list[Event] = field(default_factory=list)

    @property
    def reports(self) -> list[RoundReport]:
        """What was told at the end of each round."""
        return [event for event in self.events if isinstance(event, RoundReport)]

    def run(self, grid: LocalGrid, plans: Sequence[RoundPlan] | None = None) -> None:
        rule = make_rule("fedavg")
        run(plans or [a_plan()], grid, rule, self.registry, self.events.append)

    def value(self) -> float:
        """The value in the first row of the current adapter."""
        _, adapter = self.registry.current()
        assert adapter[B][0, 0] == adapter[B][0, 1]
        return float(adapter[B][0, 0])


def a_grid(
    app: ClientApp | None = None,
    sites: Sequence[str] = ("a", "b", "c"),
    *,
    named: bool = True,
    hold: Callable[[Message], bool] = lambda _reply: False,
) -> LocalGrid:
    app = app or a_client(VALUES)
    return LocalGrid(app, node_configs(*sites), named=named, hold=hold)


def worth(site: str, plan: RoundPlan) -> AdapterUpdate:
    """What an honest site of ``VALUES`` sends."""
    return replace(an_update(plan, site), delta={B: valued(site, VALUES[site])})


def with_(**changes: object) -> Behaviour:
    def behave(
        _plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate
    ) -> RecordDict:
        return packed(replace(update, **changes))  # type: ignore[arg-type]

    return behave


def raising(_plan: RoundPlan, _adapter: Adapter, _update: AdapterUpdate) -> RecordDict:
    raise ValueError("user 17")


def refusing(_plan: RoundPlan, _adapter: Adapter, update: AdapterUpdate) -> RecordDict:
    return pack_refusal(update.site, "PolicyRefused")
