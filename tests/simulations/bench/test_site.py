"""A generated site trains, is the same for the same seed, and lends what it says."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from client.sampler import poisson_draw
from client.train import train_round
from shared.protocol import Mechanism, Recipe
from simulations.bench.site import (
    Size,
    TrainingSite,
    fresh_encoder,
    steady_streams,
    titles,
    training_site,
)

SMALL = Size(items=120, users=30, likes=12)


def site(cache: Path, *, borrowing: bool = False, seed: int = 3) -> TrainingSite:
    encoder = fresh_encoder("tiny", {"rank": 4}, borrowing=borrowing)
    rng = np.random.default_rng(seed)
    return training_site(encoder, SMALL, Recipe(factors=8), rng, cache)


def test_a_generated_site_trains(tmp_path: Path) -> None:
    made = site(tmp_path)
    before = made.model.item_rows()
    train_round(
        made.model,
        made.examples,
        Mechanism(steps=1, q=0.5),
        users=SMALL.users,
        streams=steady_streams(1),
        key=[1],
    )

    assert not np.array_equal(before, made.model.item_rows())
    assert any(change.any() for change in made.model.encoder.adapter().values())


def test_the_same_seed_gives_the_same_site_and_another_seed_another(
    tmp_path: Path,
) -> None:
    one, same, other = site(tmp_path), site(tmp_path), site(tmp_path, seed=4)

    assert one.texts == same.texts != other.texts
    assert np.array_equal(one.prior, same.prior)
    for mine, theirs in zip(one.examples, same.examples, strict=True):
        assert np.array_equal(mine.likes, theirs.likes)


def test_users_have_as_many_likes_as_asked_each_once(tmp_path: Path) -> None:
    made = site(tmp_path)

    assert len(made.examples) == SMALL.users
    for example in made.examples:
        assert len(np.unique(example.likes)) == len(example.likes) == SMALL.likes


@pytest.mark.parametrize("count", [1, 700])
def test_no_two_titles_are_equal(count: int) -> None:
    assert len(set(titles(count, np.random.default_rng(0)))) == count


def test_borrowed_activations_are_those_of_the_first_texts_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("simulations.bench.site.FEW", 50)
    texts = titles(120, np.random.default_rng(0))
    own = list(chain(*fresh_encoder("tiny").activations(texts[:50])))
    lent = list(chain(*fresh_encoder("tiny", borrowing=True).activations(texts)))

    assert len(lent) == len(texts)
    for n, rows in enumerate(lent):
        np.testing.assert_allclose(rows, own[n % 50], atol=1e-5)


def test_every_step_draws_as_many_users_but_not_the_same() -> None:
    coins = steady_streams(1).coins

    steps = [poisson_draw(2560, 0.1, coins) for _ in range(20)]

    assert {len(drawn) for drawn in steps} == {256}
    assert len({tuple(drawn) for drawn in steps}) == len(steps)
