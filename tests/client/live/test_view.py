"""What a site's operator sees of their site, and that looking changes nothing."""

import math
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.account import coming
from client.budget import Budget, budget
from client.live.view import View, _computed, look, unready
from client.site import Site
from client.standing import leave, note, pause
from shared.accounting import GaussianEvent, epsilon
from shared.errors import ConfigError
from shared.page import plain
from shared.protocol import Mechanism
from tests.factories import write_site

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHEAP = GaussianEvent(q=1.0, sigma=20.0, steps=1)
SMALL: dict[str, Any] = {"max_q": 1.0, "epsilon": 1.0}


def train(site: Site, number: int, *, send: bool = True) -> None:
    """Charge one round of run spring, and send what it made."""
    ledger = site.open_ledger()
    planned = ledger.plan(
        run="spring",
        number=number,
        what="training",
        event=CHEAP,
        clip=1.0,
        plan_digest="cd",
    )
    if send:
        ledger.sealed(planned, content=b"abc", tensors=["a"], leaves=True)


def busy(folder: Path, **policy: Any) -> Site:
    """Two rounds sent, one charged alone, two refused for one reason."""
    site = write_site(folder, **(SMALL | policy))
    for number in (1, 2):
        train(site, number)
    train(site, 3, send=False)
    for number in (4, 5):
        site.open_ledger().refused("spring", number, "PolicyRefused")
    return site


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its bytes and its time of change."""
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_fresh_site_has_spent_nothing_and_sent_nothing(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", **SMALL)

    view = look(site.folder, NOW)

    assert view.budget is not None
    assert (view.budget.spent, view.budget.limit) == (0, 1)
    assert (view.rounds, view.left, view.charges, view.faults) == ((), (), (), ())
    assert (view.node.state, view.serving) == ("stopped", "")
    assert not site.ledger.exists()


def test_the_view_says_what_the_ledger_holds(tmp_path: Path) -> None:
    view = look(busy(tmp_path / "site").folder, NOW)

    assert [(each.number, each.outcome) for each in view.rounds] == [
        (5, "PolicyRefused"),
        (4, "PolicyRefused"),
        (3, "charged"),
        (2, "sent"),
        (1, "sent"),
    ]
    assert view.took_part == 3
    assert [(one.number, one.bytes) for one in view.left] == [(2, 3), (1, 3)]
    assert (view.releases, view.bytes) == (2, 6)
    assert view.refusals == {"PolicyRefused": 2}


def test_what_is_spent_is_recomputed_and_burns_down_to_it(tmp_path: Path) -> None:
    view = look(busy(tmp_path / "site").folder, NOW)

    assert view.budget is not None
    assert view.budget.spent == epsilon([CHEAP] * 3, 1e-5)
    burnt = [charge.epsilon for charge in view.charges]
    assert burnt == [
        pytest.approx(epsilon([CHEAP] * charges, 1e-5)) for charges in (1, 2, 3)
    ]
    assert view.budget.left == 1 - view.budget.spent
    assert view.budget.next_cost == epsilon([CHEAP] * 4, 1e-5) - view.budget.spent


def test_the_next_round_is_as_the_last_or_as_the_protocol_has_it(
    tmp_path: Path,
) -> None:
    site = write_site(tmp_path / "site", **SMALL)
    usual = Mechanism()
    first = coming([])
    train(site, 1)

    assert first == GaussianEvent(q=usual.q, sigma=usual.sigma, steps=usual.steps)
    assert coming(site.open_ledger().entries()) == CHEAP


def test_epsilon_is_computed_again_only_after_a_charge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, computed = busy(tmp_path / "site"), list[int]()

    def counted(events: list[GaussianEvent], *args: Any, **more: Any) -> Budget:
        computed.append(len(events))
        return budget(events, *args, **more)

    _computed.cache_clear()
    monkeypatch.setattr("client.live.view.budget", counted)

    for _ in range(3):
        look(site.folder, NOW)
    train(site, 6)
    look(site.folder, NOW)

    assert computed == [3, 4]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    site = busy(tmp_path / "site")
    before = files(site.folder)

    look(site.folder, NOW)

    assert files(site.folder) == before


def test_a_ledger_that_was_changed_is_a_fault_and_gives_no_figure(
    tmp_path: Path,
) -> None:
    site = busy(tmp_path / "site")
    content = site.ledger.read_bytes()
    site.ledger.write_bytes(content.replace(b'"round":1', b'"round":7'))

    view = look(site.folder, NOW)

    assert view.budget is None
    assert len(view.faults) == 1
    assert view.faults[0] in unready(view)


def test_a_ledger_that_was_rolled_back_is_a_fault(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", **SMALL)
    train(site, 1)
    shutil.copy(site.ledger, tmp_path / "old")
    train(site, 2)
    shutil.copy(tmp_path / "old", site.ledger)

    assert "rolled back" in look(site.folder, NOW).faults[0]


def test_a_lost_ledger_is_no_fresh_site(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", **SMALL)
    train(site, 1)
    site.ledger.unlink()

    view = look(site.folder, NOW)

    assert view.budget is None
    assert "cannot be read" in view.faults[0]


def test_a_site_that_sent_without_noise_is_not_private_and_json_says_null(
    tmp_path: Path,
) -> None:
    site = write_site(tmp_path / "site", epsilon=math.inf)
    site.open_ledger().plan_unprotected(
        run="r", number=1, what="training", plan_digest="cd"
    )

    view = look(site.folder, NOW)

    assert view.budget is not None
    assert view.budget.exposed
    assert plain(view)["budget"]["spent"] is None
    assert plain(view)["charges"][0]["epsilon"] is None


def test_the_node_is_shown_as_it_stands(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", epsilon=4.0)
    note(site.folder, "online")
    online = look(site.folder, NOW)
    pause(site.folder, NOW + timedelta(hours=1))
    paused, resumed = (look(site.folder, NOW + timedelta(hours=h)) for h in (0, 2))
    leave(site.folder)
    left = look(site.folder, NOW)

    assert (online.node.state, unready(online)) == ("online", [])
    assert (paused.node.paused, paused.node.until) == (
        True,
        "2026-03-01T13:00:00+00:00",
    )
    assert "paused" in unready(paused)[0]
    assert not resumed.node.paused
    assert "left" in unready(left)[0]


def test_a_site_whose_budget_has_no_room_is_not_ready(tmp_path: Path) -> None:
    site = write_site(
        tmp_path / "site", max_q=1.0, epsilon=epsilon([CHEAP], 1e-5) + 1e-3
    )
    note(site.folder, "online")
    train(site, 1)

    reasons = unready(look(site.folder, NOW))

    assert reasons == ["the budget has no room for the next round"]


def test_a_long_history_is_counted_whole_and_shown_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.live.view.MOST_ROWS", 3)
    site = write_site(tmp_path / "site", **SMALL)
    ledger = site.open_ledger()
    for number in range(1, 6):
        ledger.refused("spring", number, "PolicyRefused")

    view = look(site.folder, NOW)

    assert view.refusals == {"PolicyRefused": 5}
    assert [each.number for each in view.rounds] == [5, 4, 3]


def test_the_release_in_force_here_is_named(tmp_path: Path) -> None:
    site = write_site(tmp_path / "site", **SMALL)
    (site.folder / "releases").mkdir()
    current = site.folder / "releases" / "current.json"

    current.write_text('{"release": "spring/3", "pointer": "{}"}', "utf-8")
    named = look(site.folder, NOW).serving
    current.write_text("[", "utf-8")
    torn = look(site.folder, NOW).serving

    assert (named, torn) == ("spring/3", "")


def test_a_folder_that_is_no_site_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no site"):
        look(tmp_path, NOW)


@settings(max_examples=40)
@given(people=st.integers(1, 30), users=st.integers(30, 90))
def test_neither_the_data_nor_the_declared_users_change_the_view(
    tmp_path_factory: pytest.TempPathFactory, people: int, users: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "seen"

    def seen(data: bytes, declared: int) -> View:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        (folder / "data" / "interactions.csv").write_bytes(data)
        return look(write_site(folder, users=declared, epsilon=1.0).folder, NOW)

    rows = b"".join(b"user-%d,item-1\n" % n for n in range(people))

    assert seen(rows, users) == seen(os.urandom(8), 20)
