"""What an audit report is made from: files that are given, read strictly.

A file that is missing, or was not written by the command it should come from, is
refused. What was not given stays absent; nothing takes its place.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import ConfigError
from simulations.audit.canaries import OneRun
from simulations.audit.finding import Finding
from simulations.audit.membership import Attack
from simulations.audit.mutants import Verdict
from simulations.report.schema import SCHEMA

LEDGERS = "sites/*/ledger.sqlite"  # within the folder of a run


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """A site's ledger or an export of one, and its policy file if that was given."""

    ledger: Path
    policy: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Empirical:
    """What ``tacit audit empirical`` wrote.

    Attributes:
        command: How it was called.
        findings: What it found.
        runs: The one-run audits with canaries.
        membership: Membership inference on the private model, if it was run.
        twin: The same attack on the twin without privacy.
    """

    command: str
    findings: tuple[Finding, ...]
    runs: tuple[OneRun, ...]
    membership: Attack | None
    twin: Attack | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was given.

    Attributes:
        books: The ledgers.
        registry: The server's registry, to reconcile with.
        run: The folder of a simulation.
        simulated: Its ``report.json``.
        empirical: Attacks on the training code.
        mutants: What the audits said of seeded bugs.
    """

    books: tuple[Book, ...]
    registry: Path | None = None
    run: Path | None = None
    simulated: Mapping[str, Any] | None = None
    empirical: Empirical | None = None
    mutants: tuple[Verdict, ...] = ()


def gather(
    *,
    run: Path | None = None,
    ledgers: Iterable[Path] = (),
    server: Path | None = None,
    empirical: Path | None = None,
    mutants: Path | None = None,
) -> Evidence:
    """Read what is given.

    Args:
        run: Folder of a simulation: its ledgers, policies, registry and report.
        ledgers: Ledgers or exports, instead of a run.
        server: The server's registry; that of the run by default.
        empirical: What ``tacit audit empirical --out`` wrote.
        mutants: What ``tacit audit mutants --out`` wrote.

    Raises:
        ConfigError: If there is no ledger, or both a run and ledgers, or a file cannot
            be used.
    """
    books = [Book(ledger=path) for path in ledgers]
    if (run is None) == (not books):
        raise ConfigError(
            "report: give either --run with the folder of a simulation, or --ledger "
            "once or more"
        )
    missing = [str(book.ledger) for book in books if not book.ledger.is_file()]
    if missing:
        raise ConfigError(f"report: no ledger at {', '.join(missing)}")
    simulated = None
    if run is not None:
        books, simulated = _books_of(run), _simulated(run / "report.json")
        own = run / "registry"
        server = own if server is None and own.is_dir() else server
    return Evidence(
        books=tuple(books),
        registry=server,
        run=run,
        simulated=simulated,
        empirical=_empirical(empirical) if empirical else None,
        mutants=_mutants(mutants) if mutants else (),
    )


def _books_of(run: Path) -> list[Book]:
    found = sorted(run.glob(LEDGERS))
    if not found:
        raise ConfigError(f"report: no ledger under {run}/sites; give --ledger")
    return [Book(ledger=path, policy=path.with_name("policy.toml")) for path in found]


def _simulated(path: Path) -> Mapping[str, Any]:
    made = _json(path)
    if not isinstance(made, dict) or made.get("schema") != SCHEMA:
        raise ConfigError(f"{path} is not a report of tacit simulate ({SCHEMA})")
    return made


def _empirical(path: Path) -> Empirical:
    made = _json(path)
    try:
        runs = [made["one_run"], *made.get("one_run_more", [])]
        private, twin = made.get("membership"), made.get("twin")
        return Empirical(
            command=str(made["command"]),
            findings=tuple(Finding(**found) for found in made["findings"]),
            runs=tuple(OneRun(**run) for run in runs),
            membership=Attack(**private) if private else None,
            twin=Attack(**twin) if twin else None,
        )
    except (TypeError, LookupError, AttributeError) as error:
        raise _foreign(path, "empirical", error) from None


def _mutants(path: Path) -> tuple[Verdict, ...]:
    try:
        found = tuple(
            Verdict(
                name=made["name"],
                caught_by=tuple(made["caught_by"]),
                checked=made["checked"],
            )
            for made in _json(path)
        )
    except (TypeError, LookupError) as error:
        raise _foreign(path, "mutants", error) from None
    if not found:
        raise ConfigError(f"{path} tells of no seeded bug; run tacit audit mutants")
    return found


def _foreign(path: Path, command: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"{path} was not written by this version of tacit audit {command} --out: "
        f"{error}"
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
