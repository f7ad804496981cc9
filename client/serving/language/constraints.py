"""From an understood request to what a ranking takes: a mask, and a bonus per item.

The mask is exact: within an attribute any of the values, across attributes all of them.
If it leaves nothing, it leaves nothing; whoever asks tells that, and nothing is relaxed
here.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from client.serving.allowed import allowed, known_places
from client.serving.ask import Wanted
from client.serving.model import Mask, Served
from client.serving.understood import Leaning, Range, Understood
from shared.protocol import Array

MOST = 2.0  # that one wish adds, in units of the score
Vectors = Callable[[Sequence[str]], Array]  # texts -> centred unit vectors


def filters(understood: Understood) -> dict[str, Wanted]:
    """Return what is wanted of each attribute that the request names."""
    terms = (*understood.wanted, *understood.unwanted)
    names = [*(term.attribute for term in terms)]
    names += [part.attribute for part in understood.ranges]
    return {name: _wanted(understood, name) for name in dict.fromkeys(names)}


def hard(understood: Understood, model: Served) -> Mask:
    """Return which items satisfy every hard constraint of a request, [n].

    Items that the request itself names, to be like them or unlike them, are no answer.
    """
    named = (*understood.unlike, *understood.like)
    return allowed(model, filters=filters(understood), exclude=named)


def leanings(understood: Understood, model: Served, vectors: Vectors) -> Array:
    """Return the bonus of each item, [n] float32; each wish is within ``MOST``.

    Args:
        understood: The request.
        model: Whose items.
        vectors: What turns the words of a wish into vectors as those of the items.
    """
    total = np.zeros(len(model), np.float32)
    for leaning in understood.leanings:
        total += np.float32(MOST * leaning.weight) * _degree(leaning, model, vectors)
    for name, wanted in filters(understood).items():
        if len(wanted.any_of) > 1:  # any will do, and all are better
            total += np.float32(MOST) * _share(wanted.any_of, name, model)
    return total


def direction(
    understood: Understood, meaning: Array | None, model: Served
) -> Array | None:
    """Return the centred unit vector that the items of a request lie towards, [width].

    Args:
        understood: The request.
        meaning: Centred unit vector of its meaning; None for no meaning.
        model: Where the items are that it wants to be resembled.
    """
    places = known_places(model, understood.like)
    parts = [] if meaning is None else [meaning]
    if len(places):
        mean = model.vectors.rows(places).mean(axis=0)
        parts.append(mean / max(float(np.linalg.norm(mean)), 1e-9))
    if not parts:
        return None
    together: Array = np.sum(parts, axis=0, dtype=np.float32)
    together /= max(float(np.linalg.norm(together)), 1e-9)
    return together


def _wanted(understood: Understood, name: str) -> Wanted:
    """Return all that is wanted of one attribute as one value."""
    ranges = [part for part in understood.ranges if part.attribute == name]
    low, high = _together(ranges)
    return Wanted(
        any_of=tuple(t.value for t in understood.wanted if t.attribute == name),
        none_of=tuple(t.value for t in understood.unwanted if t.attribute == name),
        low=low,
        high=high,
    )


def _together(ranges: Sequence[Range]) -> tuple[float | None, float | None]:
    lows = [part.low for part in ranges if part.low is not None]
    highs = [part.high for part in ranges if part.high is not None]
    return max(lows, default=None), min(highs, default=None)


def _degree(leaning: Leaning, model: Served, vectors: Vectors) -> Array:
    """Return how far each item meets a wish, [n] from -1 to 1; 0 if unknown."""
    if leaning.toward == "popularity":
        return _by_rank(model.prior, ~model.fresh)
    if leaning.toward == "meaning":
        return _alike(model.vectors @ vectors([leaning.words])[0])
    read = model.numbers[leaning.toward]
    value = np.zeros(len(model), np.float64)
    known = np.zeros(len(model), np.bool_)
    value[read.places], known[read.places] = (read.low + read.high) / 2, True
    return _by_rank(value, known)


def _by_rank(value: npt.NDArray[np.floating], known: Mask) -> Array:
    """Return places in the order of ``value`` from -1 to 1; equal values share one."""
    degree = np.zeros(len(value), np.float32)
    distinct, level, count = np.unique(
        value[known], return_inverse=True, return_counts=True
    )
    if len(distinct) > 1:
        middle = np.cumsum(count) - (count + 1) / 2
        degree[known] = (2 * middle / (known.sum() - 1) - 1)[level]
    return degree


def _alike(cosines: Array) -> Array:
    """Return how much more alike than others each item is, from -1 to 1."""
    spread = max(float(cosines.std()), 1e-9)
    degree: Array = np.tanh((cosines - cosines.mean()) / np.float32(2 * spread))
    return degree


def _share(values: Sequence[str], name: str, model: Served) -> Array:
    """Return for each item the share of the other values that it has beside one."""
    count = np.zeros(len(model), np.float32)
    for value in values:
        count[model.attributes[name].get(value, np.zeros(0, np.int64))] += 1
    share: Array = np.maximum(count - 1, 0) * np.float32(1 / (len(values) - 1))
    return share
