"""A run that died goes on where it stopped: nothing is lost, nothing is spent unseen.

Noise comes from a seed here, so that whole and interrupted runs can be compared.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import client.round
from client.site import Site, open_site
from client.workbench import prepare
from server.events import RoundReport
from shared.encoder import TextEncoder, base_digest
from shared.errors import QuorumLost
from shared.ledger import Ledger
from simulations.run import simulate
from simulations.scenario import Scenario
from tests.end_to_end.conftest import Done
from tests.end_to_end.runs import (
    Charge,
    Crash,
    arguments,
    charges,
    report_of,
    run,
    run_until,
    scenario,
    seals,
    tacit,
    weights,
)
from tests.factories import plan, tiny_encoder

KILLED = """\
import os, signal, sys
import client.round
from simulations.cli import main

honest, calls = client.round.train_round, []

def train_round(*args, **kwargs):
    calls.append(1)
    if len(calls) == int(os.environ["KILL_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)
    honest(*args, **kwargs)

client.round.train_round = train_round
sys.argv[0] = "tacit"
main()
"""


def copied(done: Done, folder: Path) -> Path:
    return Path(shutil.copytree(done.out, folder / "run"))


def update_file(out: Path, site: str, number: int) -> Path:
    return out / "sites" / site / "runs" / "run" / f"update-{number:04}.safetensors"


def spent_twice(out: Path, whole: Path, site: str) -> Counter[Charge]:
    """What a site was charged beyond the run that nothing interrupted; never less."""
    found, wanted = Counter(charges(out, site)), Counter(charges(whole, site))
    assert not wanted - found
    return found - wanted


@dataclass(frozen=True)
class Death:
    """A call at which the process dies, before or after it is carried out."""

    where: object
    name: str
    after: bool

    def strike(self, asked: Scenario, out: Path, call: int, *, resume: bool) -> None:
        """Run or resume, and die at the call of that number."""
        honest: Callable[..., Any] = getattr(self.where, self.name)
        calls = iter(range(1, 1000))

        def deadly(*args: Any, **kwargs: Any) -> Any:
            last = next(calls) == call
            if last and not self.after:
                raise Crash
            made = honest(*args, **kwargs)
            if last:
                raise Crash
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.where, self.name, deadly)
            with pytest.raises(Crash):
                run(asked, out, resume=resume)


def test_a_run_killed_after_a_round_ends_as_if_nothing_had_happened(
    whole: Done, stopped: Done, tmp_path: Path
) -> None:
    out = copied(stopped, tmp_path)
    assert not (out / "report.json").exists()

    made = run(stopped.asked, out, resume=True)

    assert weights(out) == weights(whole.out)
    assert [told["round"] for told in made["rounds"]] == [1, 2]
    assert made["metrics"] == report_of(whole.out)["metrics"]
    for site in ("site-1", "site-2"):
        assert charges(out, site) == charges(whole.out, site)
        assert [*seals(out, site)] == [1, 2]


def test_a_run_killed_after_its_last_round_only_reports(
    whole: Done, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run_until(whole.asked, out, 2)

    resumed = tacit(*arguments(whole.asked, out, "--resume", "--json"))

    assert resumed.code == 0
    assert resumed.stderr == ""  # no round was left to tell of
    assert weights(out) == weights(whole.out)
    assert charges(out, "site-1") == charges(whole.out, "site-1")


def test_a_finished_run_may_be_resumed_and_stays_as_it_was(
    whole: Done, tmp_path: Path
) -> None:
    out = copied(whole, tmp_path)

    run(whole.asked, out, resume=True)

    assert weights(out) == weights(whole.out)
    for site in ("site-1", "site-2"):
        assert charges(out, site) == charges(whole.out, site)


@pytest.mark.parametrize(
    ("death", "again"),
    [
        pytest.param(  # charged, not trained
            Death(client.round, "train_round", after=False), 1, marks=pytest.mark.slow
        ),
        (Death(client.round, "train_round", after=True), 1),  # trained, not kept
        pytest.param(  # trained, head not kept
            Death(Site, "keep", after=False), 1, marks=pytest.mark.slow
        ),
        pytest.param(  # head kept alone
            Death(client.round, "release_update", after=False),
            1,
            marks=pytest.mark.slow,
        ),
        (Death(Ledger, "sealed", after=False), 1),  # all kept, not sealed
        (Death(Ledger, "sealed", after=True), 0),  # sealed, not sent
    ],
)
def test_a_site_that_dies_in_a_round_pays_for_all_it_tried_and_sends_the_same(
    whole: Done, stopped: Done, tmp_path: Path, death: Death, again: int
) -> None:
    """The second site dies in round 2; the first has sealed and sent by then."""
    out = copied(stopped, tmp_path)
    death.strike(stopped.asked, out, 2, resume=True)
    first = update_file(out, "site-1", 2).read_bytes()
    sealed = seals(out, "site-1")

    run(stopped.asked, out, resume=True)

    assert weights(out) == weights(whole.out)
    assert update_file(out, "site-1", 2).read_bytes() == first
    assert seals(out, "site-1") == sealed
    assert charges(out, "site-1") == charges(whole.out, "site-1")
    extra = spent_twice(out, whole.out, "site-2")
    assert [(charge[1], charge[2]) for charge in extra.elements()] == [
        (2, "training")
    ] * again
    assert [*seals(out, "site-2")] == [1, 2]


def test_stored_bytes_that_were_not_sealed_are_never_sent(
    stopped: Done, tmp_path: Path
) -> None:
    """The site died after sealing round 2; then somebody touched what it kept."""
    out = copied(stopped, tmp_path)
    Death(Ledger, "sealed", after=True).strike(stopped.asked, out, 2, resume=True)
    kept = update_file(out, "site-2", 2)
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")

    with pytest.raises(QuorumLost, match="site-2: LedgerBroken"):
        run(stopped.asked, out, resume=True)


def test_a_site_that_died_without_room_to_pay_again_is_refused(
    whole: Done, tmp_path: Path
) -> None:
    """What was charged may have been used; it is not given back, and not overdrawn."""
    out = tmp_path / "run"
    Death(client.round, "train_round", after=True).strike(
        whole.asked, out, 4, resume=False
    )

    with pytest.raises(QuorumLost, match="site-2: BudgetSpent"):
        run(whole.asked, out, resume=True)

    assert charges(out, "site-2") == charges(whole.out, "site-2")


@pytest.mark.slow
@pytest.mark.parametrize("remembered", [True, False])
def test_a_site_put_back_from_an_old_copy_trains_no_more(
    data: Path, tmp_path: Path, *, remembered: bool
) -> None:
    """Its own files agree with each other; only the server's witness tells.

    A server that forgot would let it train: so it is the witness that stops it.
    """
    out, asked = tmp_path / "run", scenario(data, sites=3, rounds=3)
    site, backup = out / "sites" / "site-3", tmp_path / "backup"

    def tell(_arm: str, _of: int, told: RoundReport) -> None:
        if told.number == 1:
            shutil.copytree(site, backup)
        if told.number == 2:
            shutil.rmtree(site)
            shutil.copytree(backup, site)
            if not remembered:
                (out / "registry" / "witnesses" / "site-3.json").unlink()

    simulate(asked, out, resume=False, tell=tell)

    made = report_of(out)["rounds"]
    reason = {"site-3": "LedgerBroken"} if remembered else {}
    assert [told["refused"] for told in made] == [{}, {}, reason]
    assert made[2]["sites_ok"][:2] == ["site-1", "site-2"]
    rounds = [charge[1] for charge in charges(out, "site-3") if charge[2] == "training"]
    assert rounds == ([1] if remembered else [1, 3])


def test_a_round_starts_from_the_head_that_the_site_kept(whole: Done) -> None:
    folder, base = whole.out / "sites" / "site-1", base_digest("tiny")
    start = tiny_encoder().adapter()
    second = plan(
        {name: array.shape for name, array in start.items()},
        number=2,
        spec=whole.asked.spec(base),
        recipe=whole.asked.recipe(),
    )

    model, _ = prepare(open_site(folder), second, start)

    kept = load_file(folder / "runs" / "run" / "head-0001.safetensors")
    later = load_file(folder / "runs" / "run" / "head-0002.safetensors")
    assert kept.keys() == model.head.state().keys() == later.keys()
    for name, array in model.head.state().items():
        assert np.array_equal(array, kept[name])
        assert not np.array_equal(array, later[name])


def test_a_run_killed_while_it_prepares_can_be_resumed(
    whole: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start adapter is there whole or not at all."""
    out = tmp_path / "run"

    def half(_encoder: TextEncoder, folder: Path) -> None:
        folder.mkdir()
        (folder / "adapter_config.json").write_text("{", "utf-8")
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "save", half)
        with pytest.raises(Crash):
            run(whole.asked, out)

    run(whole.asked, out, resume=True)

    assert weights(out) == weights(whole.out)


@pytest.mark.slow
def test_a_run_that_is_killed_in_the_middle_of_a_round_loses_and_hides_nothing(
    data: Path, tmp_path: Path
) -> None:
    """SIGKILL while the second site is in round 3, charged and about to train."""
    asked = scenario(data, "budgets.site-2=20", rounds=4)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    run(asked, whole)
    words = arguments(asked, out)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *words],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "KILL_AT": "6", "OMP_NUM_THREADS": "1"},  # as here
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL
    assert [*seals(out, "site-1")] == [1, 2, 3]
    assert [*seals(out, "site-2")] == [1, 2]
    first, sealed = update_file(out, "site-1", 3).read_bytes(), seals(out, "site-1")

    resumed = tacit(*words, "--resume")

    assert resumed.code == 0
    assert weights(out) == weights(whole)
    assert [told["round"] for told in report_of(out)["rounds"]] == [1, 2, 3, 4]
    assert update_file(out, "site-1", 3).read_bytes() == first
    assert seals(out, "site-1")[3] == sealed[3]
    assert charges(out, "site-1") == charges(whole, "site-1")
    extra = spent_twice(out, whole, "site-2")
    assert [(charge[1], charge[2]) for charge in extra.elements()] == [(3, "training")]
