"""A generated catalogue and its users, with the best reachable ranking known.

Users choose by theme, which the texts hint at; by clan, which no text mentions; and by
mere popularity. Whoever knows all three is the oracle, and nothing can beat it. Nothing
here describes real people, and no file is read.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from client.data import SiteData, UserHistory
from shared.catalogue import Catalogue
from shared.errors import ConfigError
from simulations.phrases import (
    COLOURS,
    CREATORS,
    DOMAINS,
    MOODS,
    PLACES,
    SENTENCES,
    THEMES,
    TITLE_FIRST,
    TITLE_LAST,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Items: how many touch on a second theme, and how strongly.
TWO_THEMES: Final = 0.3
SECOND_THEME: Final = 0.25
CLANS: Final = 3
# Users: how often they follow one, two or three themes, and how often the crowd.
THEMES_PER_USER: Final = (0.7, 0.2, 0.1)
CROWD: Final = 0.06
# Within a theme: odds for an item of the own domain, of the own clan, of high rank.
HOME_ODDS: Final = 12.0
CLAN_ODDS: Final = 4.0
RANK_POWER: Final = 0.25
# Histories: from FEWEST to MOST events, SPREAD above the fewest on average.
FEWEST: Final = 12
MOST: Final = 40
SPREAD: Final = 6.0
TOGETHER: Final = 1024  # users whose choices are drawn at once
FIRST_DAY: Final = 1_735_689_600  # 2025-01-01 in Unix seconds
DAY: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """What is true of the items, said or unsaid in their texts.

    ``domains`` and ``clans`` are ``[items]``, ``popularity`` is ``[items]`` and sums to
    one, ``themes`` is ``[items, themes]`` with 1 for the main theme.
    """

    domains: Ints
    clans: Ints
    popularity: Floats
    themes: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """What drives one user: a mixture of themes, a favourite domain, a hidden clan."""

    taste: Floats
    home: int
    clan: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """The data of all users together, and the truth that generated it.

    ``personas`` are in the order of ``data.histories``.
    """

    data: SiteData
    items: Items
    personas: tuple[Persona, ...]


def generate(
    rng: np.random.Generator, *, users: int = 900, items: int = 1320
) -> Population:
    """Generate a population; the same generator state gives the same one."""
    fewest, most = len(DOMAINS) * len(THEMES), len(TITLE_FIRST) * len(TITLE_LAST)
    if users < 1:
        raise ConfigError(f"{users=} is under 1; ask for more users")
    if not fewest <= items <= most:
        raise ConfigError(f"{items=} is not between {fewest} and {most}")
    truth = _items(rng, items)
    catalogue = _catalogue(rng, truth)
    personas = _personas(rng, users)
    histories = tuple(
        history
        for first in range(0, users, TOGETHER)
        for history in _histories(rng, truth, personas[first : first + TOGETHER], first)
    )
    data = SiteData(catalogue=catalogue, histories=histories)
    return Population(data=data, items=truth, personas=personas)


def choice_weights(items: Items, persona: Persona) -> Floats:
    """Probability of each item ``[items]`` as the very first choice of ``persona``.

    A choice follows the crowd or one theme of the taste; within the theme, odds favour
    the home domain, the own clan and well-known items.
    """
    return _choices(items, persona.home, persona.clan, persona.taste)


def _choices(items: Items, home: int, clan: int, tastes: Floats) -> Floats:
    """Return choice weights ``[..., items]`` for ``tastes`` ``[..., themes]``."""
    odds = items.popularity**RANK_POWER
    odds = odds * np.where(items.domains == home, HOME_ODDS, 1.0)
    odds = odds * np.where(items.clans == clan, CLAN_ODDS, 1.0)
    per_theme = odds[:, None] * items.themes
    by_taste: Floats = tastes @ (per_theme / per_theme.sum(axis=0)).T
    return CROWD * items.popularity + (1 - CROWD) * by_taste


def oracle_scores(population: Population, user: int) -> Floats:
    """Log-weights ``[items]`` by which ``user`` truly chooses.

    Guarantee: given the events so far, the next one falls on an unseen item with
    probability proportional to ``exp(score)``. No ranking does better on average.
    """
    return np.log(choice_weights(population.items, population.personas[user]))


def draw(rng: np.random.Generator, weights: Floats, events: int) -> Ints:
    """Draw ``events`` positions one after the other, without replacement.

    Each item arrives at a time drawn with its weight as the rate, and the first to
    arrive are drawn: an exponential race, which does it at once (Efraimidis and
    Spirakis 2006).

    Args:
        rng: Draws the times.
        weights: ``[..., items]``, one race in each row.
        events: How many to draw in each.
    """
    times = rng.standard_exponential(weights.shape) / weights
    first = np.argpartition(times, events - 1, axis=-1)[..., :events]
    order = np.argsort(np.take_along_axis(times, first, -1), axis=-1)
    return np.take_along_axis(first, order, -1)


def _items(rng: np.random.Generator, count: int) -> Items:
    """Every theme in every domain, evenly; clans and Zipf popularity at random."""
    main, domains = np.divmod(rng.permutation(count), len(DOMAINS))
    main %= len(THEMES)
    second = (main + rng.integers(1, len(THEMES), size=count)) % len(THEMES)
    themes = np.zeros((count, len(THEMES)))
    themes[np.arange(count), second] = SECOND_THEME * (rng.random(count) < TWO_THEMES)
    themes[np.arange(count), main] = 1.0
    popularity = 1.0 / rng.permutation(np.arange(1, count + 1))
    return Items(
        domains=domains,
        clans=rng.permutation(np.arange(count) % CLANS),
        popularity=popularity / popularity.sum(),
        themes=themes,
    )


def _personas(rng: np.random.Generator, count: int) -> tuple[Persona, ...]:
    """Users spread evenly over the domains, with a taste of one to three themes."""
    homes = rng.permutation(np.arange(count) % len(DOMAINS))
    return tuple(
        Persona(taste=_taste(rng), home=int(home), clan=int(rng.integers(CLANS)))
        for home in homes
    )


def _taste(rng: np.random.Generator) -> Floats:
    """A mixture of one to three themes ``[themes]``."""
    followed = 1 + rng.choice(len(THEMES_PER_USER), p=THEMES_PER_USER)
    taste = np.zeros(len(THEMES))
    chosen = rng.choice(len(THEMES), size=followed, replace=False)
    taste[chosen] = rng.dirichlet(np.full(followed, 2.0))
    return taste


def _histories(
    rng: np.random.Generator, items: Items, personas: Sequence[Persona], first: int
) -> Iterator[UserHistory]:
    """Yield the choices of some users, days apart; ``first`` is the first's number."""
    chosen = draw(rng, _all_choices(items, personas), MOST)
    spread = rng.geometric(1 / (SPREAD + 1), size=len(personas))
    events = np.minimum(FEWEST - 1 + spread, MOST)
    gaps = 60 + rng.exponential(2 * DAY, size=chosen.shape).astype(np.int64)
    begun = FIRST_DAY + rng.integers(90 * DAY, size=(len(personas), 1))
    times = begun + np.cumsum(gaps, axis=1)
    for row, count in enumerate(events):
        yield UserHistory(
            user=f"user-{first + row:05d}",
            items=chosen[row, :count].copy(),
            times=times[row, :count].copy(),
            likes=np.ones(count, dtype=np.bool_),
        )


