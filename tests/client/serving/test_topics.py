import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.serving.model import Blocks, Served
from client.serving.topics import Topics, find_topics, topics_of
from shared.catalogue import Catalogue
from shared.errors import ConfigError
from tests.client.serving.served import GENRES, WIDTH, served


def turned(model: Served) -> Served:
    """The same items under another release: every vector turned, by the same turn."""
    rng = np.random.default_rng(8)
    turn, _ = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))
    vectors = (model.vectors.parts[0] @ turn).astype(np.float32)
    return replace(model, vectors=Blocks((vectors,)))


def whole(model: Served) -> Served:
    """The same model with all its vectors in one block."""
    return replace(model, vectors=Blocks((np.concatenate(model.vectors.parts),)))


def added(count: int) -> tuple[Catalogue, np.ndarray]:
    """New items, each exactly in the middle of its genre."""
    genre = np.arange(count) % len(GENRES)
    return (
        Catalogue(
            ids=tuple(f"new-{n}" for n in range(count)),
            texts=tuple("A new one" for _ in range(count)),
            attributes={
                "genres": tuple((GENRES[g],) for g in genre),
                "year": tuple(("2025",) for _ in genre),
                "maker": tuple(("maker 1",) for _ in genre),
            },
        ),
        np.eye(WIDTH, dtype=np.float32)[genre],
    )


def test_items_of_one_kind_make_one_topic_that_is_named_after_them() -> None:
    model = served(200)

    topics = find_topics(model, 4)

    assert sorted(topics.names) == sorted(GENRES)
    for place, topic in enumerate(topics.of_item.tolist()):
        assert topics.names[topic] == GENRES[place % 4]


def test_the_same_model_has_the_same_topics() -> None:
    one, same = find_topics(served(300)), find_topics(served(300))

    assert one.names == same.names
    assert np.array_equal(one.of_item, same.of_item)
    assert np.array_equal(one.centres, same.centres)
    assert one.digest == same.digest


def test_every_item_is_in_the_topic_whose_centre_is_nearest() -> None:
    model = served(120)

    topics = find_topics(model)

    near = model.vectors.parts[0] @ topics.centres.T
    assert np.array_equal(topics.of_item, near.argmax(axis=1))
    assert len(topics) == 5  # half the root of 120


def test_topics_of_the_same_kind_are_told_apart() -> None:
    topics = find_topics(served(200), 20)

    assert len(set(topics.names)) == len(topics) == 20
    assert all(name for name in topics.names)


@pytest.mark.parametrize("items", [1, 2, 5])
def test_a_small_catalogue_has_topics_too(items: int) -> None:
    topics = find_topics(served(items), 32)

    assert len(topics) == items
    assert set(topics.of_item.tolist()) <= set(range(items))


def test_without_attributes_words_of_the_texts_name_the_topics() -> None:
    model = served(200)
    bare = replace(model, catalogue=replace(model.catalogue, attributes={}))

    names = find_topics(bare, 4).names

    assert sorted(name.partition(" (")[0] for name in names) == [
        *("comedy", "drama", "horror"),
        "mixed",  # "sci-fi" is no word of four letters
    ]


def test_a_new_item_joins_the_nearest_topic_and_moves_no_other() -> None:
    model = served(200)
    topics = find_topics(model, 4)
    items, vectors = added(8)

    joined = topics.over(model.with_items(items, vectors))

    assert np.array_equal(joined.of_item[:200], topics.of_item)
    assert [joined.names[t] for t in joined.of_item[200:].tolist()] == [
        *GENRES,
        *GENRES,
    ]


def test_topics_that_were_kept_stay_what_they_were_under_another_release(
    tmp_path: Path,
) -> None:
    path, model = tmp_path / "topics.json", served(200)
    before = topics_of(model, path)

    again = topics_of(model, path)
    after = topics_of(turned(model), path)

    assert before.names == again.names == after.names
    assert before.digest == after.digest
    assert np.array_equal(before.of_item, again.of_item)
    assert np.array_equal(before.of_item, after.of_item)
    assert not np.allclose(before.centres, after.centres)


def test_an_item_that_came_since_joins_the_nearest_of_the_kept_topics(
    tmp_path: Path,
) -> None:
    path, model = tmp_path / "topics.json", served(200)
    topics_of(model, path)
    items, vectors = added(8)

    after = topics_of(turned(whole(model.with_items(items, vectors))), path)

    kinds = {after.names[t].partition(" (")[0] for t in after.of_item[200::4].tolist()}
    assert all("comedy" in kind for kind in kinds)


def test_another_catalogue_has_topics_of_its_own(tmp_path: Path) -> None:
    path, model = tmp_path / "topics.json", served(200)
    topics_of(model, path)
    others = tuple(f"other-{n}" for n in range(200))
    other = replace(model, catalogue=replace(model.catalogue, ids=others))

    topics_of(other, path)

    assert set(json.loads(path.read_text())["items"]) == set(others)


def test_a_file_of_topics_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "topics.json"
    for text in ("{", "[]", '{"names": ["a"], "items": {"x": 3}}'):
        path.write_text(text)

        with pytest.raises(ConfigError, match=r"topics\.json cannot be read; delete"):
            topics_of(served(20), path)


def test_a_topic_without_any_item_attracts_none(tmp_path: Path) -> None:
    path, model = tmp_path / "topics.json", served(40)
    numbers = {item: place % 2 for place, item in enumerate(model.catalogue.ids[:30])}
    path.write_text(json.dumps({"names": ["a", "b", "c"], "items": numbers}))

    topics = topics_of(model, path)

    assert set(topics.of_item.tolist()) == {0, 1}
    assert isinstance(topics, Topics)
