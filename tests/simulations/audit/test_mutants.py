"""Seeded bugs fit the code as it is, and the audits tell them from the true code."""

import ast
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from shared.errors import ConfigError, TacitError
from simulations.audit import mutants
from simulations.audit.battery import AUDITS, audit_code
from simulations.audit.mutants import ROOT, Mutant, Verdict, known_mutants, try_all

DEMANDED = {
    "no clip",
    "clip per interaction instead of per user",
    "noise halved",
    "noise off on one tensor",
    "reused noise seed",
    "shuffled fixed batches accounted as Poisson",
    "normaliser from the true user count",
    "empty batch skipped",
    "NaN user kept",
    "ledger not charged",
    "charge after training",
    "head trained without DP",
    "in-batch negatives",
    "budget reset on restart",
    "raw metric leaves",
    "equal items not merged before the norm",
    "gradients of the step before join the sum",
    "tokens of one user folded into another",
    "rows of one user folded into another",
    "padding of a user's tokens counted",
    "noise on part of the flat vector",
    "noise only where users have gradients",
    "key of the noise used again",
    "popularity vote of a user not scaled",
    "noise of the popularity halved",
    "co-occurrence of a user not scaled to length 1",
    "noise of the co-occurrence halved",
    "noise of the co-occurrence cancels across the diagonal",
    "items of a co-occurrence from raw counts",
    "co-occurrence charged after it was made",
    "co-occurrence not charged",
}


def test_every_bug_that_is_demanded_is_there() -> None:
    assert {mutant.name for mutant in known_mutants()} >= DEMANDED


@pytest.mark.parametrize("mutant", known_mutants(), ids=lambda mutant: mutant.name)
def test_a_bug_fits_the_code_and_is_still_python(
    mutant: Mutant, tmp_path: Path
) -> None:
    for name, _, _ in mutant.edits:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    mutants.seed(mutant, tmp_path)

    for name, _, _ in mutant.edits:
        text = (tmp_path / name).read_text("utf-8")
        assert text != (ROOT / name).read_text("utf-8")
        ast.parse(text)
    assert set(mutant.audits) <= AUDITS.keys()


def test_a_bug_that_no_longer_fits_is_an_error_and_no_success(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n", "utf-8")
    for was in ("x = 2", "x = 1"):
        bug = Mutant(name="bug", edits=(("a.py", was, "x = 3"),), audits=())

        with pytest.raises(ConfigError, match="does not fit"):
            mutants.seed(bug, tmp_path)


def test_a_copy_without_a_verdict_is_an_error_and_not_caught() -> None:
    crashed = subprocess.CompletedProcess([], 1, stdout="", stderr="Boom: no verdict")
    bug = Mutant(name="bug", edits=(), audits=("replay",))
    with (
        patch.object(subprocess, "run", return_value=crashed),
        pytest.raises(TacitError, match="gave no verdict"),
    ):
        list(try_all([bug], quick=True, workers=1))


def test_a_bug_is_right_when_caught_and_the_true_code_when_clean() -> None:
    told = [{"audit": "a", "holds": True}, {"audit": "b", "holds": False}]
    done = subprocess.CompletedProcess([], 3, stdout=json.dumps(told), stderr="")
    bug = Mutant(name="bug", edits=(), audits=("replay",))
    with patch.object(subprocess, "run", return_value=done):
        verdicts = list(try_all([bug], quick=True, workers=1))

    assert {(v.name, v.right) for v in verdicts} == {("", False), ("bug", True)}
    assert not Verdict(name="bug", caught_by=(), checked=3).right


def test_an_unknown_audit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown audits"):
        audit_code(tmp_path, ["replays"])


def one_of_each_audit() -> tuple[Mutant, ...]:
    """The first bug that is for an audit to see, for every audit."""
    first = {mutant.audits: mutant for mutant in reversed(known_mutants())}
    return tuple(first.values())


def test_a_sample_asks_every_audit() -> None:
    sample = one_of_each_audit()

    assert {name for mutant in sample for name in mutant.audits} == {
        name for mutant in known_mutants() for name in mutant.audits
    }


@pytest.mark.parametrize(
    "choose",
    [
        pytest.param(one_of_each_audit, marks=pytest.mark.slow),
        pytest.param(known_mutants, marks=pytest.mark.exhaustive),
    ],
    ids=["some", "all"],
)
@pytest.mark.timeout(1800)
def test_every_seeded_bug_is_caught_and_the_true_code_is_clean(
    choose: Callable[[], tuple[Mutant, ...]],
) -> None:
    """CI takes a bug for each audit; all of them take some ten minutes."""
    tried = choose()

    verdicts = list(try_all(tried, quick=True, workers=2))

    assert len(verdicts) == len(tried) + 1
    assert [v.name or "the true code" for v in verdicts if not v.right] == []
