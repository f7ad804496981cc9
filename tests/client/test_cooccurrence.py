"""The co-occurrence release: sensitivity 1, noise as stated, a head made of it."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.cooccurrence import (
    Cooccurrence,
    by_chance,
    factors,
    looked_at,
    release_cooccurrence,
)
from client.examples import UserExample
from client.noise import insecure_streams, system_uniform
from client.prior import release_popularity

ITEMS, LOOKED_AT = 20, 8
LIKES = st.lists(st.integers(0, ITEMS - 1), max_size=64)
SHARES = st.lists(st.floats(-9, 99), min_size=ITEMS, max_size=ITEMS)


def examples(users: list[list[int]]) -> list[UserExample]:
    return [UserExample(n, np.array(one, np.int64)) for n, one in enumerate(users)]


def exact(users: list[list[int]], popularity: list[float]) -> Cooccurrence:
    popular = np.array(popularity, np.float32)
    return release_cooccurrence(
        examples(users), popular, LOOKED_AT, 0.0, system_uniform
    )


def triangle(gram: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What noise is added to: the upper triangle, off the diagonal times root 2."""
    rows, columns = np.triu_indices(len(gram))
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0)).astype(np.float32)
    return gram[rows, columns] * weight


@given(others=st.lists(LIKES, max_size=6), one=LIKES, popularity=SHARES)
def test_one_user_moves_the_sum_by_at_most_1_in_l2(
    others: list[list[int]], one: list[int], popularity: list[float]
) -> None:
    """Whatever was released before, and with no like by nothing."""
    with_one, without = exact([*others, one], popularity), exact(others, popularity)

    moved = np.linalg.norm(triangle(with_one.gram) - triangle(without.gram))
    assert moved <= 1 + 1e-5
    assert one or moved == 0


@given(users=st.lists(LIKES, max_size=6), popularity=SHARES)
def test_what_is_looked_at_is_told_by_the_released_popularity_alone(
    users: list[list[int]], popularity: list[float]
) -> None:
    looked_at = exact(users, popularity).items

    assert looked_at.tolist() == exact([], popularity).items.tolist()
    rest = np.delete(np.array(popularity), looked_at)
    assert min(np.array(popularity, np.float32)[looked_at]) >= max(rest.astype("f4"))


def test_noise_has_the_stated_deviation_on_both_parts_and_is_symmetric() -> None:
    size, sigma = 300, 4.0
    flat = np.zeros(size, np.float32)

    gram = release_cooccurrence([], flat, size, sigma, system_uniform).gram

    beside = gram[np.triu_indices(size, 1)]
    assert np.array_equal(gram, gram.T)
    assert np.std(np.diag(gram)) == pytest.approx(sigma, rel=0.2)
    assert np.std(beside) == pytest.approx(sigma / np.sqrt(2), rel=0.02)
    assert abs(beside.mean()) < 5 * sigma / np.sqrt(2 * len(beside))


@given(
    users=st.integers(1, 10**6), sigma=st.floats(0.3, 100), most=st.integers(2, 10**4)
)
def test_more_noise_or_fewer_users_never_look_at_more_items(
    users: int, sigma: float, most: int
) -> None:
    here = looked_at(users, sigma, most)

    assert 2 <= here <= most == looked_at(users, 0.0, most)
    assert (
        looked_at(users, 2 * sigma, most) <= here <= looked_at(2 * users, sigma, most)
    )


def two_crowds() -> tuple[list[list[int]], npt.NDArray[np.float32]]:
    """Users who like items 0 to 3, users who like 4 to 7, and all their popularity."""
    rng = np.random.default_rng(0)
    users = [
        (rng.permutation(4)[:3] + 4 * (number % 2)).tolist() for number in range(200)
    ]
    return users, release_popularity(examples(users), ITEMS, 0.0, system_uniform)


def test_the_head_scores_what_the_same_people_like_above_the_rest() -> None:
    users, popularity = two_crowds()
    noise = insecure_streams(1).noise
    released = release_cooccurrence(examples(users), popularity, LOOKED_AT, 1.0, noise)

    table = factors(released, ITEMS, 4, len(users))["factors.weight"]

    scores = table[0] @ table.T
    assert scores[1:4].min() > 1
    assert scores[4:8].max() <= 0
    assert not table[8:].any()


def test_noise_alone_makes_a_head_that_says_nothing() -> None:
    flat = np.zeros(ITEMS, np.float32)
    said = list[bool]()
    for seed in range(100):
        noise = insecure_streams(seed).noise
        released = release_cooccurrence([], flat, ITEMS, 30.0, noise)
        said.append(bool(factors(released, ITEMS, 4, 100)["factors.weight"].any()))

    assert sum(said) <= 2


def test_a_release_about_no_item_makes_a_head_of_zeros() -> None:
    nothing = Cooccurrence(
        np.zeros(0, np.int64), np.zeros((0, 0), np.float32), sigma=0.0
    )

    state = factors(nothing, ITEMS, 4, 100)

    assert {name: array.shape for name, array in state.items()} == {
        "factors.weight": (ITEMS, 4),
        "biases.weight": (ITEMS, 1),
    }
    assert not any(array.any() for array in state.values())


def test_a_direction_counts_by_the_root_of_its_lift() -> None:
    chance = by_chance(5, 100)
    values = [np.hypot(16.0, chance) + 1, np.hypot(4.0, chance) + 1, 1.0, 1.0, 1.0]
    released = Cooccurrence(np.arange(5), np.diag(values).astype(np.float32), 0.0)
    weights = np.square(factors(released, 5, 2, users=100)["factors.weight"]).sum(0)
    assert weights[0] / weights[1] == pytest.approx(2.0)


@pytest.mark.parametrize(("size", "users"), [(200, 4000), (100, 400), (300, 100)])
def test_users_without_a_taste_make_no_head_however_exact(
    size: int, users: int
) -> None:
    drawn = np.random.default_rng(size).normal(size=(users, size))
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    gram = (unit.T @ unit).astype(np.float32)
    values = np.linalg.eigvalsh(gram)
    reach = float(values[-1] - np.median(values))
    assert reach == pytest.approx(by_chance(size, users), rel=0.2)
    state = factors(Cooccurrence(np.arange(size), gram, 0.0), size, 4, users)
    assert not state["factors.weight"].any()
    taste = (unit + 1.0 / np.sqrt(size)).T @ (unit + 1.0 / np.sqrt(size))
    told = Cooccurrence(np.arange(size), taste.astype(np.float32), 0.0)
    assert factors(told, size, 4, users)["factors.weight"].any()
