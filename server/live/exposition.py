"""The server's figures for Prometheus: what its page shows, and nothing else."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from server.live.view import RunView, SiteView, View

DOING = ("training", "answered", "refused", "absent", "not asked", "waiting")


@dataclass(frozen=True, slots=True, eq=False)
class Figures(Collector):
    """The figures of one view."""

    view: View

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        up, faults = float(self.view.reachable), float(len(self.view.faults))
        yield _gauge("tacit_superlink_up", "Whether the SuperLink answers.", up)
        yield _gauge("tacit_faults", "What cannot be read or believed.", faults)
        yield from _sites(self.view.sites)
        if self.view.run:
            yield from _run(self.view.run, self.view.sites)


def _sites(sites: tuple[SiteView, ...]) -> Iterator[Metric]:
    online = _by_site("tacit_site_online", "Whether a site's node is online.")
    seen = _by_site("tacit_site_changed_timestamp_seconds", "When it came or went.")
    doing = GaugeMetricFamily(
        "tacit_site_doing", "1 for what a site does now.", labels=["site", "doing"]
    )
    for site in sites:
        online.add_metric([site.name], float(site.status == "online"))
        if site.last_seen:
            when = datetime.fromisoformat(site.last_seen).timestamp()
            seen.add_metric([site.name], when)
        for what in DOING:
            doing.add_metric([site.name, what], float(site.doing == what))
    yield from (online, seen, doing)


def _run(run: RunView, sites: tuple[SiteView, ...]) -> Iterator[Metric]:
    """Yield the figures of the newest run, each under its name."""

    def of_run(name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["run"])
        family.add_metric([run.name], value)
        return family

    running = float(run.state == "running")
    yield of_run("tacit_run_running", "Whether the run goes on.", running)
    yield of_run("tacit_run_round", "The round it is in, or the last.", run.number)
    yield of_run("tacit_run_rounds", "How many rounds it shall have.", run.of)
    yield of_run("tacit_run_bytes_down", "Bytes of instructions.", run.bytes_down)
    if run.rounds:
        last = run.rounds[-1]
        norm, seconds = last.update_norm, last.seconds
        yield of_run("tacit_round_update_norm", "Length of the last step.", norm)
        yield of_run("tacit_round_seconds", "Time of the last round.", seconds)
    refusals = CounterMetricFamily(
        "tacit_run_refusals", "Answers that did not count.", labels=["run", "reason"]
    )
    for reason, times in run.refusals.items():
        refusals.add_metric([run.name, reason], times)
    yield refusals
    yield _counted("tacit_site_rounds", "Rounds that counted.", run, sites, _rounds)
    yield _counted("tacit_site_bytes_up", "Bytes of updates.", run, sites, _bytes)


def _counted(
    name: str,
    text: str,
    run: RunView,
    sites: tuple[SiteView, ...],
    figure: Callable[[SiteView], int],
) -> Metric:
    family = CounterMetricFamily(name, text, labels=["run", "site"])
    for site in sites:
        family.add_metric([run.name, site.name], figure(site))
    return family


def _rounds(site: SiteView) -> int:
    return site.rounds


def _bytes(site: SiteView) -> int:
    return site.bytes_up


def _by_site(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["site"])


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
