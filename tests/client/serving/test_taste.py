"""One user's taste: the same as in training, and what live events add to it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.model import HALF_TRUST as TRUST_IN_TRAINING
from client.model import HALF_WAY as IN_TRAINING
from client.model import HybridModel
from client.serving.model import Blocks, Served
from client.serving.score import Extra, blend, products_of
from client.serving.taste import AGAINST, HALF_TRUST, HALF_WAY, NOBODY, Past, taste_of
from shared.catalogue import Catalogue
from shared.protocol import Array
from tests.client.serving.served import served
from tests.factories import texts, tiny_model

ITEMS = 30


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> HybridModel:
    folder: Path = tmp_path_factory.mktemp("store")
    model = tiny_model(folder, ITEMS, shown=5, recency=0.7)
    torch.nn.init.normal_(model.head.biases.weight)
    return model


@pytest.fixture(scope="module")
def serving(trained: HybridModel) -> Served:
    """The same model as a site serves it."""
    rows, width = trained.item_rows().numpy(), trained.encoder.width
    return Served(
        release="spring/1",
        digest="0" * 64,
        catalogue=Catalogue(ids=texts(ITEMS), texts=texts(ITEMS)),
        vectors=Blocks((rows[:, :width],)),
        factors=Blocks((rows[:, width:],)),
        prior=trained.prior.numpy(),
        fresh=np.zeros(ITEMS, np.bool_),
        recipe=trained.recipe,
        width=width,
    )


def liking(*places: int) -> Past:
    """Somebody who liked these places, newest first."""
    items = np.array(places, np.int64)
    return Past(items=items, strengths=np.ones(len(items), np.float32), seen=items)


def scores(model: Served, past: Past, alpha: float | None = None) -> Array:
    taste = taste_of(model, past, alpha)
    return blend(products_of(model, taste, None), taste.alpha, Extra()).total


@settings(max_examples=40, deadline=None)
@given(
    history=st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=12),
    alpha=st.none() | st.floats(0, 1),
)
def test_with_plain_likes_the_scores_are_those_of_training(
    trained: HybridModel, serving: Served, history: list[int], alpha: float | None
) -> None:
    wanted = trained.score([np.array(history, np.int64)], alpha)[0]

    got = scores(serving, liking(*history), alpha)

    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_alpha_and_trust_are_half_way_at_the_same_number_of_likes_as_in_training() -> (
    None
):
    assert HALF_WAY == IN_TRAINING
    assert HALF_TRUST == TRUST_IN_TRAINING


def test_nobody_has_no_taste_and_leaves_everything_to_prior() -> None:
    model = served()

    taste = taste_of(model, NOBODY)

    assert not taste.text.any()
    assert taste.alpha == 1.0
    np.testing.assert_array_equal(scores(model, NOBODY), model.prior)


def test_what_says_nothing_does_not_count_and_does_not_use_up_a_place() -> None:
    model = served(shown=2)
    past = Past(items=np.array([9, 4, 8]), strengths=np.array([0.0, 1, 1], np.float32))

    np.testing.assert_allclose(scores(model, past), scores(model, liking(4, 8)))


def test_a_stronger_word_for_an_item_draws_its_likes_up() -> None:
    model = served(recency=0.0)
    weak = Past(items=np.array([0, 1]), strengths=np.array([0.25, 1], np.float32))
    strong = Past(items=np.array([0, 1]), strengths=np.array([1.5, 1], np.float32))
    like_0 = model.vectors.parts[0] @ model.vectors.parts[0][0]

    gain = scores(model, strong, 1.0) - scores(model, weak, 1.0)

    assert np.corrcoef(gain, like_0)[0, 1] > 0.5


def test_half_a_like_moves_the_default_alpha_half_as_far() -> None:
    model = served(alpha=0.0)
    half = Past(items=np.array([3]), strengths=np.array([0.5], np.float32))

    assert taste_of(model, half).alpha == pytest.approx(HALF_WAY / (HALF_WAY + 0.5))


def test_what_was_skipped_pushes_its_likes_down() -> None:
    model = served()
    skipped = Past(
        items=np.array([0]), strengths=np.ones(1, np.float32), against=np.array([1])
    )

    lost = scores(model, liking(0), 1.0) - scores(model, skipped, 1.0)

    assert lost[1::4].mean() > 0
    assert lost[1::4].mean() > lost[2::4].mean()


def test_skips_alone_point_away_and_only_so_far() -> None:
    model = served()
    skipped = Past(against=np.array([1, 5, 2, 3]))

    taste, moved = taste_of(model, skipped), scores(model, skipped) - model.prior

    assert np.linalg.norm(taste.text) == pytest.approx(AGAINST)
    assert moved[1::4].mean() < 0
    assert np.abs(moved).max() <= AGAINST * model.recipe.temperature + 1e-4


def test_no_user_data_shows_in_a_printed_past_or_taste() -> None:
    past = liking(123)

    shown = repr(past) + repr(taste_of(served(), past))

    assert "123" not in shown
    assert "array" not in shown