def _all_choices(items: Items, personas: Sequence[Persona]) -> Floats:
    """Return choice weights ``[users, items]``; users of one home and clan at once."""
    weights = np.empty((len(personas), len(items.domains)))
    alike = defaultdict(list)
    for row, persona in enumerate(personas):
        alike[persona.home, persona.clan].append(row)
    for (home, clan), rows in alike.items():
        tastes = np.stack([personas[row].taste for row in rows])
        weights[rows] = _choices(items, home, clan, tastes)
    return weights


def _catalogue(rng: np.random.Generator, items: Items) -> Catalogue:
    """Texts that hint at the themes and keep silent about the clans."""
    count = len(items.domains)
    domains = [DOMAINS[domain] for domain in items.domains]
    titles = [f"{first} {last}" for first in TITLE_FIRST for last in TITLE_LAST]
    titles = rng.permutation(titles)[:count].tolist()
    creators = rng.choice(CREATORS, size=count)
    moods = rng.choice(MOODS, size=count)
    texts = tuple(
        _text(rng, domain, themes, title=title, creator=creator, mood=mood)
        for domain, themes, title, creator, mood in zip(
            domains, items.themes, titles, creators, moods, strict=True
        )
    )
    return Catalogue(
        ids=tuple(f"{domain}-{n:04d}" for n, domain in enumerate(domains)),
        texts=texts,
        attributes={
            "domain": tuple((domain,) for domain in domains),
            "creator": tuple((str(creator),) for creator in creators),
            "mood": tuple((str(mood),) for mood in moods),
        },
    )


def _text(
    rng: np.random.Generator, domain: str, themes: Floats, **dressing: str
) -> str:
    """Two clues in one dress: to both themes, or both to the only one."""
    main, second = np.argsort(-themes)[:2]
    clue, other = rng.permutation(_clues(domain, main))[:2]
    if themes[second] > 0:
        other = rng.choice(_clues(domain, second))
    return str(rng.choice(SENTENCES[domain])).format(
        clue=clue,
        other=other,
        place=rng.choice(PLACES),
        colour=rng.choice(COLOURS),
        **dressing,
    )


def _clues(domain: str, theme: int) -> tuple[str, ...]:
    """The hints at ``theme`` that suit the domain."""
    about = THEMES[theme]
    return about.objects if domain == "product" else about.stories
