"""The index of a large catalogue: what it finds is what an exact scan would find."""

from pathlib import Path

import numpy as np
import pytest

from client.serving import pool
from client.serving.allowed import allowed
from client.serving.model import Served
from client.serving.pool import DEPTH, FEW, Index, best_of, pool_of
from client.serving.rank import Wish, rank
from client.serving.taste import Past, taste_of
from shared.catalogue import Catalogue
from shared.errors import ModelError
from shared.protocol import Array
from tests.client.serving.served import WIDTH, served, textlike

ITEMS = 6000


@pytest.fixture(scope="module")
def large() -> Served:
    return served(ITEMS)


@pytest.fixture(scope="module")
def index(large: Served) -> Index:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "EXACT", 1000)
        made = Index.of(large)
    assert made is not None
    return made


def some_direction(seed: int) -> Array:
    made = np.random.default_rng(seed).normal(size=WIDTH)
    return (16 * made / np.linalg.norm(made)).astype(np.float32)


def test_a_small_catalogue_needs_no_index() -> None:
    assert Index.of(served(200)) is None


def test_the_best_are_those_of_a_full_sort_and_free() -> None:
    values = np.random.default_rng(0).normal(size=500).astype(np.float32)
    free = np.random.default_rng(1).random(500) < 0.5
    order = np.argsort(-values)
    wanted = order[free[order]]

    assert best_of(values, free, 7).tolist() == wanted[:7].tolist()
    assert best_of(values, free, 500).tolist() == wanted.tolist()


def test_the_pool_holds_the_best_by_either_half_and_nothing_that_is_not_allowed(
    large: Served, index: Index
) -> None:
    rng = np.random.default_rng(4)
    mask, rest = rng.random(ITEMS) < 0.9, rng.normal(size=ITEMS).astype(np.float32)
    towards = some_direction(4)

    found = pool_of(large, index, towards, rest, mask)

    assert mask[found].all()
    assert (np.diff(found) > 0).all()
    assert len(found) < np.count_nonzero(mask)
    for half in (rest, large.vectors @ towards):
        assert np.isin(best_of(half, mask, 100), found).mean() >= 0.99


def test_when_few_are_allowed_all_of_them_are_scored(
    large: Served, index: Index
) -> None:
    mask = np.arange(ITEMS) < FEW * DEPTH

    found = pool_of(large, index, some_direction(1), large.prior, mask)

    np.testing.assert_array_equal(found, np.flatnonzero(mask))


def test_items_added_after_the_index_are_found_exactly(
    large: Served, index: Index
) -> None:
    rng = np.random.default_rng(8)
    model = large
    for batch in range(2):
        rows = rng.normal(size=(1500, WIDTH))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        ids = tuple(f"new-{batch}-{n}" for n in range(1500))
        added = Catalogue(
            ids=ids,
            texts=ids,
            attributes=dict.fromkeys(large.catalogue.attributes, ((),) * 1500),
        )
        model = model.with_items(added, rows.astype(np.float32))
    towards, mask = some_direction(2), rng.random(len(model)) < 0.9
    total = model.prior + model.vectors @ towards
    newest = mask & (np.arange(len(model)) >= ITEMS)

    found = pool_of(model, index, towards, model.prior, mask)

    assert np.isin(best_of(total, newest, 50), found).all()
    assert mask[found].all()


def test_a_saved_index_finds_the_same(
    large: Served, index: Index, tmp_path: Path
) -> None:
    index.save(tmp_path / "index.faiss")
    mask = np.arange(ITEMS) % 3 > 0

    read = Index.read(tmp_path / "index.faiss", large)

    for seed in range(5):
        towards = some_direction(seed)
        np.testing.assert_array_equal(
            read.search(towards, mask, 200), index.search(towards, mask, 200)
        )


def test_an_index_of_other_vectors_or_a_broken_one_is_refused(
    index: Index, tmp_path: Path
) -> None:
    path = tmp_path / "index.faiss"
    index.save(path)
    with pytest.raises(ModelError, match="6000 vectors"):
        Index.read(path, served(200))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="is no index"):
        Index.read(path, served(200))
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="is no index"):
        Index.read(path, served(200))


@pytest.mark.slow
def test_recall_is_99_in_100_of_exact_on_100_000_text_like_items() -> None:
    model, rng = textlike(100_000), np.random.default_rng(3)
    vectors, index = model.vectors.parts[0], Index.of(model)
    found, queries = 0, 0
    for _ in range(40):
        near = [
            np.argpartition(-(vectors @ vectors[place]), 8)[:8]
            for place in rng.integers(0, len(model), 3)
        ]
        items = rng.permutation(np.unique(near))[:20]
        past = Past(items=items, strengths=np.ones(len(items), np.float32))
        assert taste_of(model, past).text.any()
        for alpha in (None, 0.3, 0.7, 1.0):
            for third in (True, False):
                mask = allowed(model, past)
                if third:
                    mask &= rng.random(len(model)) < 1 / 3
                wish = Wish(allowed=mask, past=past, alpha=alpha)
                exact, quick = (
                    rank(model, wish, rng),
                    rank(model, wish, rng, index=index),
                )
                found += len(np.intersect1d(exact.places, quick.places))
                queries += 10

    assert found / queries >= 0.99
