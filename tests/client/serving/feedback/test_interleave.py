"""Interleaving: two rankings, one list, and neither has the better place."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client.serving.feedback.interleave import interleave

rankings = st.lists(st.integers(0, 30), unique=True, max_size=20).map(
    lambda places: np.array(places, np.int64)
)


@given(
    first=rankings, second=rankings, k=st.integers(0, 25), seed=st.integers(0, 2**32)
)
def test_no_item_comes_twice_and_each_side_keeps_its_order(
    first: np.ndarray, second: np.ndarray, k: int, seed: int
) -> None:
    places, teams = interleave(first, second, k, np.random.default_rng(seed))

    assert len(places) == len(teams) == min(k, len(np.union1d(first, second)))
    assert len(np.unique(places)) == len(places)
    for team, ranking in enumerate((first, second)):
        given_by = places[teams == team].tolist()
        assert given_by == [place for place in ranking if place in given_by]


@given(
    first=rankings, second=rankings, k=st.integers(1, 25), seed=st.integers(0, 2**32)
)
def test_a_side_gives_its_best_item_that_is_not_there_yet(
    first: np.ndarray, second: np.ndarray, k: int, seed: int
) -> None:
    places, teams = interleave(first, second, k, np.random.default_rng(seed))

    for turn, (place, team) in enumerate(zip(places, teams, strict=True)):
        left = [p for p in (first, second)[team] if p not in places[:turn]]
        assert place == left[0]


@given(seed=st.integers(0, 2**32), k=st.integers(0, 12))
def test_neither_side_is_ever_two_items_ahead(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(12), rng.permutation(12) + rng.integers(0, 12)

    _, teams = interleave(first, second, k, rng)

    ahead = np.cumsum(np.where(teams == 0, 1, -1))
    assert np.abs(ahead).max(initial=0) <= 1


def test_the_first_place_is_each_sides_half_of_the_time() -> None:
    rng = np.random.default_rng(1)
    draws = [interleave(np.arange(5), np.arange(5, 10), 4, rng)[1] for _ in range(4000)]

    assert abs(np.mean([teams[0] for teams in draws]) - 0.5) < 4 * 0.5 / 4000**0.5
    assert abs(np.mean([teams[2] for teams in draws]) - 0.5) < 4 * 0.5 / 4000**0.5


def test_equal_rankings_win_equally_often_whichever_item_is_chosen() -> None:
    rng, same = np.random.default_rng(2), np.arange(6)
    draws = [interleave(same, same, 6, rng)[1] for _ in range(4000)]

    assert np.all(np.abs(np.mean(draws, axis=0) - 0.5) < 4 * 0.5 / 4000**0.5)


def test_a_side_that_has_no_more_leaves_the_rest_to_the_other() -> None:
    places, teams = interleave(
        np.array([7]), np.array([7, 8, 9]), 5, np.random.default_rng(0)
    )

    assert places.tolist() == [7, 8, 9]
    assert teams.tolist()[1:] == [1, 1]
