import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from client.serving.language.head import Chances, features, labels_of, train

LABELS = labels_of(["genres"])


def separable(seed: int, words: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(LABELS), words)
    inputs = np.eye(len(LABELS))[targets] * 3 + rng.normal(0, 0.3, (words, len(LABELS)))
    return inputs.astype(np.float32), targets


HEAD = train(*separable(3, 30), LABELS)


def test_a_head_finds_what_can_be_told_apart() -> None:
    inputs, targets = separable(1)
    others, truth = separable(2)

    found = train(inputs, targets, LABELS).chances(others).of.argmax(axis=1)

    assert (found == truth).mean() > 0.98


def test_the_same_words_make_the_same_head() -> None:
    one, other = train(*separable(1), LABELS), train(*separable(1), LABELS)

    assert np.array_equal(one.weights, other.weights)


@given(seed=st.integers(0, 1000))
def test_chances_of_a_word_add_up_to_one(seed: int) -> None:
    rng = np.random.default_rng(seed)

    of = HEAD.chances(rng.normal(0, 50, (5, len(LABELS))).astype(np.float32)).of

    assert np.allclose(of.sum(axis=1), 1, atol=1e-5)


def test_runs_are_of_one_kind_and_begin_anew() -> None:
    said = ["outside", "B-genres", "I-genres", "B-genres", "I-about", "outside"]
    of = np.eye(len(LABELS))[[LABELS.index(label) for label in said]]

    runs = Chances(LABELS, of.astype(np.float32)).runs()

    assert runs == [(1, 3, "genres"), (3, 4, "genres"), (4, 5, "about")]


def test_a_word_is_read_with_its_neighbours() -> None:
    vectors, hints = np.array([[1.0], [2.0], [3.0]]), np.array([[10.0], [20.0], [30.0]])

    read = features(vectors.astype(np.float32), hints.astype(np.float32))

    assert read.tolist() == [
        [0, 0, 1, 10, 2, 20],
        [1, 10, 2, 20, 3, 30],
        [2, 20, 3, 30, 0, 0],
    ]
