"""What a site ranks with: one release over one catalogue, immutable once it is made.

Everything in it is public, or a DP release that the site's ledger was charged for; no
user's data is part of it. A new release or a new item makes another one, and requests
that began with the old one end with it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from client.serving.expected import Expectation, expectation
from client.serving.numbers import Spans, spans_of
from shared.catalogue import Catalogue
from shared.protocol import Array, Recipe

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """A matrix [n, d] of float32 in blocks of rows; the first may be memory-mapped."""

    parts: tuple[Array, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __matmul__(self, vector: Array) -> Array:
        """Return the product with ``vector`` [d], float32 [n]."""
        if len(self.parts) == 1:
            product: Array = self.parts[0] @ vector
            return product
        return np.concatenate([part @ vector for part in self.parts])

    def rows(self, places: Ints) -> Array:
        """Return the rows at ``places`` [m], float32 [m, d]."""
        first = self.parts[0]
        if len(self.parts) == 1:
            return first[places]
        taken = np.empty((len(places), first.shape[1]), np.float32)
        begin = 0
        for part in self.parts:
            inside = (places >= begin) & (places < begin + len(part))
            taken[inside] = part[places[inside] - begin]
            begin += len(part)
        return taken

    def with_rows(self, rows: Array) -> "Blocks":
        """Return the same matrix with ``rows`` [m, d] after its last one."""
        first, *later = self.parts
        return Blocks((first, np.concatenate([*later, rows])))


@dataclass(frozen=True, eq=False, kw_only=True)
class Served:
    """One release over one catalogue.

    The score of item i for a user is ``alpha T <taste, vectors[i]> + (1 - alpha) S
    <likes, factors[i]> + prior[i]`` (DESIGN D14), with the recipe's scales T and S.

    Attributes:
        release: What feedback is filed under, such as ``spring/3``.
        digest: Of adapter, head, prior and catalogue: another model, another digest.
        catalogue: The n items, those added since training last.
        vectors: Centred unit text vectors [n, width].
        factors: The head's factors, then its bias, [n, f + 1]; zero without a head.
        prior: The log prior times its weight, [n]; 0 for items that had no part in it.
        fresh: Which items had no part in training, [n].
        recipe: Scales, default alpha, how history weighs.
        width: Length of a text vector.
        notes: What a person should know of it, one sentence each.
    """

    release: str
    digest: str
    catalogue: Catalogue
    vectors: Blocks
    factors: Blocks
    prior: Array
    fresh: Mask
    recipe: Recipe
    width: int
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.catalogue)

    @cached_property
    def attributes(self) -> "dict[str, dict[str, Ints]]":
        """Attribute name -> value -> places of the items that have it, ascending."""
        return {
            name: _places(values) for name, values in self.catalogue.attributes.items()
        }

    @cached_property
    def numbers(self) -> dict[str, Spans]:
        """Attribute name -> its values that read as numbers, such as years."""
        return {name: spans_of(places) for name, places in self.attributes.items()}

    @cached_property
    def expected(self) -> Expectation:
        """What the texts of items let expect of the prior of others."""
        return expectation(self.vectors.parts, self.prior, ~self.fresh)

    def with_items(self, added: Catalogue, vectors: Array) -> "Served":
        """Return the same release with items that training never saw after the others.

        Args:
            added: The new items alone, with the same attributes.
            vectors: Their text vectors [m, width].
        """
        count, old = len(added), self.catalogue
        attributes = {
            name: (*values, *added.attributes[name])
            for name, values in old.attributes.items()
        }
        ids, texts = (*old.ids, *added.ids), (*old.texts, *added.texts)
        blank = np.zeros((count, self.factors.parts[0].shape[1]), np.float32)
        return replace(
            self,
            digest=hashlib.sha256(
                json.dumps(
                    [self.digest, added.ids, added.texts, dict(added.attributes)]
                ).encode()
            ).hexdigest(),
            catalogue=Catalogue(ids=ids, texts=texts, attributes=attributes),
            vectors=self.vectors.with_rows(vectors),
            factors=self.factors.with_rows(blank),
            prior=np.append(self.prior, self.expected.of(vectors)),
            fresh=np.append(self.fresh, np.ones(count, np.bool_)),
        )


def _places(values: Sequence[Sequence[str]]) -> dict[str, Ints]:
    found: dict[str, list[int]] = {}
    for place, each in enumerate(values):
        for value in dict.fromkeys(each):
            found.setdefault(value, []).append(place)
    return {value: np.array(places, np.int64) for value, places in found.items()}
