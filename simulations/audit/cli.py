"""``tacit audit``: ledgers, the training code, seeded bugs, and the report."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import PrivacyError

if TYPE_CHECKING:
    from simulations.audit.finding import Finding

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def audit() -> None:
    """Check the promise: from records, by attack, and against seeded bugs."""


@app.command()
def ledger(
    file: Annotated[
        Path, typer.Argument(help="A ledger or its export; a copy will do.")
    ],
    *,
    server: Annotated[
        Path | None, typer.Option(help="The server's registry, to reconcile with.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="The site's policy.toml, to compare.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify a ledger, recompute epsilon, reconcile what left with what arrived.

    FILE is a ledger or its export; a copy will do. Neither the site's key nor any
    user's data is needed.
    """
    from simulations.audit.ledger import audit_ledger  # noqa: PLC0415

    found = audit_ledger(file, server, policy)
    if as_json:
        made = [finding.to_dict() for finding in found.findings]
        typer.echo(json.dumps({"facts": found.facts, "findings": made}, indent=2))
    else:
        for name in ("site", "unit", "delta", "budget", "charges", "entries", "head"):
            if name in found.facts:
                typer.echo(f"{name:>8}  {found.facts[name]}")
        show(found.findings)
    require(found.findings)


@app.command()
def code(
    *,
    only: Annotated[
        list[str] | None,
        typer.Option(help="replay, noise, sampling, releases, conduct, canaries."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Audit the training code itself: each step, each release, and a site's conduct."""
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from simulations.audit.battery import audit_code  # noqa: PLC0415

    with TemporaryDirectory(prefix="tacit-audit-") as folder:
        findings = audit_code(Path(folder), only or ())
    if as_json:
        typer.echo(json.dumps([finding.to_dict() for finding in findings], indent=2))
    else:
        show(findings)
    require(findings)


@app.command()
def empirical(  # noqa: PLR0913  # one parameter for each option of the command
    *,
    epsilon: Annotated[float, typer.Option(help="Claimed, of the audited run.")] = 3.0,
    delta: Annotated[float, typer.Option(help="Of the claim.")] = 1e-5,
    canaries: Annotated[int, typer.Option(help="Canaries, m.")] = 1000,
    guesses: Annotated[
        int | None, typer.Option(help="Guesses r, fixed beforehand; default m / 10.")
    ] = None,
    q: Annotated[float, typer.Option(help="Sampling rate.")] = 0.2,
    steps: Annotated[int, typer.Option(help="Noisy steps.")] = 100,
    membership: Annotated[
        bool, typer.Option(help="Attack by membership inference as well (minutes).")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="File for the result, JSON.")] = None,
) -> None:
    """Attack the real training code: a measured lower bound on epsilon.

    Gradient canaries in one run at the claimed epsilon, and user-level membership
    inference (LiRA) on served models, with the same attack on a twin without privacy.
    A lower bound can refute the claim; it is no guarantee.
    """
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from shared.code import code_digest  # noqa: PLC0415
    from simulations.audit import canaries as one  # noqa: PLC0415
    from simulations.audit import membership as lira  # noqa: PLC0415

    made: dict[str, object] = {
        "command": " ".join(["tacit", *sys.argv[1:]]),
        "code": code_digest(),
    }
    with TemporaryDirectory(prefix="tacit-audit-") as folder:
        run = one.one_run(
            Path(folder),
            epsilon=epsilon,
            delta=delta,
            canaries=canaries,
            guesses=guesses,
            q=q,
            steps=steps,
        )
        findings = [one.finding(run)]
        show(findings)
        made["one_run"] = asdict(run)
        if membership:
            private = lira.attack(Path(folder), epsilon=epsilon, delta=delta)
            twin = lira.attack(Path(folder), epsilon=None, delta=delta)
            findings.append(lira.finding(private, twin))
            show(findings[1:])
            made.update(membership=asdict(private), twin=asdict(twin))
    made["findings"] = [finding.to_dict() for finding in findings]
    if out is not None:
        out.write_text(json.dumps(made, indent=2), "utf-8")
    require(findings)


@app.command()
def mutants(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Ask only the audits expected to see a bug.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Copies audited at a time.")] = 2,
    out: Annotated[Path | None, typer.Option(help="File for the result, JSON.")] = None,
) -> None:
    """Seed bugs into copies of the code: the audits must catch every one."""
    from simulations.audit.mutants import known_mutants, try_all  # noqa: PLC0415

    verdicts = []
    for verdict in try_all(known_mutants(), quick=quick, workers=workers):
        verdicts.append(verdict)
        name = verdict.name or "the true code"
        typer.secho(
            "right" if verdict.right else "WRONG",
            fg="green" if verdict.right else "red",
            nl=False,
        )
        found = ", ".join(verdict.caught_by) or "nothing found"
        typer.echo(f"  {name}: {found} ({verdict.checked} checks)")
    if out is not None:
        out.write_text(json.dumps([asdict(v) for v in verdicts], indent=2), "utf-8")
    wrong = [
        verdict.name or "the true code" for verdict in verdicts if not verdict.right
    ]
    if wrong:
        raise PrivacyError(f"audit failed: judged wrongly: {', '.join(wrong)}")
    typer.echo(f"{len(verdicts) - 1} seeded bugs caught, the true code clean")


@app.command()
def report(  # noqa: PLR0913  # one parameter for each option of the command
    *,
    out: Annotated[Path, typer.Option(help="The page, .html; its JSON goes beside.")],
    run: Annotated[
        Path | None, typer.Option(help="Folder of a run of tacit simulate.")
    ] = None,
    ledger: Annotated[
        list[Path] | None,
        typer.Option(help="A ledger or export instead, once for each site."),
    ] = None,
    server: Annotated[
        Path | None, typer.Option(help="The server's registry; default: the run's.")
    ] = None,
    empirical: Annotated[
        Path | None, typer.Option(help="From tacit audit empirical --out.")
    ] = None,
    mutants: Annotated[
        Path | None, typer.Option(help="From tacit audit mutants --out.")
    ] = None,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Print a PDF as well, with chromium.")
    ] = False,
) -> None:
    """Put on one page what was promised, spent, released and measured, for anybody.

    What is not given is said not to have been run. Exit code 3 if anything fails.
    """
    import shlex  # noqa: PLC0415
    from datetime import UTC, datetime  # noqa: PLC0415

    from simulations.audit.evidence import gather  # noqa: PLC0415
    from simulations.audit.report import build, print_pdf, write  # noqa: PLC0415

    evidence = gather(
        run=run,
        ledgers=ledger or (),
        server=server,
        empirical=empirical,
        mutants=mutants,
    )
    command = shlex.join(["tacit", *sys.argv[1:]])
    made = build(evidence, command=command, made=datetime.now(UTC))
    written = [write(made, out), out, *([print_pdf(out)] if pdf else [])]
    verdict = made["verdict"]
    typer.secho(verdict["word"], fg="green" if verdict["holds"] else "red")
    for text in (*verdict["says"], *map(str, written)):
        typer.echo(f"  {text}")
    if not verdict["holds"]:
        raise PrivacyError(f"audit failed: see {out}")


def show(findings: "Iterable[Finding]") -> None:
    """Print one line for each finding."""
    for finding in findings:
        verdict = "holds" if finding.holds else "FAILS"
        typer.secho(verdict, fg="green" if finding.holds else "red", nl=False)
        typer.echo(f"  {finding.audit}: {finding.says}")


def require(findings: "Iterable[Finding]") -> None:
    """Raise unless every finding holds.

    Raises:
        PrivacyError: Naming what does not hold.
    """
    failed = [finding.audit for finding in findings if not finding.holds]
    if failed:
        raise PrivacyError(f"audit failed: {', '.join(failed)}; see above")
