"""Topics of a catalogue: clusters of item vectors, named by what their items share.

They are made of public items and a release that was paid for, never of behaviour. Once
found they are kept, so that what a user pinned or a charged release counted means the
same under the next release; only the place of each topic's centre moves with it.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np

from client.serving.model import Ints, Served
from shared.catalogue import Catalogue
from shared.durable import replace_file
from shared.errors import ConfigError
from shared.protocol import Array

MOST = 32
SEED = 2026
WORDS = 3  # values in a name, at most
FEWEST = 3  # items of a topic that have a value it is named by
LEAST_SHARE = 0.03  # of its items that these are at least
LEAST_LIFT = 1.2  # how much commoner that value is there than elsewhere
FOR_EACH = 1024  # items that a topic is found on, at most
BLOCK = 4096  # items compared with the centres at a time


@dataclass(frozen=True, slots=True, eq=False)
class Topics:
    """Which topic every item belongs to.

    Attributes:
        names: Of the m topics; no two are the same.
        of_item: Topic of each item, [n].
        centres: Unit vectors [m, width].
    """

    names: tuple[str, ...]
    of_item: Ints
    centres: Array

    def __len__(self) -> int:
        return len(self.names)

    @property
    def digest(self) -> str:
        """Tell other topics apart, for what was counted by their numbers."""
        return hashlib.sha256("\0".join(self.names).encode()).hexdigest()

    def over(self, model: Served) -> "Topics":
        """Return the same topics with the items that ``model`` has after these."""
        begin = len(self.of_item)
        if begin == len(model):
            return self
        joined = _nearest(self.centres, model, np.arange(begin, len(model)))
        return Topics(self.names, np.append(self.of_item, joined), self.centres)


def topics_of(model: Served, kept: Path) -> Topics:
    """Return the topics kept in the file ``kept``, or find them and keep them there.

    Found anew only when most of the model's items were never among those that the
    topics were found on; an item that is new joins the topic nearest to it.

    Raises:
        ConfigError: If the file is there and cannot be read.
    """
    known = _read(kept)
    if known is not None:
        names, number_of = known
        of_item = np.array([number_of.get(i, -1) for i in model.catalogue.ids])
        if 2 * np.count_nonzero(of_item >= 0) >= len(model):
            return _as_kept(names, of_item, model)
    found = find_topics(model)
    numbers = dict(zip(model.catalogue.ids, found.of_item.tolist(), strict=True))
    said = json.dumps({"names": found.names, "items": numbers}, ensure_ascii=False)
    replace_file(kept, said.encode())
    return found


def find_topics(model: Served, count: int | None = None) -> Topics:
    """Cluster the item vectors by k-means on the sphere; the same model, the same ones.

    Args:
        model: Whose items.
        count: How many topics; by default half the square root of the number of items,
            and ``MOST`` at most.
    """
    items = len(model)
    count = min(items, count or max(1, min(MOST, round(items**0.5 / 2))))
    rng, enough = np.random.default_rng(SEED), min(items, FOR_EACH * count)
    drawn = np.sort(rng.choice(items, enough, replace=False))
    vectors = np.ascontiguousarray(model.vectors.rows(drawn))
    faiss.omp_set_num_threads(1)
    means = faiss.Kmeans(
        *(model.width, count),
        niter=25,
        seed=SEED,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=FOR_EACH,
    )
    means.train(vectors)
    centres = np.asarray(means.centroids, np.float32).reshape(count, -1)
    of_item = _nearest(centres, model, np.arange(items))
    return Topics(_names(model.catalogue, of_item, count), of_item, centres)


def _read(path: Path) -> tuple[tuple[str, ...], dict[str, int]] | None:
    """Return names, and item id -> topic; None where no file is."""
    try:
        said = json.loads(path.read_bytes())
        names = tuple(map(str, said["names"]))
        number_of = {
            str(item): range(len(names))[n] for item, n in said["items"].items()
        }
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise ConfigError(
            f"{path} cannot be read; delete it to have the topics found anew"
        ) from None
    return names, number_of


def _as_kept(names: tuple[str, ...], of_item: Ints, model: Served) -> Topics:
    """Return topics around the items that they had; the others join the nearest."""
    centres = np.zeros((len(names), model.width), np.float32)
    known = np.flatnonzero(of_item >= 0)
    for part in np.array_split(known, 1 + len(known) // BLOCK):
        np.add.at(centres, of_item[part], model.vectors.rows(part))
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    centres /= np.maximum(lengths, 1e-12)
    new = np.flatnonzero(of_item < 0)
    of_item[new] = _nearest(centres, model, new)
    return Topics(names, of_item, centres)


def _nearest(centres: Array, model: Served, places: Ints) -> Ints:
    """Return the topic nearest to each item at ``places``."""
    gone = np.where(centres.any(axis=1), 0.0, -np.inf)  # a topic without any item
    parts = np.array_split(places, 1 + len(places) // BLOCK)
    best = [
        np.argmax(model.vectors.rows(part) @ centres.T + gone, axis=1) for part in parts
    ]
    return np.concatenate(best).astype(np.int64)


def _names(catalogue: Catalogue, of_item: Ints, count: int) -> tuple[str, ...]:
    """Return one name for each topic: its values, and what tells it from its likes.

    Where the values of two topics are the same, a word of their texts is added, and
    where that is the same too, a number.
    """
    attributes = list(catalogue.attributes.values())
    values = [
        {value for each in attributes for value in each[place]}
        for place in range(len(catalogue))
    ]
    words = [
        _words(text) - _words(" ".join(known))
        for text, known in zip(catalogue.texts, values, strict=True)
    ]
    said = values if attributes else words
    members = [np.flatnonzero(of_item == topic).tolist() for topic in range(count)]
    first = [", ".join(each) or "mixed" for each in _telling(said, members, WORDS)]
    more = [", ".join(each) for each in _telling(words, members, 2)]
    names: list[str] = []
    for name, word in zip(first, more, strict=True):
        whole = name if first.count(name) == 1 or not word else f"{name}: {word}"
        alike = sum(other.partition(" (")[0] == whole for other in names)
        names.append(f"{whole} ({alike + 1})" if alike else whole)
    return tuple(names)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]{4,}", text.lower()))


def _telling(
    said: Sequence[set[str]], members: Sequence[Sequence[int]], most: int
) -> list[list[str]]:
    """Return the values that tell most of each topic, by share times log lift."""
    everywhere = Counter(value for values in said for value in values)
    found = []
    for places in members:
        worth = {}
        for value, times in Counter(v for p in places for v in said[p]).items():
            share = times / len(places)
            lift = share * len(said) / everywhere[value]
            if times >= FEWEST and share >= LEAST_SHARE and lift >= LEAST_LIFT:
                worth[value] = share * np.log(lift)
        best = sorted(worth, key=lambda value: (-worth[value], value))[:most]
        kept = [value for value in best if worth[value] >= worth[best[0]] / 4]
        found.append(kept)
    return found
