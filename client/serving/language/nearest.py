"""The value of an attribute whose name means nearest to some words.

For values that are named as no list knows: "cowboy pictures" for Western. It refuses
when no name is near, or two are as near; and names of people have no meaning.
"""

import numpy as np

from client.serving.language.head import standardised
from client.serving.language.names import Names, Target
from shared.encoder import Reading, TextEncoder
from shared.protocol import Array

MOST_VALUES = 500  # of an attribute whose names are compared by meaning
CLOSE = 0.5  # least cosine with a name
MARGIN = 0.05  # by which it must be nearer than the next


class Nearest:
    """The names of a catalogue's values as frozen vectors; the same for any release."""

    def __init__(
        self, names: Names, encoder: TextEncoder, known: dict[str, Array] | None = None
    ) -> None:
        """Read the names of all values.

        Args:
            names: Of the catalogue.
            encoder: What reads them.
            known: Names that were read before, by what they are.
        """
        self._names, self._encoder, self.known = names, encoder, dict(known or {})
        compared = [
            each
            for each in names.named
            if each.role != "maker" and 1 < len(each.values) <= MOST_VALUES
        ]
        every = dict.fromkeys(value for each in compared for value in each.values)
        new = [value for value in every if value not in self.known]
        for value, reading in zip(new, encoder.read(new), strict=True):
            self.known[value] = pooled(reading)
        self._vectors = {
            each.name: _off_mean(np.stack([self.known[value] for value in each.values]))
            for each in compared
        }

    def __call__(self, words: str, attribute: str) -> Target | None:
        """Return the value that words name, by their spelling or else their meaning."""
        if spelt := self._names.value(words, attribute):
            return spelt[0]
        if attribute not in self._vectors:
            return None
        mean, vectors = self._vectors[attribute]
        near = vectors @ _unit(pooled(self._encoder.read([words])[0]) - mean)
        best, second = np.argsort(-near)[:2]
        if near[best] < CLOSE or near[best] - near[second] < MARGIN:
            return None
        values = next(a.values for a in self._names.named if a.name == attribute)
        return attribute, values[best]


def pooled(reading: Reading) -> Array:
    """Return the mean standardised activation of what was read, [channels]."""
    mean: Array = standardised(reading.hidden).mean(axis=0)
    return mean


def _off_mean(made: Array) -> tuple[Array, Array]:
    """Return the mean of names [n, channels], and each as a unit vector off it."""
    mean = made.mean(axis=0)
    return mean, np.stack([_unit(row - mean) for row in made])


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.float32(max(float(np.linalg.norm(vector)), 1e-9))
    return unit
