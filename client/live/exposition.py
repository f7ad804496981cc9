"""A site's figures for its own Prometheus: budget, rounds, node; no count of users."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from client.budget import Budget
from client.live.view import View
from client.standing import State


@dataclass(frozen=True, slots=True, eq=False)
class Figures(Collector):
    """The figures of one view."""

    view: View

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        view = self.view
        faults = float(len(view.faults))
        yield _gauge("tacit_site_faults", "What cannot be read or believed.", faults)
        paused, gone = float(view.node.paused), float(view.node.left)
        yield _gauge("tacit_site_paused", "Whether the site pauses.", paused)
        yield _gauge("tacit_site_left", "Whether the site has left.", gone)
        yield _states(view.node.state)
        if view.budget:
            yield from _budget(view.budget)
        took, bytes_out = float(view.took_part), float(view.bytes)
        yield _counter("tacit_site_rounds", "Rounds it was charged for.", took)
        yield _counter("tacit_site_bytes_out", "Bytes of all that left.", bytes_out)
        yield _refusals(view)
        if view.rounds:
            when = datetime.fromisoformat(view.rounds[0].time).timestamp()
            text = "When the newest round began."
            yield _gauge("tacit_site_last_round_timestamp_seconds", text, when)


def _states(current: str) -> Metric:
    family = GaugeMetricFamily(
        "tacit_site_node", "1 for the state of the node.", labels=["state"]
    )
    for state in get_args(State):
        family.add_metric([state], float(state == current))
    return family


def _budget(budget: Budget) -> Iterator[Metric]:
    """Yield what is spent; infinite where something left without noise."""
    text = "Privacy spent, users added or removed."
    yield _gauge("tacit_site_epsilon_spent", text, budget.spent)
    yield _gauge("tacit_site_epsilon_limit", "The site's budget.", budget.limit)
    if budget.rounds_left is not None:
        text = "Rounds like the last that still fit."
        yield _gauge("tacit_site_rounds_left", text, budget.rounds_left)


def _refusals(view: View) -> Metric:
    family = CounterMetricFamily(
        "tacit_site_refusals", "Rounds that the site refused.", labels=["reason"]
    )
    for reason, times in view.refusals.items():
        family.add_metric([reason], times)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)
