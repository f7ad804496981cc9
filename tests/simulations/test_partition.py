from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data import SiteData, UserHistory
from shared.catalogue import Catalogue
from shared.errors import ConfigError, DataError
from simulations.partition import How, partition

GENRES = ("Crime", "Drama", "War")


def population(users: int, items: int = 30) -> SiteData:
    """User u likes the items of one genre, and meets one item of the next."""
    genre_of = np.arange(items) % 3
    histories = []
    for number in range(users):
        liked = np.flatnonzero(genre_of == number % 3)
        met = np.append(liked, np.flatnonzero(genre_of == (number + 1) % 3)[0])
        steps = np.arange(len(met))
        histories.append(
            UserHistory(
                user=str(number), items=met, times=steps, likes=steps < len(liked)
            )
        )
    catalogue = Catalogue(
        ids=tuple(f"item {number}" for number in range(items)),
        texts=tuple(f"text {number}" for number in range(items)),
        attributes={"genres": tuple((GENRES[genre],) for genre in genre_of)},
    )
    people = {str(number): {"age": f"{number} years"} for number in range(0, users, 2)}
    return SiteData(catalogue, tuple(histories), people)


def parts(users: int, sites: int, how: How, seed: int = 0) -> list[SiteData]:
    return partition(
        population(users), sites=sites, how=how, rng=np.random.default_rng(seed)
    )


def users_of(data: SiteData) -> list[str]:
    return [history.user for history in data.histories]


@given(
    users=st.integers(1, 40),
    sites=st.integers(1, 40),
    how=st.sampled_from(["iid", "size", "taste"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_user_is_at_exactly_one_site_and_no_site_is_empty(
    users: int, sites: int, how: How, seed: int
) -> None:
    divided = parts(users, min(users, sites), how, seed)

    everyone = Counter(user for part in divided for user in users_of(part))
    assert everyone == Counter(str(number) for number in range(users))
    assert len(divided) == min(users, sites)
    assert all(part.histories for part in divided)


@given(users=st.integers(3, 40), sites=st.integers(1, 3))
def test_by_domain_too_every_user_is_at_exactly_one_site(
    users: int, sites: int
) -> None:
    divided = parts(users, sites, "domain")

    everyone = Counter(user for part in divided for user in users_of(part))
    assert everyone == Counter(str(number) for number in range(users))


@pytest.mark.parametrize("how", ["iid", "size", "taste", "domain"])
def test_the_same_seed_divides_alike(how: How) -> None:
    assert parts(20, 3, how) == parts(20, 3, how)


def test_iid_sites_are_of_equal_size() -> None:
    assert [len(part.histories) for part in parts(11, 3, "iid")] == [4, 4, 3]


def test_sizes_fall_by_a_power_law() -> None:
    sizes = [len(part.histories) for part in parts(114, 4, "size")]

    assert sizes == [54, 27, 19, 14]


def test_by_taste_users_who_like_alike_meet_more_often_than_by_chance() -> None:
    def alike(divided: list[SiteData]) -> int:
        tastes = [Counter(int(u) % 3 for u in users_of(part)) for part in divided]
        return sum(count**2 for taste in tastes for count in taste.values())

    seeds = range(10)

    by_taste = sum(alike(parts(300, 3, "taste", seed)) for seed in seeds)
    by_chance = sum(alike(parts(300, 3, "iid", seed)) for seed in seeds)
    assert by_taste > 1.2 * by_chance


def test_a_domain_has_its_own_items_and_only_the_events_with_them() -> None:
    whole = population(9)

    divided = parts(9, 3, "domain")

    ids = [item_id for part in divided for item_id in part.catalogue.ids]
    assert sorted(ids) == sorted(whole.catalogue.ids)
    for part in divided:
        assert len(set(part.catalogue.attributes["genres"])) == 1
        for history in part.histories:
            before = whole.histories[int(history.user)]
            liked = [whole.catalogue.ids[item] for item in before.items[before.likes]]
            assert [part.catalogue.ids[item] for item in history.items] == liked


def test_a_user_without_three_likes_in_a_domain_is_in_none() -> None:
    whole = population(4)
    shy = whole.histories[3].events(slice(2))
    data = SiteData(whole.catalogue, (*whole.histories[:3], shy))

    divided = partition(data, sites=3, how="domain", rng=np.random.default_rng(0))

    assert [users_of(part) for part in divided] == [["0"], ["1"], ["2"]]


def test_what_cannot_be_divided_is_refused_with_a_remedy() -> None:
    whole = population(4)
    no_war = SiteData(whole.catalogue, (*whole.histories[:2], whole.histories[3]))

    with pytest.raises(DataError, match="ask for fewer"):
        parts(2, 3, "iid")
    with pytest.raises(DataError, match="fewer sites or another attribute"):
        parts(9, 4, "domain")
    with pytest.raises(DataError, match="1 of 3 domains would have no user"):
        partition(no_war, sites=3, how="domain", rng=np.random.default_rng(0))


def test_an_unknown_attribute_or_way_is_refused_with_the_known_ones() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="choose one of: genres"):
        partition(population(3), sites=2, how="taste", rng=rng, attribute="colour")
    with pytest.raises(ConfigError, match="iid, size, taste, domain"):
        partition(population(3), sites=2, how="fair", rng=rng)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["iid", "size", "taste", "domain"])
def test_what_users_declared_goes_where_they_go_and_nowhere_else(how: How) -> None:
    for part in parts(24, 3, how):
        assert part.people == {
            user: {"age": f"{user} years"}
            for user in users_of(part)
            if not int(user) % 2
        }
