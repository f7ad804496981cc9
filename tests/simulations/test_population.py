from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from shared.errors import ConfigError
from simulations.phrases import DOMAINS, THEMES
from simulations.population import (
    Floats,
    Population,
    _catalogue,
    draw,
    generate,
    oracle_scores,
)


@pytest.fixture(scope="module")
def population() -> Population:
    return generate(np.random.default_rng(7), users=240, items=600)


def rank_of_last(population: Population, user: int, scores: Floats) -> int:
    """Rank of the user's last event among the items unseen before; 0 is best."""
    *seen, last = population.data.histories[user].items
    scores = scores.copy()
    scores[seen] = -np.inf
    return int(np.sum(scores > scores[last]))


def ndcg(ranks: list[int]) -> float:
    """NDCG@10 with one relevant item per user."""
    return float(np.mean([1 / np.log2(r + 2) if r < 10 else 0.0 for r in ranks]))


def test_the_same_seed_gives_the_same_population() -> None:
    one, two = (generate(np.random.default_rng(3), users=9) for _ in range(2))

    assert one.data.catalogue == two.data.catalogue
    assert one.data.histories == two.data.histories


def test_another_seed_gives_another_population() -> None:
    one, two = (generate(np.random.default_rng(s), users=9) for s in (3, 4))

    assert one.data.catalogue.texts != two.data.catalogue.texts


def test_ids_texts_and_titles_are_unique(population: Population) -> None:
    catalogue = population.data.catalogue
    titles = {" ".join(text.split()[:2]).rstrip(",:") for text in catalogue.texts}

    assert len(set(catalogue.ids)) == len(catalogue.ids) == 600
    assert len(titles) == 600


def test_every_item_has_one_of_three_domains(population: Population) -> None:
    domains = population.data.catalogue.attributes["domain"]

    assert set(domains) == {("film",), ("book",), ("product",)}
    assert len(domains) == 600


def test_a_history_is_free_of_repeats_and_ordered_in_time(
    population: Population,
) -> None:
    for history in population.data.histories:
        assert 12 <= len(history.items) <= 40
        assert len(set(history.items.tolist())) == len(history.items)
        assert all(a < b for a, b in pairwise(history.times.tolist()))
        assert history.likes.all()
        assert {history.items.dtype, history.times.dtype} == {np.dtype(np.int64)}


@pytest.mark.parametrize("count", [72, 100, 1320])
def test_every_theme_occurs_in_every_domain(count: int) -> None:
    items = generate(np.random.default_rng(2), users=1, items=count).items
    pairs = set(zip(items.themes.argmax(axis=1), items.domains, strict=True))

    assert len(pairs) == len(THEMES) * len(DOMAINS) == 72


def test_clues_are_never_shared_between_themes() -> None:
    clues = [clue for theme in THEMES for clue in theme.stories + theme.objects]

    assert len(set(clues)) == len(clues) > 300


def test_texts_know_nothing_of_clans_or_popularity(population: Population) -> None:
    items = population.items
    hidden = replace(items, clans=items.clans[::-1], popularity=items.popularity[::-1])
    one, two = (_catalogue(np.random.default_rng(2), t) for t in (items, hidden))

    assert one == two
    assert not any("clan" in text.lower() for text in one.texts)


def test_draws_follow_the_weights_of_what_is_left() -> None:
    rng = np.random.default_rng(11)
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    draws = np.array([draw(rng, weights, 2) for _ in range(20_000)])

    for first in range(4):
        left = weights * (np.arange(4) != first)
        expected = left / left.sum() * np.sum(draws[:, 0] == first)
        counts = np.bincount(draws[draws[:, 0] == first, 1], minlength=4)
        near = 4 * np.sqrt(expected + 1)
        assert np.all(np.abs(counts - expected) <= near * (expected > 0))


def test_the_oracle_knows_the_distribution_of_the_next_event() -> None:
    """Where last events fall in the oracle's cumulative probability is uniform."""
    population = generate(np.random.default_rng(1), users=1000, items=300)
    rng = np.random.default_rng(5)
    places: list[float] = []
    for user, history in enumerate(population.data.histories):
        chance: npt.NDArray[np.float64] = np.exp(oracle_scores(population, user))
        chance[history.items[:-1]] = 0.0
        chance /= chance.sum()
        last = history.items[-1]
        above = chance[chance > chance[last]].sum()
        places.append(float(above + rng.random() * chance[last]))
    counts, _ = np.histogram(places, bins=8, range=(0, 1))

    # 24.3 is the 99.9 % point of chi-square with 7 degrees of freedom.
    assert np.sum((counts - 125) ** 2 / 125) < 24.3


def test_the_oracle_clearly_beats_popularity(population: Population) -> None:
    users = range(len(population.data.histories))
    popularity = np.zeros(len(population.data.catalogue.ids))
    for history in population.data.histories:
        popularity[history.items[:-1]] += 1

    by_oracle = [
        rank_of_last(population, user, oracle_scores(population, user))
        for user in users
    ]
    by_popularity = [rank_of_last(population, user, popularity) for user in users]

    assert ndcg(by_oracle) > 3 * ndcg(by_popularity)


def test_users_mostly_stay_in_their_favourite_domain(population: Population) -> None:
    stays = [
        np.mean(population.items.domains[history.items] == persona.home)
        for persona, history in zip(
            population.personas, population.data.histories, strict=True
        )
    ]

    assert 0.5 < np.mean(stays) < 0.9


@pytest.mark.parametrize(("users", "items"), [(0, 600), (9, 71), (9, 1601)])
def test_impossible_sizes_are_refused(users: int, items: int) -> None:
    with pytest.raises(ConfigError, match=r"=(0|71|1601) is"):
        generate(np.random.default_rng(1), users=users, items=items)
