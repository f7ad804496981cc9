"""The hybrid score in its parts; plain arithmetic on public values and one user's own.

``total = alpha (1 - b) T <taste, v> + b T <query, v> + leanings + (1 - alpha) S <likes,
factors> + prior + interests + rules``. A request takes the share b of the text's scale:
``QUERY`` beside a history, all of it without one. It counts whatever alpha is: alpha
weighs two ways to know a user, and what is asked for is neither.
"""

from dataclasses import dataclass

import numpy as np

from client.serving.model import Blocks, Ints, Served
from client.serving.taste import Taste
from shared.protocol import Array

QUERY = 0.7  # share of the text's scale that a request takes beside a history


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Scores:
    """Scores of m items in parts, each [m]; ``total`` is their sum in this order.

    Attributes:
        text: From the texts of the user's history.
        query: From the meaning of the request and its leanings.
        cf: From the head.
        prior: From the released popularity.
        interests: From what the user pinned or muted, and from what they declared.
        rules: From the site's own rules.
        total: All of it.
    """

    text: Array
    query: Array
    cf: Array
    prior: Array
    interests: Array
    rules: Array
    total: Array

    def at(self, where: Ints) -> "Scores":
        """Return the scores at ``where`` among these."""
        return Scores(**{name: getattr(self, name)[where] for name in self.__slots__})


@dataclass(frozen=True, slots=True, eq=False, repr=False, kw_only=True)
class Extra:
    """What is added to the model's own score; each [m], or None for nothing.

    Attributes:
        leanings: From the degrees of a request, such as "newer".
        interests: From interests and from what the user declared.
        rules: From the site's rules.
    """

    leanings: Array | None = None
    interests: Array | None = None
    rules: Array | None = None

    def at(self, places: Ints | None) -> "Extra":
        """Return the same for the items at ``places``; None for all."""
        return Extra(
            leanings=_at(self.leanings, places),
            interests=_at(self.interests, places),
            rules=_at(self.rules, places),
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Products:
    """The costly half of a score, the same for every alpha.

    Attributes:
        places: Of the m items; None for the whole catalogue in order.
        text: T <taste, v>, [m]; None for a user of whom nothing is known.
        query: T <query, v>, [m]; None without a request.
        cf: S <likes, factors>, [m].
        prior: Of the items, [m].
    """

    places: Ints | None
    text: Array | None
    query: Array | None
    cf: Array
    prior: Array


def products_of(
    model: Served, taste: Taste, query: Array | None, places: Ints | None = None
) -> Products:
    """Return every product of user and items that scores are made of.

    Args:
        model: What is served.
        taste: Of the user.
        query: Centred unit vector of a request, [width]; None without one.
        places: Of the items; None for the whole catalogue.
    """
    recipe = model.recipe
    scale = np.float32(recipe.temperature)
    text = taste.text * scale if taste.text.any() else None
    asked = None if query is None else query * scale
    vectors = _rows(model.vectors, places)
    return Products(
        places,
        None if text is None else vectors @ text,
        None if asked is None else vectors @ asked,
        _rows(model.factors, places) @ (taste.likes * np.float32(recipe.cf_scale)),
        model.prior if places is None else model.prior[places],
    )


def blend(made: Products, alpha: float, extra: Extra) -> Scores:
    """Return the scores of the items under one alpha; ``extra`` is of the same."""
    zeros = np.zeros_like(made.prior)
    shares = text_shares(
        alpha, known=made.text is not None, asked=made.query is not None
    )
    text = zeros if made.text is None else made.text * np.float32(shares[0])
    query = zeros if made.query is None else made.query * np.float32(shares[1])
    parts = {
        "text": text,
        "query": query if extra.leanings is None else query + extra.leanings,
        "cf": made.cf * np.float32(1 - alpha),
        "prior": made.prior,
        "interests": zeros if extra.interests is None else extra.interests,
        "rules": zeros if extra.rules is None else extra.rules,
    }
    total = zeros.copy()
    for part in parts.values():
        if part is not zeros:
            total += part
    return Scores(**parts, total=total)


def text_shares(alpha: float, *, known: bool, asked: bool) -> tuple[float, float]:
    """Return which shares of the text's scale the taste and the request take."""
    share = (QUERY if known else 1.0) if asked else 0.0
    return alpha * (1 - share), share


def _at(values: Array | None, places: Ints | None) -> Array | None:
    return values if values is None or places is None else values[places]


def _rows(matrix: Blocks, places: Ints | None) -> Blocks:
    return matrix if places is None else Blocks((matrix.rows(places),))
