"""Figures of serving for Prometheus: by route and kind of answer, never by user.

Each process counts for itself. Where ``PROMETHEUS_MULTIPROC_DIR`` names an empty folder
before they start, they share it, and any of them tells the sums.
"""

import os
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from client.serving.contract import ModelCard
from client.serving.limits import Room

SHARED = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
METHODS = {"GET", "POST", "PUT", "DELETE"}


class Requests(Collector):
    """Counts answers, and the requests that are under way."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._own = registry = CollectorRegistry()
        self._counted = Counter(
            "tacit_serving_requests",
            "Answers, by route and the first digit of their status.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._lasted = Histogram(
            "tacit_serving_seconds",
            "How long an answer took.",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._waiting = Gauge(
            "tacit_serving_waiting",
            "Requests under way when the last answer was given.",
            multiprocess_mode="livesum",
            registry=registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answer.

        Args:
            method: Of the request.
            route: The path as it was declared, with ``{user}`` for a user; empty if
                there is none like it.
            status: Of the answer; 0 if the connection went before there was one.
            seconds: Until its end.
        """
        known = method if method in METHODS else "other"
        self._counted.labels(known, route or "other", f"{status // 100}xx").inc()
        self._lasted.labels(route or "other").observe(seconds)
        self._waiting.set(self._room.taken)

    def collect(self) -> Iterator[Metric]:
        """Yield each figure, of all processes if they share a folder."""
        if SHARED in os.environ:
            every = MultiProcessCollector(None)  # type: ignore[no-untyped-call]  # untyped there
            yield from every.collect()  # type: ignore[no-untyped-call]  # as above
        else:
            yield from self._own.collect()


class Model(Collector):
    """What is served at this moment."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        card = self._card
        text = "Items that can be recommended."
        yield GaugeMetricFamily("tacit_serving_items", text, card.items)
        text = "Items that had no part in training."
        yield GaugeMetricFamily("tacit_serving_fresh_items", text, card.fresh)
        named = {"release": card.release, "digest": card.digest}
        yield InfoMetricFamily("tacit_serving_model", "What is served.", named)
