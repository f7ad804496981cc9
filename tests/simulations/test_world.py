"""The sites of a simulation, and what no site sees."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.data import SiteData, load, save
from client.policy import RELEASES
from client.site import open_site
from shared.errors import ConfigError, DataError
from simulations.population import generate
from simulations.scenario import Scenario
from simulations.scenario_file import read_scenario
from simulations.world import (
    World,
    cache_folder,
    centre,
    make_world,
    places_in,
    write_data,
    write_site,
)

SMALL = {"users": 40, "sites": 3, "base": "tiny"}


def asked(*sets: str, **options: object) -> Scenario:
    return read_scenario(None, {**SMALL, **options}, sets)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(asked())


def test_every_user_is_at_one_site_with_all_events_but_the_last_two(
    world: World,
) -> None:
    whole = generate(np.random.default_rng([0, 1]), users=40).data
    events = {history.user: history for history in whole.histories}

    met = [history for data in world.training for history in data.histories]

    assert world.names == ("site-1", "site-2", "site-3")
    assert sorted(history.user for history in met) == sorted(events)
    for history in met:
        assert history == events[history.user].events(slice(len(history)))
        assert len(history) == len(events[history.user]) - 2


def test_no_held_out_event_is_in_what_a_site_trains_on(world: World) -> None:
    for data, split in zip(world.training, world.splits, strict=True):
        for history, user in zip(data.histories, split.users, strict=True):
            assert history == user.train
            assert user.validation.item not in history.items
            assert user.test.item not in history.items
            assert np.array_equal(user.test.before.items[: len(history)], history.items)


@pytest.mark.parametrize("partition", ["iid", "size", "taste", "domain"])
def test_the_same_seed_gives_the_same_world(partition: str) -> None:
    one, same, other = (
        make_world(asked(partition=partition, users=60, seed=seed))
        for seed in (4, 4, 5)
    )

    assert one.training == same.training
    assert one.training != other.training
    assert (one.splits[0].users == same.splits[0].users) is True


def test_a_world_shows_how_many_sites_and_no_user(world: World) -> None:
    assert repr(world) == "World(3 sites)"


def test_a_data_set_of_ones_own_is_divided_instead(tmp_path: Path) -> None:
    whole = generate(np.random.default_rng(7), users=9, items=144).data
    save(tmp_path, whole)

    made = make_world(asked(data=str(tmp_path), sites=2))

    assert made.training[0].catalogue == whole.catalogue
    assert sum(len(data.histories) for data in made.training) == 9


def test_what_users_declared_comes_to_their_site_folder(tmp_path: Path) -> None:
    whole = generate(np.random.default_rng(7), users=9, items=144).data
    people = {history.user: {"age": "18-24"} for history in whole.histories}
    idle = {"nobody's": {"age": "56+"}}
    save(tmp_path / "whole", replace(whole, people=people | idle))

    made = make_world(asked(data=str(tmp_path / "whole"), sites=2))
    write_data(tmp_path / "sites", made)

    found = [load(tmp_path / "sites" / name) for name in made.names]
    assert [list(data.people) for data in found] == [
        [history.user for history in data.histories] for data in found
    ]
    assert {**found[0].people, **found[1].people} == people


def test_a_site_without_anyone_to_evaluate_is_refused(tmp_path: Path) -> None:
    whole = generate(np.random.default_rng(7), users=3, items=144).data
    idle = tuple(history.events(slice(2)) for history in whole.histories)
    save(tmp_path, SiteData(whole.catalogue, idle))

    with pytest.raises(DataError, match="site-1 has no user with three likes"):
        make_world(asked(data=str(tmp_path), sites=1))


def test_more_sites_than_users_are_refused() -> None:
    with pytest.raises(DataError, match="ask for fewer"):
        make_world(asked(users=2))


def test_what_is_written_is_what_a_site_reads(tmp_path: Path, world: World) -> None:
    write_data(tmp_path, world)

    for name, data in zip(world.names, world.training, strict=True):
        assert load(tmp_path / name) == data


def test_the_held_out_events_are_nowhere_in_a_sites_files(
    tmp_path: Path, world: World
) -> None:
    write_data(tmp_path, world)

    written = {
        (history.user, item)
        for name in world.names
        for history in load(tmp_path / name).histories
        for item in history.items.tolist()
    }
    held = {
        (user.train.user, event.item)
        for split in world.splits
        for user in split.users
        for event in (user.validation, user.test)
    }

    assert len(held) >= 40
    assert not held & written


def test_a_site_folder_is_a_site_with_the_budget_that_was_asked(tmp_path: Path) -> None:
    scenario = asked("budgets.site-2=1.5", epsilon=4.0, delta=1e-6)
    folders = {
        name: write_site(
            tmp_path / "arm",
            name,
            tmp_path / "data" / name,
            scenario=scenario,
            users=304,
            private=True,
        )
        for name in ("site-1", "site-2")
    }

    one, two = (open_site(folder) for folder in folders.values())
    assert (one.settings.name, one.settings.base) == ("site-1", "tiny")
    assert one.data.resolve() == (tmp_path / "data" / "site-1").resolve()
    assert (one.policy.epsilon, two.policy.epsilon) == (4.0, 1.5)
    assert (one.policy.users, one.policy.delta) == (300, 1e-6)
    assert one.policy.modules == ("output",)
    assert one.policy.releases == RELEASES
    assert not one.policy.insecure_test_noise
    assert {path.name for path in folders["site-1"].iterdir()} == {
        "site.toml",
        "policy.toml",
    }


def test_a_site_allows_the_modules_that_the_scenario_trains_and_no_others(
    tmp_path: Path,
) -> None:
    folder = write_site(
        *(tmp_path, "site-1", tmp_path),
        scenario=asked("spec.modules=dense:2", "spec.down=seed"),
        users=30,
        private=True,
    )

    assert open_site(folder).policy.modules == ("dense:2",)


def test_what_a_site_recorded_stays_when_its_folder_is_written_again(
    tmp_path: Path,
) -> None:
    """A run that is resumed writes the settings anew, and nothing else."""
    states: list[str] = []
    for number in (1, 2):
        folder = write_site(
            *(tmp_path, "site-1", tmp_path), scenario=asked(), users=30, private=True
        )
        ledger = open_site(folder).open_ledger()
        ledger.refused("run", number, "PolicyRefused")
        states = [entry.state for entry in ledger.entries()]

    assert states == ["opened", "refused", "refused"]


@pytest.mark.parametrize(("users", "declared"), [(1, 10), (14, 10), (96, 100)])
def test_a_site_declares_a_round_number_of_users(
    tmp_path: Path, users: int, declared: int
) -> None:
    folder = write_site(
        tmp_path, "site-1", tmp_path, scenario=asked(), users=users, private=True
    )

    assert open_site(folder).policy.users == declared


def test_a_delta_that_promises_nothing_to_one_of_the_users_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match=r"delta=0.02 .* 1/users = 0.01"):
        write_site(
            tmp_path,
            "site-1",
            tmp_path,
            scenario=asked(delta=0.02),
            users=96,
            private=True,
        )


def test_a_site_without_privacy_has_an_infinite_budget(tmp_path: Path) -> None:
    scenario = asked("budgets.site-1=1.5", "insecure-test-noise=true")

    folder = write_site(
        tmp_path, "site-1", tmp_path, scenario=scenario, users=30, private=False
    )

    policy = open_site(folder).policy
    assert policy.epsilon == math.inf
    assert policy.insecure_test_noise


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TACIT_CACHE", str(tmp_path))
    named = cache_folder()
    monkeypatch.delenv("TACIT_CACHE")
    monkeypatch.setenv("HOME", "/home/someone")

    assert named == tmp_path
    assert cache_folder() == Path("/home/someone/.cache/tacit")


def test_leaving_one_out_gives_a_site_the_validation_event_and_never_the_test() -> None:
    one, two = make_world(asked(split="leave-one-out")), make_world(asked())

    for data, split in zip(one.training, one.splits, strict=True):
        for history, user in zip(data.histories, split.users, strict=True):
            assert user.validation.item in history.items
            assert user.test.item not in history.items
    assert [split.users[0].test for split in one.splits] == [
        split.users[0].test for split in two.splits
    ]


def test_every_event_is_a_like_where_all_are_positive(tmp_path: Path) -> None:
    whole = generate(np.random.default_rng(7), users=9, items=144).data
    mixed = tuple(
        replace(history, likes=np.arange(len(history)) % 2 == 0)
        for history in whole.histories
    )
    save(tmp_path, replace(whole, histories=mixed))

    made = make_world(asked(data=str(tmp_path), sites=1, positives="all"))

    for user, history in zip(made.splits[0].users, mixed, strict=True):
        assert user.test.item == history.items[-1]
        assert user.train.likes.all()


@pytest.mark.parametrize("partition", ["iid", "domain"])
def test_no_site_trains_with_or_against_a_cold_item_and_users_are_asked_for_them(
    partition: str,
) -> None:
    share = 0.3
    made = make_world(asked(f"cold-items={share}", partition=partition, users=60))
    plain = make_world(asked(partition=partition, users=60))

    wanted = set[str]()
    for name, before in zip(made.names, plain.training, strict=True):
        known, ranked = made.data(name).catalogue, made.catalogue(name)
        assert ranked.ids[: len(known)] == known.ids
        assert {*ranked.ids} == {*before.catalogue.ids}
        assert len(known) == pytest.approx((1 - share) * len(ranked), rel=0.2)
        asked_for = {ranked.ids[user.test.item] for user in made.split(name).users}
        wanted |= asked_for - {*known.ids}
        users = {user.train.user: user for user in made.split(name).users}
        for history in made.data(name).histories:
            assert all(history.items < len(known))
            assert history == users[history.user].train
    assert len(wanted) > 10


def test_the_centre_ranks_the_cold_items_of_all_sites_after_those_it_knows() -> None:
    made = make_world(asked("cold-items=0.3", partition="domain", users=60))

    whole = centre(made, made.names)

    known, ranked = whole.training[0].catalogue, whole.catalogue("central")
    assert ranked.ids[: len(known)] == known.ids
    assert {*ranked.ids} == {i for n in made.names for i in made.catalogue(n).ids}
    assert len(ranked) == len({*ranked.ids}) > len(known)


def test_a_site_that_never_trains_has_events_to_ask_for_and_no_data(
    tmp_path: Path,
) -> None:
    made = make_world(asked("unseen-sites=1"))

    write_data(tmp_path, made)

    assert (made.trains, made.unseen) == (("site-1", "site-2"), ("site-3",))
    assert len(made.split("site-3").users) > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site-1", "site-2"]


def test_every_arm_is_asked_for_the_same_negatives() -> None:
    one, same, other = (
        make_world(asked("negatives=20", seed=seed)) for seed in (4, 4, 5)
    )

    drawn = one.splits[1].negatives
    assert drawn.shape == (len(one.splits[1].users), 20)
    assert np.array_equal(drawn, same.splits[1].negatives)
    assert not np.array_equal(drawn[:5], other.splits[1].negatives[:5])


@pytest.mark.parametrize("partition", ["iid", "domain"])
def test_the_centre_has_every_user_of_the_sites_with_the_items_they_had(
    partition: str,
) -> None:
    made = make_world(asked(partition=partition, users=60))

    whole = centre(made, ("site-1", "site-3")).training[0]

    found = {
        history.user: [whole.catalogue.ids[item] for item in history.items]
        for history in whole.histories
    }
    expected = {
        history.user: [made.data(name).catalogue.ids[item] for item in history.items]
        for name in ("site-1", "site-3")
        for history in made.data(name).histories
    }
    assert found == expected
    part = made.data("site-3").catalogue
    places = places_in(whole.catalogue, part)
    assert tuple(whole.catalogue.texts[place] for place in places) == part.texts
    assert whole.catalogue.subset(places.tolist()) == part
