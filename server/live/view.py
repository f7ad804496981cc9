"""What the server may know of its federation, at one moment, for people to look at.

All of it comes from the operator's folder and from what Flower says of nodes: of a site
there is nothing but what crossed the wire. What cannot be read or believed is a fault
of the view, not its end.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from server.events import RoundReport, read_events
from server.live.history import ReleaseView, history
from shared.errors import ConfigError
from shared.signing import load_key, public_key

if TYPE_CHECKING:
    from server.flower import Node

COMPLETED = "Completed"
SILENCE = timedelta(minutes=1)  # beyond a deadline; a live run has said something
Events = Sequence[Mapping[str, Any]]
Doing = tuple[str, str]  # what a site does, and the class name of why


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """The newest run.

    Attributes:
        name: Its name.
        state: ``running``, ``silent`` (no event for longer than a round may take
            without one), ``stopped`` by the operator, ``completed`` or ``failed``.
        reason: Class name of what ended it, if it failed.
        number: The round that is going on, or else the last one.
        of: How many rounds it shall have.
        left_s: Median of its rounds times the rounds to come; None where unknown.
        bytes_up: Bytes of all updates that counted.
        bytes_down: Bytes of all instructions to the sites asked.
        refusals: Class name -> how often a site did not count for it.
        rounds: What its finished rounds were, oldest first.
    """

    name: str
    state: str
    reason: str
    number: int
    of: int
    left_s: float | None
    bytes_up: int
    bytes_down: int
    refusals: Mapping[str, int]
    rounds: tuple[RoundReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """One site.

    Attributes:
        name: Its name.
        status: ``online``, ``offline`` or ``registered`` as Flower says,
            ``unregistered`` where it says nothing of it, ``unknown`` where Flower does
            not answer.
        last_seen: When it came or went; empty if never.
        doing: ``training``, ``answered``, ``refused``, ``absent``, ``not asked`` or
            ``waiting``.
        why: Class name that goes with refused and absent.
        rounds: How many rounds of the run its update counted in.
        bytes_up: Bytes of those updates.
        metrics: What it released last, noised.
    """

    name: str
    status: str
    last_seen: str
    doing: str
    why: str
    rounds: int
    bytes_up: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The federation at one moment.

    Attributes:
        reachable: Whether Flower's SuperLink answers.
        run: The newest run, if there was one.
        sites: Admitted sites and all that the run or Flower names, sorted.
        releases: Published versions, the newest run's first.
        faults: What cannot be read or believed, one sentence each.
    """

    reachable: bool
    run: RunView | None
    sites: tuple[SiteView, ...]
    releases: tuple[ReleaseView, ...]
    faults: tuple[str, ...]


def look(folder: Path, nodes: "Sequence[Node] | None", now: datetime) -> View:
    """Return what there is to see.

    Args:
        folder: The operator's.
        nodes: What Flower says of nodes; None where it does not answer.
        now: The time, aware.
    """
    newest = _newest_run(folder)
    run, doing, faults = None, dict[str, Doing](), list[str]()
    if newest is not None:
        try:
            events = read_events(newest / "events.jsonl")
            run, doing = _run(newest, events, now), activities(events)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            faults = [
                f"{newest / 'events.jsonl'} cannot be read ({type(error).__name__}); "
                "restore it from a copy"
            ]
    try:
        key = public_key(load_key(folder / "operator.key"))
        releases, damaged = history(folder, key)
    except ConfigError as error:
        releases, damaged = (), (str(error),)
    return View(
        reachable=nodes is not None,
        run=run,
        sites=_sites(_admitted(folder), run, doing, nodes),
        releases=releases,
        faults=(*faults, *damaged),
    )


def unready(view: View) -> list[str]:
    """Return why the server is not ready for a run, one sentence each."""
    silent = "the SuperLink does not answer; look into state/logs, or start the server"
    return [*([] if view.reachable else [silent]), *view.faults]


