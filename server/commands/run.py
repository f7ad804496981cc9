"""``tacit server start | run | status | stop``: the federation at work."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import ConfigError, RoundError, ServerUnreachable

if TYPE_CHECKING:
    from server.operator import Operator

Folder = Annotated[Path, typer.Argument(help="The operator's folder.")]
HERE = Path()


def start(folder: Folder = HERE) -> None:
    """Run the server of FOLDER until it is asked to end.

    SuperLink, SuperExec, the proxy (where nginx is installed) and the live page are
    kept running; a run that a crash interrupted goes on after its newest version.
    """
    from threading import Event  # noqa: PLC0415

    from server.operator import open_operator  # noqa: PLC0415
    from server.superlink import serve  # noqa: PLC0415
    from shared.alone import alone  # noqa: PLC0415
    from shared.logs import speaker  # noqa: PLC0415
    from shared.programs import on_signal  # noqa: PLC0415

    operator = open_operator(folder)
    stop_asked = Event()
    on_signal(stop_asked)
    with alone(operator.state / "server.lock", "tacit server stop"):
        settings = operator.settings
        typer.echo(
            f"Server {settings.name}: partners reach {settings.public}, the page is at "
            f"http://127.0.0.1:{settings.page_port}"
        )
        serve(operator, stop_asked, speaker("server"))
    typer.echo("Ended.")


def run(
    plan: Annotated[Path, typer.Argument(help="PLAN.toml: what is asked of sites.")],
    folder: Folder = HERE,
    *,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the newest version.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait for the end.")
    ] = False,
) -> None:
    """Carry out PLAN on the server of FOLDER and show what happens."""
    from server.operator import open_operator  # noqa: PLC0415
    from server.runs import begin, details, ended, follow  # noqa: PLC0415

    operator = open_operator(folder)
    name = begin(operator, plan, resume=resume).name
    typer.echo(f"Run {name} has begun: {operator.runs / name}")
    if detach:
        typer.echo(f"Follow it: tacit server watch {folder}")
        return
    for event in follow(operator, name):
        if line := describe(event):
            typer.echo(line)
    reason = ended(operator, name)
    if reason != "Completed":
        said = details(operator, name) or f"see {operator.state}/logs"
        raise RoundError(
            f"run {name!r} ended with {reason or 'no word'} ({said}); go on with tacit "
            f"server run {plan} --resume"
        )


def stop(
    folder: Folder = HERE,
    *,
    name: Annotated[
        str, typer.Option("--run", help="Stop this run alone, not the server.")
    ] = "",
) -> None:
    """End the server of FOLDER, or one run; both can be taken up again."""
    from server.operator import open_operator  # noqa: PLC0415
    from server.runs import stop as stop_run  # noqa: PLC0415
    from shared.alone import ask_to_end  # noqa: PLC0415

    operator = open_operator(folder)
    if name:
        stop_run(operator, name)
        plan = operator.runs / name / "plan.toml"
        typer.echo(f"Run {name} is stopped. To go on: tacit server run {plan} --resume")
        return
    if not ask_to_end(operator.state / "server.lock"):
        raise ConfigError(f"no server runs in {operator.folder}")
    typer.echo("Ended.")


def status(
    folder: Folder = HERE,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show whether the server of FOLDER answers, its sites and its runs."""
    from server.operator import open_operator  # noqa: PLC0415

    shown = _state(open_operator(folder))
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    typer.echo(f"SuperLink: {shown['superlink']}")
    for site in shown["sites"]:
        typer.echo(f"  site {site['name']:<20} {site['status']:<12} {site['seen']}")
    for one in shown["runs"]:
        typer.echo(f"  run  {one['name']:<20} version {one['version']}, {one['state']}")


def describe(event: dict[str, Any]) -> str:
    """Return an event as one line for a person; empty for what needs none."""
    line = LINES.get(event["event"])
    return line(event) if line else ""


def _round(event: dict[str, Any]) -> str:
    refused = "".join(f"; {site}: {why}" for site, why in event["refused"].items())
    return (
        f"round {event['number']}: {event['seconds']:.1f} s, of "
        f"{', '.join(event['sites_ok'])}{refused}, step {event['update_norm']:.4f}"
    )


def _answered(event: dict[str, Any]) -> str:
    worth = event["reason"] or f"{event['bytes']} bytes"
    return f"round {event['number']}: {event['site']} answered, {worth}"


def _released(event: dict[str, Any]) -> str:
    told = ", ".join(f"{site} {word}" for site, word in event["told"].items())
    return f"release {event['release']} sent: {told}"


LINES: dict[str, Callable[[dict[str, Any]], str]] = {
    "begun": lambda event: f"rounds {event['first']} to {event['rounds']}",
    "asked": lambda e: f"round {e['number']}: asked {', '.join(e['sites'])}",
    "answered": _answered,
    "round": _round,
    "released": _released,
    "ended": lambda event: f"ended: {event['reason']}",
}


def _state(operator: "Operator") -> dict[str, Any]:
    from server.flower import nodes  # noqa: PLC0415
    from server.registry import Registry  # noqa: PLC0415
    from server.runs import all_runs, ended  # noqa: PLC0415
    from server.sites import admitted  # noqa: PLC0415

    try:
        known = {node.name: node for node in nodes(operator)}
        answer = f"answers on port {operator.settings.port}"
    except ServerUnreachable as error:
        known, answer = {}, str(error)
    sites = []
    for identity in admitted(operator):
        node = known.get(identity.site)
        sites.append(
            {
                "name": identity.site,
                "status": node.status if node else "unknown",
                "seen": node.last_seen.isoformat() if node and node.last_seen else "",
            }
        )
    runs = [
        {
            "name": one.name,
            "version": Registry(
                operator.runs / one.name / "registry", operator.folder
            ).newest(),
            "state": "stopped"
            if one.stopped
            else ended(operator, one.name) or "under way",
        }
        for one in all_runs(operator)
    ]
    return {"superlink": answer, "sites": sites, "runs": runs}
