"""Plain recommenders against answers known by construction and the papers' terms."""

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from client.data import UserHistory
from shared.errors import ConfigError
from shared.metrics import top_items
from simulations import baselines
from simulations.baselines import (
    FITS,
    GRIDS,
    Setting,
    choose,
    ease,
    item_knn,
    matrix,
)
from simulations.ranking import Ints, Score, rank_site
from simulations.split import Split, leave_one_out, leave_two_out

ITEMS = 24


def two_tastes(users: int = 60) -> list[np.ndarray]:
    """Even users like most even items, odd users odd ones, in an order of their own."""
    rng = np.random.default_rng(3)
    return [rng.permutation(np.arange(user % 2, ITEMS, 2))[:9] for user in range(users)]


def history(items: np.ndarray) -> UserHistory:
    steps = np.arange(len(items))
    return UserHistory(
        user="u", items=items, times=steps, likes=np.ones(len(items), bool)
    )


@pytest.fixture(scope="module")
def split() -> Split:
    return leave_two_out([history(items) for items in two_tastes()])


def smallest(arm: str) -> dict[str, float]:
    return {**GRIDS[arm][0], **({"factors": 2} if "factors" in GRIDS[arm][0] else {})}


@pytest.mark.parametrize("arm", FITS)
def test_who_likes_even_items_is_recommended_even_items(arm: str) -> None:
    score = FITS[arm](two_tastes(), ITEMS, smallest(arm), 0)

    liked = [np.array([4, 8, 2]), np.array([7, 1])]
    top = top_items(score(liked), liked, 6)

    assert (top % 2).tolist() == [[0] * 6, [1] * 6]


@pytest.mark.parametrize("arm", FITS)
def test_the_same_seed_gives_the_same_scores_and_a_newcomer_is_ranked(arm: str) -> None:
    one, same = (FITS[arm](two_tastes(), ITEMS, smallest(arm), 5) for _ in range(2))
    asked = [np.array([4, 8, 2]), np.zeros(0, np.int64)]

    assert np.array_equal(one(asked), same(asked))
    assert np.isfinite(one(asked)).all()
    assert one(asked).shape == (2, ITEMS)


def test_ease_solves_its_own_problem() -> None:
    """B has a zero diagonal, and off it the gradient of its loss is zero (eq. 3)."""
    histories, penalty = two_tastes(), 3.0
    weights = ease(histories, ITEMS, {"lambda": penalty}, 0)(
        [np.array([item]) for item in range(ITEMS)]
    )

    likes = matrix(histories, ITEMS).toarray()
    gradient = likes.T @ (likes @ weights - likes) + penalty * weights
    assert np.diagonal(weights).tolist() == [0.0] * ITEMS
    off = gradient[~np.eye(ITEMS, dtype=bool)]
    assert np.abs(off).max() < 1e-3


def test_item_knn_adds_up_the_cosines_of_the_nearest_items() -> None:
    histories = [np.array([0, 1]), np.array([0, 1]), np.array([0, 2]), np.array([3])]

    nearest = item_knn(histories, 4, {"k": 1}, 0)
    all_of_them = item_knn(histories, 4, {"k": 3}, 0)

    cosine = {(0, 1): 2 / np.sqrt(6), (0, 2): 1 / np.sqrt(3)}
    assert nearest([np.array([1, 2])])[0] == pytest.approx([cosine[0, 1], 0, 0, 0])
    assert all_of_them([np.array([0])])[0] == pytest.approx(
        [0, cosine[0, 1], cosine[0, 2], 0]
    )


def test_an_item_that_was_liked_twice_is_liked_once() -> None:
    assert matrix([np.array([1, 1, 2])], 4).toarray().tolist() == [[0, 1, 1, 0]]


def test_the_setting_that_ranks_validation_best_is_chosen(split: Split) -> None:
    found = {
        setting["k"]: rank_site(
            item_knn([user.tuning.items for user in split.users], ITEMS, setting, 0),
            split,
            ITEMS,
            which="validation",
        ).rank
        for setting in GRIDS["item-knn"]
    }

    fitted = choose("item-knn", split, ITEMS, 0)

    gains = {
        k: np.where(r <= 10, 1 / np.log2(1 + r), 0).mean() for k, r in found.items()
    }
    assert gains[fitted.chosen["k"]] == max(gains.values())


def test_test_events_decide_nothing(split: Split) -> None:
    """With the test events of other users in place of their own, all stays the same."""
    moved = tuple(
        replace(user, test=other.test)
        for user, other in zip(split.users, split.users[::-1], strict=True)
    )

    one, other = (
        choose("ease", each, ITEMS, 0) for each in (split, replace(split, users=moved))
    )

    asked = [np.array([1, 2, 3])]
    assert one.chosen == other.chosen
    assert np.array_equal(one.score(asked), other.score(asked))


def test_what_was_chosen_is_fitted_again_with_validation_events_if_these_are_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def counting(
        histories: Sequence[Ints], items: int, setting: Setting, seed: int
    ) -> Score:
        seen.append(sum(map(len, histories)))
        return ease(histories, items, setting, seed)

    monkeypatch.setattr(baselines, "FITS", {"ease": counting})
    histories = [history(items) for items in two_tastes()]
    for hold_out in (leave_two_out, leave_one_out):
        choose("ease", hold_out(histories), ITEMS, 0)

    tuned, tried = [60 * 7], len(GRIDS["ease"])
    assert seen == tuned * tried + tuned * tried + [60 * 8]


def test_without_the_package_a_person_is_told_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)

    with pytest.raises(ConfigError, match=r'pip install "tacit\[dev\]"'):
        FITS["als"](two_tastes(), ITEMS, smallest("als"), 0)


@pytest.mark.parametrize("arm", ["item-knn", "ease"])
def test_a_catalogue_too_large_for_a_matrix_of_items_is_refused(arm: str) -> None:
    with pytest.raises(ConfigError, match="20001 x 20001 items"):
        FITS[arm]([np.array([0])], 20_001, smallest(arm), 0)
