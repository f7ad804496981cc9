"""A release for serving: told, charged, then read, noised and sealed; or refused."""

import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from client.account import TUNE, rounds
from client.commands.tune import tune as tune_command
from client.data import load
from client.forgotten import add
from client.noise import system_uniform
from client.serving.feedback import tune as module
from client.serving.feedback.adaptation import Adaptation
from client.serving.feedback.arms import NAMES
from client.serving.feedback.log import opened
from client.serving.feedback.segments import SEGMENTS
from client.serving.feedback.sums import CELLS, KEPT, noised, summed, tallies_of
from client.serving.feedback.tallies import FILE, SHAPE, read_tallies
from client.serving.feedback.tastes import TOPICS, Tastes, layout_of
from client.serving.feedback.tune import COUNTED, cost, tune, usual_sigma
from client.serving.feedback.votes import VOTE
from client.serving.people import BUCKETS, group_bonus
from client.serving.topics import Topics
from client.site import Site, open_site
from shared.accounting import GaussianEvent, epsilon
from shared.errors import (
    BudgetSpent,
    ConfigError,
    DataError,
    LedgerBroken,
    LedgerBusy,
    PolicyRefused,
)
from tests.client.serving.feedback.logged import MORE, USUAL, did, log, shown
from tests.factories import write_site
from tests.syntax import ROOT

command_line = typer.Typer()
command_line.command()(tune_command)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site of one user, who chose what the higher alpha gave."""
    made = write_site(tmp_path, releases=("serving",))
    log(tmp_path, [shown("l", "ann")], [did("ann", "i0", "l")])
    return made


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise that is always 0, so that what was summed can be seen."""
    monkeypatch.setattr(module, "_noise", lambda *_: np.zeros)


def states(site: Site) -> list[str]:
    return [
        f"{e.state} {e.body.get('what', '')}".strip()
        for e in site.open_ledger().entries()
    ]


def won(site: Site, level: str, segment: str = "few") -> float:
    """How many votes a level won, to a hundredth."""
    tallies = read_tallies(site.folder)
    assert tallies is not None
    return round(float(tallies.of_segment(segment)[NAMES.index(level), 0]), 2)


def test_a_release_is_charged_sealed_and_in_force(site: Site) -> None:
    made = tune(site, 2.0)

    _, planned, sealed = site.open_ledger().entries()
    content = (site.folder / FILE).read_bytes()
    assert (planned.body["what"], planned.body["run"]) == ("serving", TUNE)
    assert (planned.body["q"], planned.body["sigma"]) == (1.0, 2.0)
    assert (planned.body["steps"], planned.body["clip"]) == (1, 1.0)
    assert sealed.body["leaves"] is False
    assert (sealed.body["bytes"], sealed.body["tensors"]) == (
        len(content),
        ["groups", "votes"],
    )
    assert stat.S_IMODE((site.folder / FILE).stat().st_mode) == 0o600
    found = read_tallies(site.folder)
    assert found is not None
    assert found.to_bytes() == content == made.to_bytes()
    assert found.noise == pytest.approx((2.0 / VOTE) ** 2)


def test_the_charge_is_in_the_ledger_before_anything_is_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def reading(folder: Path) -> Any:
        seen.append(states(site))
        return opened(folder)

    monkeypatch.setattr(module, "opened", reading)
    tune(site, 2.0)

    assert seen == [["opened", "planned serving"]]
    assert states(site) == ["opened", "planned serving", "sealed"]


def test_nothing_else_of_this_package_reads_users_for_serving() -> None:
    """Raw feedback is opened by the charged release and by the operator's report."""
    code = {path: path.read_text("utf-8") for path in (ROOT / "client").rglob("*.py")}
    using = {path.name for path, text in code.items() if "feedback.log import" in text}

    assert len(code) > 60
    assert using == {"tune.py", "report.py"}


