"""A head on the frozen encoder that says of each word of a request what it is part of.

Softmax regression over the activations of a word and of its neighbours, with the hints
of lists and rules beside them. It is trained on made-up requests (``sentences.py``)
alone, so it is as public as the catalogue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from client.serving.language.hints import pieces_of
from client.serving.language.spelling import Word
from shared.encoder import Reading
from shared.protocol import Array

OUTSIDE, ABOUT, TITLE, WISH = "outside", "about", "title", "wish"
RIDGE = 3e-4  # weight of the squared coefficients in the loss
STEPS = 60  # of L-BFGS
LEAST = -30.0  # of a log chance: smaller numbers are no more exact, and very slow
UNHINTED = 0.15  # share of training requests whose hints are left out

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Coefficients over features, and what each column of them stands for.

    Attributes:
        labels: Of the outputs: ``outside``, then (begins, goes on) for each kind.
        weights: float32[features, labels].
        bias: float32[labels].
    """

    labels: tuple[str, ...]
    weights: Array
    bias: Array

    def chances(self, features: Array) -> "Chances":
        """Return how likely each word [n, features] has each label."""
        scores = features @ self.weights + self.bias
        grown = np.exp(scores - scores.max(axis=1, keepdims=True))
        return Chances(self.labels, grown / grown.sum(axis=1, keepdims=True))


@dataclass(frozen=True, slots=True, eq=False)
class Chances:
    """The chance of each label for each word, float32[words, labels]."""

    labels: tuple[str, ...]
    of: Array

    def part(self, kind: str) -> Array:
        """Return the chance of each word to be part of a kind, [words]."""
        columns = [at for at, label in enumerate(self.labels) if label[2:] == kind]
        total: Array = self.of[:, columns].sum(axis=1)
        return total

    def span(self, kind: str, begin: int, end: int) -> float:
        """Return the mean chance of words to be part of a kind."""
        return float(self.part(kind)[begin:end].mean())

    def runs(self) -> list[tuple[int, int, str]]:
        """Return the runs of words that most likely are of one kind, in order."""
        best = [self.labels[at] for at in self.of.argmax(axis=1)]
        runs: list[tuple[int, int, str]] = []
        for at, label in enumerate(best):
            kind = label[2:]
            if label == OUTSIDE:
                continue
            goes_on = runs and runs[-1][1] == at and runs[-1][2] == kind
            if goes_on and label.startswith("I-"):
                runs[-1] = (runs[-1][0], at + 1, kind)
            else:
                runs.append((at, at + 1, kind))
        return runs


def labels_of(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of a head for kinds of names."""
    every = (*kinds, TITLE, WISH, ABOUT)
    return (OUTSIDE, *(f"{mark}-{kind}" for kind in every for mark in "BI"))


def word_vectors(reading: Reading, words: Sequence[Word], width: int) -> Array:
    """Return the mean standardised activation of each word, [words, width].

    A word beyond the end of what was read has zeros.
    """
    hidden = standardised(reading.hidden[:, :width])
    inside = pieces_of(reading, words).astype(np.float32)
    made: Array = inside @ hidden / np.maximum(inside.sum(axis=1, keepdims=True), 1)
    return made


def standardised(rows: Array) -> Array:
    """Return rows with mean 0 and deviation 1."""
    rows = rows - rows.mean(axis=1, keepdims=True)
    made: Array = rows / (np.sqrt((rows * rows).mean(axis=1, keepdims=True)) + 1e-6)
    return made


def features(vectors: Array, hints: Array) -> Array:
    """Return what the head reads of each word: it and its neighbours, [words, f]."""
    both = np.concatenate([vectors, hints], axis=1)
    beside = np.pad(both, ((1, 1), (0, 0)))
    return np.concatenate([beside[:-2], both, beside[2:]], axis=1)


def train(inputs: Array, targets: Ints, labels: tuple[str, ...]) -> Head:
    """Return the head that fits words [n, f] to the places of their labels [n]."""
    count, width = inputs.shape
    truth = np.zeros((count, len(labels)), np.float32)
    truth[np.arange(count), targets] = 1

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        weights, bias = _shaped(flat, width)
        scores = inputs @ weights + bias
        scores -= scores.max(axis=1, keepdims=True)
        grown = np.exp(np.maximum(scores, LEAST))
        total = grown.sum(axis=1, keepdims=True)
        missed = float((np.log(total)[:, 0] - (scores * truth).sum(1)).mean())
        error = (grown / total - truth) / count
        slope = np.vstack([inputs.T @ error + 2 * RIDGE * weights, error.sum(axis=0)])
        size = float((weights**2).sum())
        return missed + RIDGE * size, slope.ravel().astype(np.float64)

    start = np.zeros((width + 1) * len(labels))
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    )
    weights, bias = _shaped(found.x, width)
    return Head(labels, weights, bias)


def _shaped(flat: npt.NDArray[np.float64], width: int) -> tuple[Array, Array]:
    whole = flat.reshape(width + 1, -1).astype(np.float32)
    return whole[:-1], whole[-1]
