import numpy as np
import pytest

from client.serving.expected import expectation
from tests.client.serving.served import served


def test_what_texts_tell_of_popularity_is_expected_of_new_items() -> None:
    """Popularity here is a direction of the text, plus noise."""
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    truth = 2 + 3 * vectors[:, 0]
    prior = (truth + rng.normal(0, 0.1, 3000)).astype(np.float32)
    known = np.arange(3000) < 2500

    made = expectation((vectors,), prior, known).of(vectors[2500:])

    assert made.dtype == np.float32
    assert np.abs(made - truth[2500:]).mean() < 0.05


def test_the_priors_of_items_that_were_not_trained_on_have_no_part_in_it() -> None:
    model = served(200)
    other = np.where(model.fresh, 99.0, model.prior).astype(np.float32)

    one, same = (
        expectation(model.vectors.parts, prior, ~model.fresh)
        for prior in (model.prior, other)
    )

    assert np.array_equal(one.weights, same.weights)
    assert one.high == float(model.prior[~model.fresh].max()) < 99


def test_blocks_of_a_matrix_give_what_the_whole_gives() -> None:
    model = served(200)
    rows = model.vectors.parts[0]

    one, same = (
        expectation(parts, model.prior, ~model.fresh)
        for parts in ((rows,), (rows[:70], rows[70:]))
    )

    np.testing.assert_allclose(one.of(rows), same.of(rows), rtol=1e-6)


def test_nothing_is_expected_beyond_what_was_seen() -> None:
    model = served(200)
    made = expectation(model.vectors.parts, model.prior, ~model.fresh)

    far = made.of(100 * model.vectors.parts[0])

    assert made.low <= far.min() < far.max() <= made.high


@pytest.mark.parametrize("items", ["none known", "flat prior"])
def test_without_a_release_nothing_is_expected(items: str) -> None:
    model = served(50)
    known = np.full(50, items == "flat prior")

    made = expectation(model.vectors.parts, np.zeros(50, np.float32), known)

    assert not made.of(model.vectors.parts[0]).any()
