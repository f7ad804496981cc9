"""A generated site that can train at once: titles, users, a model under an encoder.

Nothing in it describes anybody. Titles are as long as those of films: some ten tokens,
some twice as many. What is liked follows a popularity that falls as a power of the
rank, so that the users of a step share items, as users do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client.data import UserHistory
from client.examples import UserExample, make_examples
from client.head import FactorHead
from client.model import HybridModel
from client.noise import SecretStreams
from client.prior import log_prior, release_popularity
from shared.activations import Activations
from shared.encoder import TextEncoder, base_digest, load_base
from shared.protocol import AdapterSpec, Array, Recipe
from simulations.phrases import THEMES, TITLE_FIRST, TITLE_LAST

SUBTITLED = 0.5  # share of the titles that say what it is about
FALL = 0.7  # popularity of rank n is n ** -FALL
PRIOR_SIGMA = 4.0
FIRST = 1_700_000_000  # epoch seconds of the first event
FEW = 256  # texts that are encoded of a catalogue whose activations are borrowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a site: items of its catalogue, users, likes of every user."""

    items: int = 1682
    users: int = 942
    likes: int = 40


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainingSite:
    """A site in memory, ready for ``client.train.train_round``.

    Attributes:
        texts: Of the items, in their order.
        examples: One for each user.
        activations: Of the texts, under the encoder.
        prior: Log prior of the items, from a noised popularity, [items].
        model: What trains; its encoder is the one that was given.
    """

    texts: Sequence[str]
    examples: list[UserExample]
    activations: Activations
    prior: Array
    model: HybridModel

    def __repr__(self) -> str:
        return f"TrainingSite({len(self.texts)} items)"


class BorrowingEncoder(TextEncoder):
    """Encodes few texts, the first it is given, and lends what they gave to all others.

    What is computed on these costs what it would, and means nothing.
    """

    _lent: Sequence[Array] = ()

    def activations(self, texts: Sequence[str]) -> Iterator[list[Array]]:
        """Yield, batch by batch, the activations of some text for each text."""
        if not self._lent:
            parts = super().activations(texts[:FEW])
            self._lent = [rows for part in parts for rows in part]
        for start in range(0, len(texts), FEW):
            yield list(islice(cycle(self._lent), min(FEW, len(texts) - start)))


def fresh_encoder(
    base: str,
    spec: Mapping[str, Any] | None = None,
    *,
    device: str = "cpu",
    training: str = "float32",
    borrowing: bool = False,
) -> TextEncoder:
    """Return an encoder that no one else holds, with an adapter of zeros.

    Args:
        base: As ``shared.encoder.load_base`` takes it.
        spec: Keys of ``AdapterSpec`` that differ from the defaults.
        device: Where it computes.
        training: Its precision, as ``TextEncoder`` takes it.
        borrowing: Whether it encodes few texts and repeats them, to save minutes.
    """
    kind = BorrowingEncoder if borrowing else TextEncoder
    agreed = AdapterSpec(base=base_digest(base), **(spec or {}))
    return kind(load_base(base), agreed, device=device, training=training)


def training_site(
    encoder: TextEncoder,
    size: Size,
    recipe: Recipe,
    rng: np.random.Generator,
    cache: Path,
) -> TrainingSite:
    """Return a generated site on an encoder; the same generator gives the same one.

    Args:
        encoder: From ``fresh_encoder``; training changes its adapter.
        size: How much of everything; by default as ML-100K has items and users.
        recipe: How a step learns; also the head's width.
        rng: Decides titles and likes.
        cache: Folder of the store of activations.
    """
    texts = titles(size.items, rng)
    examples = make_examples(_users(size, rng))
    activations = encoder.open_store(cache).open(texts).to(encoder.device)
    votes = release_popularity(examples, size.items, PRIOR_SIGMA, rng.random)
    prior = log_prior(votes, PRIOR_SIGMA)
    head = FactorHead(size.items, recipe.factors, recipe.seed)
    centre = encoder.frozen_mean(activations)
    model = HybridModel(encoder, activations, centre, head, prior, recipe)
    return TrainingSite(
        texts=texts,
        examples=examples,
        activations=activations,
        prior=prior,
        model=model,
    )


def titles(count: int, rng: np.random.Generator) -> list[str]:
    """Return titles of which no two are equal."""
    first, last = rng.choice(TITLE_FIRST, count), rng.choice(TITLE_LAST, count)
    year, told = rng.integers(1950, 2026, count), rng.random(count) < SUBTITLED
    stories = [story for theme in THEMES for story in theme.stories]
    about = rng.choice(stories, count)
    return [
        f"{first[n]} {last[n]} {n} ({year[n]})" + f": {about[n]}" * bool(told[n])
        for n in range(count)
    ]


def steady_streams(seed: int) -> SecretStreams:
    """Return streams under which every step draws the same number of users, q of all.

    Who they are is left to chance. It is no Poisson sample, so nothing is promised;
    two measured steps are as large.
    """
    rng = np.random.default_rng(seed)
    return SecretStreams(lambda count: rng.permutation(count) / count, rng.random)


def _users(size: Size, rng: np.random.Generator) -> list[UserHistory]:
    """Return users who like popular items more often than others."""
    chance = np.arange(1.0, size.items + 1) ** -FALL
    up_to = np.cumsum(rng.permutation(chance) / chance.sum())
    return [
        UserHistory(
            user=f"user-{n}",
            items=(liked := _liked(up_to, size.likes, rng)),
            times=FIRST + np.arange(len(liked)),
            likes=np.ones(len(liked), np.bool_),
        )
        for n in range(size.users)
    ]


def _liked(
    up_to: npt.NDArray[np.float64], count: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return items, each once, drawn by a chance whose running sum is ``up_to``."""
    liked: dict[int, None] = {}
    while len(liked) < count:
        drawn = np.searchsorted(up_to, rng.random(2 * count))
        liked |= dict.fromkeys(drawn.clip(max=len(up_to) - 1).tolist())
    return np.array(list(liked)[:count], np.int64)