def test_a_release_that_fails_stays_charged_and_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(site, 5.0)
    before = (site.folder / FILE).read_bytes()

    def failing(folder: Path) -> Any:
        raise DataError(f"{folder.name} burns")

    monkeypatch.setattr(module, "opened", failing)
    with pytest.raises(DataError, match="burns"):
        tune(site, 5.0)

    assert states(site)[-2:] == ["sealed", "planned serving"]
    assert (site.folder / FILE).read_bytes() == before
    assert read_tallies(site.folder) is not None


@pytest.mark.usefixtures("quiet")
def test_a_crash_after_the_seal_leaves_what_was_in_force(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tune(site, 5.0)
    log(site.folder, [shown("m", "bob")], [did("bob", "i0", "m")])

    def failing(path: Path, content: bytes) -> None:
        raise OSError(path, len(content))

    with monkeypatch.context() as patch:
        patch.setattr(module, "keep_secret", failing)
        with pytest.raises(OSError, match="counted"):
            tune(site, 5.0)

    kept = read_tallies(site.folder)
    assert kept is not None
    assert kept.to_bytes() == first.to_bytes()
    assert tune(site, 5.0).number == 3
    assert won(site, MORE) == 1 + KEPT  # bob's vote, and half of ann's


@pytest.mark.usefixtures("quiet")
def test_feedback_counts_in_one_release_and_fades_by_half(site: Site) -> None:
    tune(site, 5.0)
    once = won(site, MORE)
    tune(site, 5.0)
    later = won(site, MORE)
    log(site.folder, [shown("m", "ann")], [did("ann", "i1", "m")])
    tune(site, 5.0)

    assert (once, later) == (1.0, KEPT)
    assert (won(site, MORE), won(site, USUAL)) == (KEPT**2, 1.0)


@pytest.mark.usefixtures("quiet")
def test_a_store_that_began_anew_is_counted_from_its_first_event(site: Site) -> None:
    tune(site, 5.0)
    for path in (site.folder / "serving").glob("serving.sqlite*"):
        path.unlink()
    (site.folder / COUNTED).write_text('{"events": 7}')
    log(site.folder, [shown("m", "bob")], [did("bob", "i1", "m")])

    tune(site, 5.0)

    assert won(site, USUAL) == 1.0


@pytest.mark.usefixtures("quiet")
def test_who_was_forgotten_is_not_counted(site: Site) -> None:
    add(site.folder, "ann")

    tune(site, 5.0)

    assert won(site, MORE) == 0.0


def test_what_is_served_learns_from_it(site: Site) -> None:
    lists = [shown(f"l{n}", f"user{n}") for n in range(60)]
    log(site.folder, lists, [did(f"user{n}", "i0", f"l{n}") for n in range(60)])

    made = tune(site, 1.0)

    assert Adaptation(made).best("few").alpha == 0.2
    assert Adaptation(made).best("new").alpha == 0.0


@pytest.mark.parametrize(
    ("policy", "sigma", "reason"),
    [
        ({"releases": ("popularity", "metrics")}, 5.0, "does not list 'serving'"),
        ({"min_serving_sigma": 6.0}, 5.0, r"sigma=5\.0 is under min-serving-sigma=6"),
        ({}, float("nan"), "sigma=nan"),
        ({}, float("inf"), "sigma=inf"),
    ],
)
def test_what_the_policy_does_not_allow_is_refused_before_any_charge(
    tmp_path: Path, policy: dict[str, Any], sigma: float, reason: str
) -> None:
    site = write_site(tmp_path, **{"releases": ("serving",), **policy})
    log(tmp_path, [], [did("ann", "i0")])

    for refused in (tune, cost):
        with pytest.raises(PolicyRefused, match=reason):
            refused(site, sigma)

    assert not site.ledger.exists()


def test_a_site_allows_no_such_release_unless_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('name = "north"\n')
    (tmp_path / "policy.toml").write_text("epsilon = 3\nusers = 50\n")

    with pytest.raises(PolicyRefused, match="does not list 'serving'"):
        tune(open_site(tmp_path), 5.0)


def test_a_release_beyond_the_budget_is_refused_and_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write_site(tmp_path, epsilon=1.0, releases=("serving",))
    log(tmp_path, [], [did("ann", "i0")])
    monkeypatch.setattr(module, "_read", None)

    with pytest.raises(BudgetSpent, match=r"above the budget 1\.0000"):
        tune(site, 2.0)

    assert states(site) == ["opened", "refused"]


def test_a_release_waits_for_no_round(site: Site) -> None:
    with (
        site.open_ledger().alone(),
        pytest.raises(LedgerBusy, match=r"another process of site .* is in a round"),
    ):
        tune(site, 2.0)

    assert states(site) == ["opened"]


def test_who_served_nobody_pays_nothing(tmp_path: Path) -> None:
    site = write_site(tmp_path, releases=("serving",))

    with pytest.raises(ConfigError, match="nobody was served yet"):
        tune(site, 2.0)

    assert not site.ledger.exists()


def test_a_release_is_no_round_that_the_site_took_part_in(site: Site) -> None:
    tune(site, 2.0)

    assert rounds(site.open_ledger().entries()) == []


@pytest.mark.parametrize("damage", ["other bytes", "other purpose", "no ledger"])
def test_tallies_that_the_ledger_did_not_seal_are_refused(
    site: Site, damage: str
) -> None:
    tune(site, 2.0)
    path = site.folder / FILE
    if damage == "other bytes":
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
    elif damage == "other purpose":
        ledger = site.open_ledger()
        event = GaussianEvent(q=1.0, sigma=50.0, steps=1)
        planned = ledger.plan(
            *(),
            run="r",
            number=1,
            what="popularity",
            event=event,
            clip=1.0,
            plan_digest="",
        )
        path.write_bytes(b"popularity")
        ledger.sealed(planned, content=b"popularity", tensors=[], leaves=False)
    else:
        site.ledger.unlink()

    with pytest.raises(LedgerBroken):
        read_tallies(site.folder)


def test_before_the_first_release_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read_tallies(tmp_path) is None


def test_the_cost_is_on_top_of_all_that_was_spent(site: Site) -> None:
    before = cost(site, 4.0)
    tune(site, 4.0)
    after = cost(site, 4.0)

    one, delta = GaussianEvent(q=1.0, sigma=4.0, steps=1), site.policy.delta
    assert (before.before, before.limit) == (0.0, 100.0)
    assert before.after == after.before == epsilon([one], delta)
    assert after.after == epsilon([one, one], delta)
    assert site.open_ledger().epsilon() == after.before


def test_the_usual_noise_is_never_under_the_policys(tmp_path: Path) -> None:
    strict = write_site(tmp_path / "strict", min_serving_sigma=30.0)

    assert usual_sigma(write_site(tmp_path / "usual")) == 10.0
    assert usual_sigma(strict) == 30.0


def test_noise_is_in_every_cell_whatever_was_counted() -> None:
    sigma, draws = 7.0, 800
    for total in (np.zeros(CELLS), np.full(CELLS, 1e3)):
        off = np.array(
            [noised(total, sigma, system_uniform) - total for _ in range(draws)]
        )

        assert abs(off.std() / sigma - 1) < 4 / (2 * off.size) ** 0.5
        assert abs(off.mean() / sigma) < 4 / off.size**0.5
        assert np.all(np.abs(off.std(axis=0) / sigma - 1) < 5 / (2 * draws) ** 0.5)


def test_as_much_noise_is_drawn_for_nobody_as_for_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def counted(site: Site, number: int) -> Any:
        assert (site.settings.name, number) == ("site-1", 1)

        def uniform(count: int) -> Any:
            counts.append(count)
            return system_uniform(count)

        return uniform

    monkeypatch.setattr(module, "_noise", counted)
    for name, users in (("none", 0), ("many", 20)):
        site = write_site(tmp_path / name, releases=("serving",))
        people = [f"user{n}" for n in range(users)]
        events = [did(user, "i0", f"of {user}") for user in people]
        log(site.folder, [shown(f"of {user}", user) for user in people], events)
        tune(site, 5.0)

    assert counts[: len(counts) // 2] == counts[len(counts) // 2 :]


def test_production_noise_comes_from_the_operating_system(tmp_path: Path) -> None:
    secret = write_site(tmp_path / "secret")
    seeded = write_site(tmp_path / "seeded", insecure_test_noise=True)

    assert module._noise(secret, 1) is system_uniform
    assert np.array_equal(module._noise(seeded, 1)(9), module._noise(seeded, 1)(9))


TOPICS_OF_SIX = Topics(
    ("a", "b"), np.array([0, 0, 1, 1, 1, 0]), np.eye(2, 8, dtype=np.float32)
)
GROUPS = ("age", "place")
taste = st.tuples(
    st.dictionaries(st.sampled_from([*GROUPS, "odd"]), st.text(max_size=3)),
    st.sets(st.integers(0, 5)),
)


@given(
    people=st.dictionaries(st.sampled_from("abcd"), taste, min_size=1),
    counts=st.dictionaries(
        st.sampled_from("abcd"), st.lists(st.integers(0, CELLS - 1), max_size=9)
    ),
    gone=st.sampled_from("abcd"),
)
def test_one_user_moves_votes_and_tastes_together_by_one_at_most(
    people: dict[str, tuple[dict[str, str], set[int]]],
    counts: dict[str, list[int]],
    gone: str,
) -> None:
    def everything(users: set[str]) -> Any:
        voted = {}
        for user in users & counts.keys():
            vote = np.bincount(counts[user], minlength=CELLS).reshape(SHAPE)
            voted[user] = vote / max(1.0, float(np.linalg.norm(vote)))
        about = {user: people[user][0] for user in users & people.keys()}
        liked = {user: people[user][1] for user in users & people.keys()}
        return summed(voted, Tastes(TOPICS_OF_SIX, GROUPS, about, liked))

    users = people.keys() | counts.keys()
    moved = everything({*users}) - everything({*users} - {gone})

    assert np.linalg.norm(moved) <= 1 + 1e-6
    assert moved.shape == (CELLS + 2 * (1 + BUCKETS * 2),)


def test_votes_mean_the_same_with_groups_and_without() -> None:
    """The scale of one vote is undone, and its noise is scaled alike."""
    one = np.zeros(SHAPE)
    one[0, 0, 0] = one[0, 1, 1] = VOTE
    nobody = Tastes(TOPICS_OF_SIX, GROUPS, {}, {})
    layout = layout_of(TOPICS_OF_SIX, GROUPS)

    alone = tallies_of(summed({"a": one}, None), 3.0, 1, "", None)
    beside = tallies_of(summed({"a": one}, nobody), 3.0, 1, layout, alone)

    assert alone.votes[0, 0, 0] == pytest.approx(1.0)
    assert beside.votes[0, 0, 0] == pytest.approx(1 + KEPT)
    assert alone.noise == pytest.approx(18.0)
    assert beside.noise == pytest.approx(36.0 + KEPT**2 * 18.0)
    assert (alone.groups_noise, len(alone.groups)) == (0.0, 0)
    assert beside.groups_noise == pytest.approx(3.0 * 2**0.5)


@pytest.fixture
def grouped(tmp_path: Path) -> Site:
    """A site whose serving.toml names a group, with the tiny encoder and 20 people."""
    made = write_site(tmp_path, people=20, releases=("serving",))
    (tmp_path / "serving.toml").write_text('groups = ["age"]\n')
    log(tmp_path, [shown("l", "ann")], [did("ann", "i0", "l")])
    return made


@pytest.mark.usefixtures("quiet")
def test_tastes_of_groups_are_released_with_the_votes(grouped: Site) -> None:
    data = load(grouped.data, grouped.folder)
    liked = data.histories[0].user
    add(grouped.folder, data.histories[1].user)

    made = tune(grouped, 5.0)

    (count,) = {len(made.groups) / (1 + BUCKETS)}
    names = json.loads((grouped.folder / TOPICS).read_text())["names"]
    assert count == len(names)
    everybody = made.groups[: len(names)]
    # 18 or 19 voters of at least length 1/sqrt(2) each in the row of everybody
    assert liked not in made.to_bytes().decode("latin-1")
    assert 0 < everybody.sum() <= 20 * len(names) ** 0.5
    assert np.abs(made.groups[len(names) :]).max() < 0.01  # nobody declared an age
    assert won(grouped, MORE) == pytest.approx(1.0, abs=0.02)


def test_a_groups_taste_comes_back_from_a_release() -> None:
    liked = {f"u{n}": {0, 1, 5} if n % 2 else {2, 3, 4} for n in range(200)}
    about = {f"u{n}": {"age": "young" if n % 2 else "old"} for n in range(200)}
    tastes = Tastes(TOPICS_OF_SIX, ("age",), about, liked)
    layout = layout_of(TOPICS_OF_SIX, ("age",))

    made = tallies_of(summed({}, tastes), 1.0, 1, layout, None)
    bonus = group_bonus(
        made.groups, made.groups_noise, {"age": "young"}, TOPICS_OF_SIX, ("age",)
    )

    assert np.all(bonus[[0, 1, 5]] > 0.1)
    assert np.all(bonus[[2, 3, 4]] < -0.1)


def test_another_set_of_topics_or_groups_has_another_layout() -> None:
    other = Topics(("a", "c"), TOPICS_OF_SIX.of_item, TOPICS_OF_SIX.centres)
    layouts = {
        layout_of(topics, groups)
        for topics in (TOPICS_OF_SIX, other)
        for groups in ((), ("age",), ("place",), ("age", "place"))
    }

    assert len(layouts) == 8


def command(site: Site, *words: str, answer: str = "") -> Any:
    return CliRunner().invoke(
        command_line, [str(site.folder), *words], input=answer, catch_exceptions=False
    )


def test_the_command_tells_the_cost_and_asks_before_it_spends(site: Site) -> None:
    told = command(site, "--sigma", "4", answer="n\n")

    price = cost(site, 4.0)
    assert f"from 0.0000 to {price.after:.4f}" in told.output
    assert "of the budget 100.0000" in told.output
    assert told.exit_code == 1
    assert not site.ledger.exists()
    assert command(site, "--sigma", "4", answer="y\n").exit_code == 0
    assert site.open_ledger().epsilon() == price.after


def test_a_dry_run_spends_nothing(site: Site) -> None:
    told = command(site, "--dry-run")

    assert "sigma 10 brings epsilon from 0.0000 to" in told.output
    assert not site.ledger.exists()


def test_a_cost_beyond_the_budget_is_told_and_refused_for_the_record(
    tmp_path: Path,
) -> None:
    site = write_site(tmp_path, epsilon=1.0, releases=("serving",))
    log(tmp_path, [], [did("ann", "i0")])

    told = command(site, "--sigma", "2", "--dry-run")

    assert "above the budget 1.0000: it would be refused" in told.output
    assert not site.ledger.exists()
    with pytest.raises(BudgetSpent):
        command(site, "--sigma", "2")


def test_with_yes_nobody_is_asked(site: Site) -> None:
    assert "Release 1 is in force" in command(site, "--yes").output


def test_tallies_name_all_segments_and_levels(site: Site) -> None:
    made = tune(site, 2.0)

    assert made.votes.shape == (len(SEGMENTS), len(NAMES), 2)
