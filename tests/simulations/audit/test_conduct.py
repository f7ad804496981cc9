"""A site's co-occurrence is seen as it is: charged first, as noisy, staying."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import round as client_round
from client.cooccurrence import Cooccurrence, looked_at
from client.noise import insecure_streams
from client.site import Site
from shared.ledger import Ledger
from shared.protocol import RoundPlan
from simulations.audit import conduct as audit
from simulations.audit.finding import Finding

Bug = Callable[[pytest.MonkeyPatch], None]
made: Callable[..., Cooccurrence] = getattr(client_round, audit.MAKER)
charged, head, sealed = client_round._charge, client_round._charge_head, Ledger.sealed


def found(folder: Path) -> dict[str, Finding]:
    site = audit.make_site(folder / "head", users=audit.CROWD)
    return {finding.audit: finding for finding in audit._head(site)}


def made_before_it_is_charged(patch: pytest.MonkeyPatch) -> None:
    def early(site: Site, ledger: Ledger, plan: RoundPlan) -> None:
        flat, noise = np.zeros(2, np.float32), insecure_streams(1).noise
        getattr(client_round, audit.MAKER)([], flat, 2, 1.0, noise)
        head(site, ledger, plan)

    patch.setattr(client_round, "_charge_head", early)


def charged_as_if_there_were_more_noise(patch: pytest.MonkeyPatch) -> None:
    def charge(
        ledger: Ledger, plan: RoundPlan, what: str, sigma: float, *, steps: int
    ) -> int:
        said = 2 * sigma if what == "cooccurrence" else sigma
        return charged(ledger, plan, what, said, steps=steps)

    patch.setattr(client_round, "_charge", charge)


def made_anew_every_round(patch: pytest.MonkeyPatch) -> None:
    def anew(site: Site, ledger: Ledger, plan: RoundPlan) -> None:
        kept = site.folder / "runs" / plan.run / "cooccurrence.safetensors"
        kept.unlink(missing_ok=True)
        head(site, ledger, plan)

    patch.setattr(client_round, "_charge_head", anew)


def sealed_as_leaving(patch: pytest.MonkeyPatch) -> None:
    def seal(
        self: Ledger, planned: int, *, content: bytes, tensors: list[str], leaves: bool
    ) -> None:
        sealed(self, planned, content=content, tensors=tensors, leaves=leaves or True)

    patch.setattr(Ledger, "sealed", seal)


def with_half_the_noise(patch: pytest.MonkeyPatch) -> None:
    def release(*given: Any) -> Cooccurrence:
        *rest, sigma, noise = given
        return made(*rest, sigma / 2, noise)

    patch.setattr(client_round, audit.MAKER, release)


def with_noise_from_a_seed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(client_round, "_streams", lambda *_: insecure_streams(1))


def about_as_many_items_as_there_are_users(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        client_round,
        "looked_at",
        lambda _, sigma, most: looked_at(audit.USERS, sigma, most),
    )


PLANTED: list[tuple[Bug, str]] = [
    (made_before_it_is_charged, "conduct.head charged"),
    (charged_as_if_there_were_more_noise, "conduct.head charged"),
    (made_anew_every_round, "conduct.head charged"),
    (sealed_as_leaving, "conduct.head stays"),
    (with_half_the_noise, "conduct.head noised"),
    (with_noise_from_a_seed, "conduct.head noised"),
    (about_as_many_items_as_there_are_users, "conduct.head noised"),
]


def test_a_real_site_passes_and_nothing_of_it_is_left_changed(tmp_path: Path) -> None:
    told = found(tmp_path)

    assert {name for name, finding in told.items() if not finding.holds} == set()
    assert set(told) == {
        "conduct.head charged",
        "conduct.head stays",
        "conduct.head noised",
    }
    assert getattr(client_round, audit.MAKER) is made


@pytest.mark.slow
@pytest.mark.parametrize(("bug", "name"), PLANTED)
def test_a_planted_bug_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: Bug, name: str
) -> None:
    bug(monkeypatch)

    told = found(tmp_path)

    assert not told[name].holds


@pytest.mark.slow
def test_a_site_that_refuses_is_told_of(tmp_path: Path) -> None:
    site = audit.make_site(tmp_path / "head", releases=("popularity",))

    [told] = audit._head(site)

    assert not told.holds
    assert "PolicyRefused" in told.says
