"""Seeded bugs: small named changes of the real code, each of which an audit must catch.

A bug is put into a copy of the source, never into what is installed, and the audits run
on that copy in a process of their own. If the code has moved on, so that a bug no
longer fits, that is an error and no success. PRIVACY.md 7.4 tells what each would cost.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from shared.errors import ConfigError, TacitError

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("client", "server", "shared", "simulations")
BUGS = Path(__file__).with_name("mutants.toml")
LONGEST_S = 1200  # one bug's audits; reached only where something hangs


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One bug.

    Attributes:
        name: What is wrong, in a few words.
        edits: (file, text that is there once, text in its place).
        audits: The audits that are expected to see it; a short run asks these alone.
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]
    audits: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the audits said of one copy of the code.

    Attributes:
        name: The bug, or empty for the true code.
        caught_by: Names of the findings that do not hold.
        checked: How many findings there were.
    """

    name: str
    caught_by: tuple[str, ...]
    checked: int

    @property
    def right(self) -> bool:
        """Whether a bug was caught, or the true code was found clean."""
        return bool(self.caught_by) if self.name else not self.caught_by


def known_mutants() -> tuple[Mutant, ...]:
    """Return the bugs of ``mutants.toml``."""
    tables = tomllib.loads(BUGS.read_text("utf-8"))["mutant"]
    return tuple(
        Mutant(
            name=table["name"],
            edits=tuple((e["file"], e["was"], e["now"]) for e in table["edit"]),
            audits=tuple(table["audits"]),
        )
        for table in tables
    )


def try_all(
    mutants: Sequence[Mutant], *, quick: bool, workers: int
) -> Iterator[Verdict]:
    """Audit the true code and every mutant; yield each verdict as it comes.

    Args:
        mutants: The bugs to seed.
        quick: Ask of a bug only the audits that are expected to see it.
        workers: Copies that are audited at the same time.

    Raises:
        ConfigError: If a bug does not fit the code.
        TacitError: If the audits of a copy end without a verdict.
    """
    with ThreadPoolExecutor(workers) as pool:
        tasks = [pool.submit(_audit_copy, Mutant(name="", edits=(), audits=()), ())]
        tasks += [
            pool.submit(_audit_copy, m, m.audits if quick else ()) for m in mutants
        ]
        try:
            for task in as_completed(tasks):
                yield task.result()
        finally:
            pool.shutdown(cancel_futures=True)


def seed(mutant: Mutant, root: Path) -> None:
    """Put a bug into the copy of the source at ``root``.

    Raises:
        ConfigError: If the text that it changes is not there exactly once.
    """
    for name, old, new in mutant.edits:
        text = (root / name).read_text("utf-8")
        if text.count(old) != 1:
            raise ConfigError(
                f"seeded bug {mutant.name!r} does not fit {name}: its text is there "
                f"{text.count(old)} times, not once; bring the bug up to date"
            )
        (root / name).write_text(text.replace(old, new), "utf-8")


def _audit_copy(mutant: Mutant, only: Sequence[str]) -> Verdict:
    """Run the audits on a copy of the code with the bug in it."""
    with TemporaryDirectory(prefix="tacit-mutant-") as folder:
        root = Path(folder)
        for package in PACKAGES:
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, root / package, ignore=skip)
        seed(mutant, root)
        words = [word for name in only for word in ("--only", name)]
        start = "from simulations.cli import main; main()"
        done = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", start, "audit", "code", "--json", *words],
            cwd=root,
            env={**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
    try:
        findings = json.loads(done.stdout)
    except ValueError:
        raise TacitError(
            f"the audits of {mutant.name or 'the true code'!r} gave no verdict: "
            f"{done.stderr.strip().splitlines()[-1:]}"
        ) from None
    failed = tuple(found["audit"] for found in findings if not found["holds"])
    return Verdict(name=mutant.name, caught_by=failed, checked=len(findings))
