"""A generated site serves what it says, and the exact scan finds its best items."""

from typing import Any

import numpy as np
import pytest

from client.serving.build import build, chosen
from client.serving.rank import Wish, rank
from client.serving.taste import Past
from client.site import open_site
from simulations.bench.exact import best_for_query, best_for_user
from simulations.bench.serve import query_bodies, user_bodies
from simulations.bench.synthetic import Synthetic, synthetic

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("leanings", "like", "unlike", "wanted", "unwanted", "ranges"), ()),
    "meaning": "",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    folder = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(3)
    return synthetic(folder, items=400, users=30, base="tiny", rng=rng)


def test_the_site_is_served_with_the_vectors_that_were_drawn(site: Synthetic) -> None:
    opened = open_site(site.folder)

    served = build(opened, chosen(opened, site.release)).served

    assert served.release == "bench/1"
    assert not served.notes
    assert np.array_equal(served.vectors.parts[0], site.vectors)
    assert np.array_equal(served.factors.parts[0], site.factors)
    np.testing.assert_allclose(served.prior, site.prior)


@pytest.mark.parametrize("alpha", [None, 0.0, 0.4, 1.0])
def test_the_exact_scan_and_the_ranking_agree(
    site: Synthetic, alpha: float | None
) -> None:
    opened = open_site(site.folder)
    served = build(opened, chosen(opened, site.release)).served

    for history in site.data.histories[:10]:
        past = Past(
            items=history.items[::-1],
            strengths=np.ones(len(history), np.float32),
            seen=history.items,
            against=np.zeros(0, np.int64),
            hidden=np.zeros(0, np.int64),
        )
        allowed = np.ones(len(served), np.bool_)
        allowed[history.items] = False
        ranked = rank(
            served,
            Wish(allowed=allowed, past=past, alpha=alpha),
            np.random.default_rng(0),
        )

        best = best_for_user(site, history, alpha, 10)
        assert set(best.tolist()) == set(ranked.places.tolist())


def test_hard_parts_of_a_request_leave_only_what_satisfies_them(
    site: Synthetic,
) -> None:
    theme = site.data.catalogue.attributes["theme"][0][0]
    understood = {
        **NOTHING,
        "wanted": [{"attribute": "theme", "value": theme}],
        "unwanted": [{"attribute": "mood", "value": "bleak"}],
        "ranges": [{"attribute": "year", "low": 1960.0, "high": None}],
    }

    best = best_for_query(site, np.zeros(32, np.float32), understood, 10)

    attributes = site.data.catalogue.attributes
    assert best is not None
    assert len(best)
    for place in best:
        assert attributes["theme"][place] == (theme,)
        assert attributes["mood"][place] != ("bleak",)
        assert int(attributes["year"][place][0]) >= 1960
    assert (np.diff(site.prior[best]) <= 0).all()


def test_a_free_request_is_compared_by_meaning_and_a_leaning_one_not_at_all(
    site: Synthetic,
) -> None:
    place = int(np.argmin(site.prior))
    meaning = site.centre + 10 * site.vectors[place]

    best = best_for_query(site, meaning, NOTHING, 10)
    leaning = best_for_query(site, meaning, {**NOTHING, "leanings": [{}]}, 10)

    assert best is not None
    assert best[0] == place
    assert leaning is None


def test_no_two_generated_texts_are_alike(site: Synthetic) -> None:
    assert len(set(site.data.catalogue.texts)) == len(site.data.catalogue)
    lengths = np.linalg.norm(site.vectors, axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)


def test_every_user_is_asked_for_once_and_no_query_twice(site: Synthetic) -> None:
    rng = np.random.default_rng(0)

    users = [body["user"] for body in user_bodies(site, rng)]
    queries = [body["query"] for body in query_bodies(rng, 500)]

    assert len(users) == len(set(users)) == 30
    assert len(queries) == len(set(queries)) == 500
