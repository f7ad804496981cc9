"""Exploration among fresh items: the chances that it tells are those it has."""

import numpy as np
import pytest

from client.serving.explore import Exploration

FRESH = np.array([4, 7, 9])
TOTALS = np.log(np.array([1, 2, 5], np.float32))


def free(*places: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.zeros(12, np.bool_)
    mask[list(places)] = True
    return mask


def test_a_fresh_item_is_drawn_by_the_softmax_of_its_score() -> None:
    exploring = Exploration(FRESH, TOTALS, 0.1)

    assert [exploring.chance(free(4, 7, 9), n) for n in FRESH] == pytest.approx(
        [0.125, 0.25, 0.625]
    )
    assert exploring.chance(free(4, 7, 9), 1) == 0


def test_what_is_drawn_is_drawn_as_often_as_told() -> None:
    exploring, mask = Exploration(FRESH, TOTALS, 0.1), free(4, 9)
    coins = (np.arange(3000) + 0.5) / 3000

    drawn = [exploring.drawn(mask, coin) for coin in coins]

    assert drawn.count(7) == 0
    assert drawn.count(9) / 3000 == pytest.approx(exploring.chance(mask, 9), abs=1e-3)


def test_the_share_ends_when_no_fresh_item_is_free() -> None:
    exploring = Exploration(FRESH, TOTALS, 0.1)

    assert exploring.share(free(4)) == 0.1
    assert exploring.share(free(5)) == 0.0
    assert Exploration(FRESH[:0], TOTALS[:0], 0.1).share(free(4)) == 0.0


def test_scores_that_are_far_apart_leave_chances_that_add_up() -> None:
    """As rules can make them; even the last coin draws an item that is free."""
    exploring = Exploration(FRESH, np.array([1000, -1000, 0], np.float32), 0.5)

    assert exploring.drawn(free(4, 7, 9), np.nextafter(1, 0)) == 4
    assert exploring.drawn(free(7), 0.0) == 7
    assert exploring.chance(free(7, 9), 9) == pytest.approx(1)
