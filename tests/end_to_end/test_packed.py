"""Whole runs whose updates travel packed: both ends know the same versions."""

import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

import client.round
from client.site import open_site
from client.version import held
from server.registry import Registry
from shared.adapter import digest
from shared.ledger import Ledger
from shared.protocol import RoundPlan
from tests.end_to_end.runs import charges, report_of, run, run_until, scenario, seals
from tests.end_to_end.test_resume import Death, spent_twice, update_file

pytestmark = pytest.mark.slow
SITES = ("site-1", "site-2")
FORMS = ("float16", "int8")
WIDE = "spec.rank=32"  # so that a step is smaller than the whole


def asked(data: Path, form: str, *sets: str) -> Any:
    return scenario(data, WIDE, f"federation.wire={form}", *sets, rounds=3)


@pytest.fixture(scope="module", params=FORMS)
def done(
    request: pytest.FixtureRequest, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A run of two sites and three rounds, and its form."""
    out = tmp_path_factory.mktemp("packed") / request.param
    run(asked(data, request.param), out)
    return request.param, out


def registry_of(out: Path) -> Registry:
    return Registry(out / "registry", out / "start")


def test_each_site_holds_the_version_that_the_last_round_began_with(
    done: tuple[str, Path],
) -> None:
    _, out = done

    for site in SITES:
        found = held(open_site(out / "sites" / site), "run")
        assert found is not None
        assert digest(found) == registry_of(out).manifest(2)["adapter"]


def test_what_the_server_received_is_what_the_ledgers_sealed(
    done: tuple[str, Path],
) -> None:
    _, out = done

    for number in (1, 2, 3):
        sent = registry_of(out).manifest(number)["sites"]
        for site in SITES:
            kept = update_file(out, site, number).read_bytes()
            assert sent[site] == [seals(out, site)[number]]
            assert sent[site] == [sha256(kept).hexdigest()]


def test_an_update_is_kept_in_its_form(done: tuple[str, Path]) -> None:
    form, out = done

    kept = load_file(update_file(out, "site-1", 2))

    assert kept["values"].dtype.name == form
    assert ("scales" in kept) == (form == "int8")


def test_packed_runs_send_less_in_both_directions(
    done: tuple[str, Path], data: Path, tmp_path: Path
) -> None:
    _, out = done
    run(asked(data, "float32"), tmp_path)

    for plain, small in zip(
        report_of(tmp_path)["sites"], report_of(out)["sites"], strict=True
    ):
        assert small["bytes_up"] < plain["bytes_up"]
        assert small["bytes_down"] < plain["bytes_down"]
        assert small["epsilon"] == plain["epsilon"]


def test_a_packed_run_that_is_resumed_ends_as_if_nothing_had_happened(
    done: tuple[str, Path], data: Path, tmp_path: Path
) -> None:
    form, whole = done
    out = tmp_path / "run"
    run_until(asked(data, form), out, 2)

    run(asked(data, form), out, resume=True)

    for number in (1, 2, 3):
        one, other = (registry_of(o).manifest(number) for o in (whole, out))
        assert one["adapter"] == other["adapter"]
        assert one["rule_state"] == other["rule_state"]
    for site in SITES:
        assert charges(out, site) == charges(whole, site)


@pytest.fixture(scope="module")
def tight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """What is asked where a site may pay for one round twice, and its whole run."""
    wanted = asked(data, "int8", "budgets.site-2=20")
    out = tmp_path_factory.mktemp("tight") / "whole"
    run(wanted, out)
    return wanted, out


@pytest.mark.parametrize(
    "death",
    [
        Death(client.round, "train_round", after=True),
        Death(client.round, "release_update", after=False),
        Death(Ledger, "sealed", after=False),
        Death(Ledger, "sealed", after=True),
    ],
)
def test_a_site_that_dies_in_a_packed_round_carries_nothing_over_twice(
    tight: tuple[Any, Path], tmp_path: Path, death: Death
) -> None:
    """Noise comes from a seed here, so that whole and interrupted runs are compared."""
    (wanted, whole), out = tight, tmp_path / "run"
    run_until(wanted, out, 1)
    death.strike(wanted, out, 2, resume=True)

    run(wanted, out, resume=True)

    for number in (1, 2, 3):
        one, other = (registry_of(o).manifest(number) for o in (whole, out))
        assert one["adapter"] == other["adapter"]
    assert len([*spent_twice(out, whole, "site-2").elements()]) <= 1


def test_a_site_that_loses_its_version_is_charged_once_for_the_round(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server sends it the whole adapter in the same round."""
    wanted, honest = asked(data, "int8"), client.round.answer
    asked_for: list[tuple[int, str]] = []

    def answer(site: Any, plan: RoundPlan, *rest: Any) -> Any:
        asked_for.append((plan.number, site.settings.name))
        made = honest(site, plan, *rest)
        if (plan.number, site.settings.name) == (1, "site-2"):
            (site.folder / "runs" / "run" / "adapter.safetensors").unlink()
        return made

    monkeypatch.setattr(client.round, "answer", answer)
    run(wanted, tmp_path / "run")

    assert asked_for == [(n, site) for n in (1, 2, 3) for site in SITES]
    told = report_of(tmp_path / "run")["rounds"]
    assert [report["refused"] for report in told] == [{}, {}, {}]
    rounds = [c[1] for c in charges(tmp_path / "run", "site-2") if c[2] == "training"]
    assert rounds == [1, 2, 3]
    shutil.rmtree(tmp_path / "run")
