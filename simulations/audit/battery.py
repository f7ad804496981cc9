"""Every audit of the training code that gives a verdict in seconds, by name.

They look at the code that is imported, whatever that is: the released code must pass
all of them, and each seeded bug of ``simulations/audit/mutants.py`` must fail one.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from shared.errors import ConfigError
from simulations.audit.canaries import finding, one_run
from simulations.audit.conduct import conduct
from simulations.audit.finding import Finding
from simulations.audit.randomness import noise, sampling
from simulations.audit.releases import releases
from simulations.audit.replay import replay


def _canaries(folder: Path) -> list[Finding]:
    """A small one-run audit: seconds, and power enough for gross bugs."""
    return [finding(one_run(folder, canaries=400, guesses=100, steps=60))]


AUDITS: Mapping[str, Callable[[Path], list[Finding]]] = {
    "replay": replay,
    "noise": noise,
    "sampling": sampling,
    "releases": releases,
    "conduct": conduct,
    "canaries": _canaries,
}


def audit_code(folder: Path, only: Iterable[str] = ()) -> list[Finding]:
    """Return the findings of all audits, or of those named, working in ``folder``.

    Raises:
        ConfigError: If a name is unknown.
    """
    names = tuple(only) or tuple(AUDITS)
    unknown = sorted(set(names) - AUDITS.keys())
    if unknown:
        raise ConfigError(f"unknown audits {unknown}; known: {', '.join(AUDITS)}")
    findings = []
    for name in names:
        place = folder / name
        place.mkdir()
        findings += AUDITS[name](place)
    return findings
