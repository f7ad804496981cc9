"""How a review speaks of its item, from -1 to 1, by the frozen encoder.

The direction from bad to good is the one that best parts public sentences written for
it; no review teaches it anything. It is a hint and no more: irony and a plot retold
mislead it, so serving lets it move a rating by half a like at most.
"""

import re

import numpy as np
import numpy.typing as npt

from shared.encoder import Reading, TextEncoder
from shared.protocol import Array

Floats = npt.NDArray[np.float64]

RIDGE = 1.0  # of the fit: higher trusts the sentences less
SURE = 0.5  # output of the fit at which a text is clear: its sentiment is then 0.76
ENDS = re.compile("(?<=[.!?\u3002\uff01\uff1f])\\s*")  # of a sentence, Chinese too
SENTENCES = 16  # of a text, from its beginning; the rest is not read
LEAST_SPELT = 0.5  # share of a text's tokens that the encoder must be able to spell

GOOD = (
    "I loved it.",
    "An excellent film, one of the best I have seen.",
    "Wonderful, I enjoyed every minute.",
    "This is a great product and I would buy it again.",
    "Highly recommended to everyone.",
    "Brilliant acting and a beautiful story.",
    "It works perfectly and I am very happy with it.",
    "A masterpiece, moving and funny.",
    "I could not put this book down.",
    "Exceeded my expectations in every way.",
    "Very good quality for the price.",
    "What a delightful surprise.",
    "A pleasure from start to finish.",
    "Gripping, clever and well written.",
    "My whole family adored it.",
    "It does exactly what it should, no complaints.",
    "Never a dull moment.",
    "Not bad at all, I really liked it.",
    "I was sad when it ended because it was so good.",
    "Superb, I will come back to it again and again.",
    "The characters are charming and the ending is perfect.",
    "Sturdy, well made and easy to use.",
    "Frightening in the best way, I was thrilled.",
    "It made me cry, and I loved it for that.",
)
BAD = (
    "I hated it.",
    "A terrible film, one of the worst I have seen.",
    "Boring, I regret every minute.",
    "This is a bad product and I want my money back.",
    "I would not recommend it to anyone.",
    "Wooden acting and a stupid story.",
    "It broke after a week and I am very disappointed.",
    "A mess, dull and not funny.",
    "I could not finish this book.",
    "It fell short of my expectations in every way.",
    "Very poor quality for the price.",
    "What a waste of time.",
    "A chore from start to finish.",
    "Tedious, silly and badly written.",
    "My whole family found it awful.",
    "It does not do what it should, avoid it.",
    "Nothing ever happens.",
    "Not good at all, I really disliked it.",
    "I was glad when it ended because it was so bad.",
    "Dreadful, I will never look at it again.",
    "The characters are annoying and the ending makes no sense.",
    "Flimsy, badly made and hard to use.",
    "Meant to be frightening, but I was only bored.",
    "It left me cold, and I nearly fell asleep.",
)


class Sentiment:
    """What tells praise from blame under one base encoder, whatever its adapter."""

    def __init__(self, encoder: TextEncoder) -> None:
        """Fit the direction; a second or so, once a process."""
        self._encoder = encoder
        read = encoder.read([*GOOD, *BAD])
        points = np.stack([_frozen(reading, encoder.width) for reading in read])
        self._middle: Array = points.mean(axis=0)
        signs = np.repeat([1.0, -1.0], [len(GOOD), len(BAD)])
        self._towards = _ridge(points - self._middle, signs)

    def of(self, text: str) -> float:
        """Return how ``text`` speaks; 0 for no words or none that can be spelt."""
        sentences = [part for part in ENDS.split(text) if part.strip()][:SENTENCES]
        read = [
            reading
            for reading in self._encoder.read(sentences)
            if _spelt(reading) >= LEAST_SPELT
        ]
        if not read:
            return 0.0
        points = np.stack([_frozen(reading, self._encoder.width) for reading in read])
        said = (points - self._middle) @ self._towards
        weights = np.array([len(reading.hidden) for reading in read])
        return float(np.tanh(np.average(said, weights=weights) / SURE))


def _spelt(reading: Reading) -> float:
    """Return the share of a text's own tokens that the encoder can spell."""
    own = reading.spans[:, 1] > 0
    return float(np.mean(~reading.unknown[own])) if own.any() else 0.0


def _frozen(reading: Reading, width: int) -> Array:
    """Return the unit mean [width] of what the base encoder makes of the tokens."""
    mean = reading.hidden[:, :width].mean(axis=0)
    unit: Array = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit


def _ridge(points: Array, signs: Floats) -> Array:
    """Return the ridge regression of ``signs`` [m] on ``points`` [m, width]."""
    m = len(points)
    inner = points @ points.T + RIDGE * np.eye(m) * np.trace(points @ points.T) / m
    weights: Array = points.T @ np.linalg.solve(inner, signs)
    return weights.astype(np.float32)