def activities(events: Events) -> dict[str, Doing]:
    """Return what each site of a run does after ``events``, and why."""
    now: dict[str, Doing] = {}
    for event in events:
        match event["event"]:
            case "begun":
                now = dict.fromkeys(event["sites"], ("waiting", ""))
            case "asked":
                now = dict.fromkeys(now, ("not asked", ""))
                now |= dict.fromkeys(event["sites"], ("training", ""))
                now |= _all("absent", event["absent"])
            case "answered":
                why = event["reason"]
                now[event["site"]] = ("refused", why) if why else ("answered", "")
            case "round":
                absent = {site for site in now if now[site][0] == "absent"}
                told = {s: w for s, w in event["refused"].items() if s not in absent}
                now |= _all("refused", told)
            case "ended":
                over = event["reason"] == COMPLETED
                now |= {s: ("waiting", "") for s in now if over or _trains(now[s])}
    return now


def _all(doing: str, reasons: Mapping[str, str]) -> dict[str, Doing]:
    return {site: (doing, why) for site, why in reasons.items()}


def _trains(doing: Doing) -> bool:
    return doing[0] == "training"


def _newest_run(folder: Path) -> Path | None:
    """Return the run with the newest event."""
    found = {path.parent: path for path in folder.glob("runs/*/events.jsonl")}
    return max(found, key=lambda run: found[run].stat().st_mtime, default=None)


def _run(folder: Path, events: Events, now: datetime) -> RunView | None:
    """Return what the events of a run amount to; a run goes on from its last begin."""
    if not events:
        return None
    begun = _last(events, "begun")
    told = [RoundReport.of(event) for event in events if event["event"] == "round"]
    rounds = {report.number: report for report in told}
    asked = {e["number"]: e["sites"] for e in events if e["event"] == "asked"}
    state, reason = _state(events, begun["deadline_s"], now)
    if state != "completed" and _stopped(folder):
        state = "stopped"
    typical = median(report.seconds for report in told) if told else None
    left = begun["rounds"] - max(rounds, default=0)
    return RunView(
        name=folder.name,
        state=state,
        reason=reason,
        number=max([*rounds, *asked], default=0),
        of=begun["rounds"],
        left_s=typical * left if typical is not None and state == "running" else None,
        bytes_up=sum(sum(report.bytes_up.values()) for report in rounds.values()),
        bytes_down=sum(
            report.bytes_down * len(asked.get(number, report.sites_ok))
            for number, report in rounds.items()
        ),
        refusals=dict(Counter(w for r in told for w in r.refused.values())),
        rounds=tuple(rounds[number] for number in sorted(rounds)),
    )


def _last(events: Events, kind: str) -> Mapping[str, Any]:
    return next(event for event in reversed(events) if event["event"] == kind)


def _state(events: Events, deadline_s: float, now: datetime) -> tuple[str, str]:
    """Return the state of a run, and the class name of what ended it."""
    last = events[-1]
    if last["event"] == "ended":
        good = last["reason"] == COMPLETED
        return ("completed", "") if good else ("failed", last["reason"])
    quiet = now - datetime.fromisoformat(last["time"])
    late = quiet > timedelta(seconds=deadline_s) + SILENCE
    return "silent" if late else "running", ""


def _stopped(run: Path) -> bool:
    """Return whether the operator stopped the run; see server/runs.py."""
    note = run / "run.json"
    return note.exists() and bool(json.loads(note.read_text("utf-8"))["stopped"])


def _admitted(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("sites/*.pub")]


def _sites(
    admitted: Iterable[str],
    run: RunView | None,
    doing: Mapping[str, Doing],
    nodes: "Sequence[Node] | None",
) -> tuple[SiteView, ...]:
    known = {node.name: node for node in nodes or ()}
    rounds = run.rounds if run else ()
    return tuple(
        _site(
            name,
            [report for report in rounds if name in report.sites_ok],
            doing.get(name, ("waiting", "")),
            known.get(name),
            reachable=nodes is not None,
        )
        for name in sorted({*admitted, *doing, *known})
    )


def _site(
    name: str,
    counted: Sequence[RoundReport],
    doing: Doing,
    node: "Node | None",
    *,
    reachable: bool,
) -> SiteView:
    seen = node.last_seen if node else None
    unseen = "unregistered" if reachable else "unknown"
    released = [report.metrics[name] for report in counted if name in report.metrics]
    return SiteView(
        name=name,
        status=node.status if node else unseen,
        last_seen=seen.isoformat(timespec="seconds") if seen else "",
        doing=doing[0],
        why=doing[1],
        rounds=len(counted),
        bytes_up=sum(report.bytes_up.get(name, 0) for report in counted),
        metrics=released[-1] if released else {},
    )
