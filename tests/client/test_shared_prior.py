"""A popularity that all sites of one catalogue make together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data import load_items
from client.prior import log_prior
from client.round import answer
from client.shared_prior import require_same_catalogue, shared_prior
from client.site import Site, open_site
from client.workbench import popularity_prior, workbench
from shared.errors import DataError, PolicyRefused
from shared.popularity import (
    SharedItems,
    encoder_part,
    items_of,
    shared_part,
)
from shared.protocol import Adapter, RoundPlan
from tests.factories import mechanism, small_recipe, tiny_plan, write_site, zeros
from tests.factories import plan as a_plan

RECIPE = small_recipe(optimizer="sgd", head="cooccurrence", prior="shared")
NOISE = mechanism(q=1.0, steps=1, prior_sigma=2.0, head_sigma=2.0)
ALLOWED = ("popularity", "shared-popularity", "cooccurrence")


def site_at(folder: Path, releases: tuple[str, ...] = ALLOWED) -> Site:
    return write_site(folder, people=12, releases=releases)


def asked(site: Site, **changes: object) -> RoundPlan:
    """A plan that shares the popularity of the site's catalogue."""
    made = tiny_plan(mechanism=NOISE, recipe=RECIPE, sites=("site-1", "b"), **changes)
    ids = workbench(site, made.spec).data.catalogue.ids
    return replace(made, shapes={**made.shapes, items_of(ids).tensor: (len(ids),)})


def charged(site: Site) -> list[str]:
    entries = site.open_ledger().entries()
    return [one.body["what"] for one in entries if one.state == "planned"]


def test_what_leaves_is_the_release_that_was_charged_and_nothing_else(
    tmp_path: Path,
) -> None:
    site = site_at(tmp_path)
    plan = asked(site)

    delta = answer(site, plan, zeros(plan)).update.delta

    [sent] = shared_part(delta).values()
    kept = site.kept("run", "popularity")
    assert kept is not None
    assert sent == pytest.approx(kept["popularity"] / site.policy.users, abs=1e-6)
    assert charged(site) == ["popularity", "cooccurrence", "training"]


def test_later_rounds_repeat_the_release_and_charge_nothing_for_it(
    tmp_path: Path,
) -> None:
    site = site_at(tmp_path)
    plan = asked(site)
    first = answer(site, plan, zeros(plan)).update.delta
    mean: Adapter = {name: 0.5 * array for name, array in first.items()}

    second = answer(open_site(tmp_path), replace(plan, number=2), mean).update.delta

    [before], [change] = (shared_part(of).values() for of in (first, second))
    assert change == pytest.approx(0.5 * before, abs=1e-6)
    assert charged(site)[3:] == ["training"]


def test_a_site_that_does_not_allow_it_lets_nothing_out(tmp_path: Path) -> None:
    site = site_at(tmp_path, releases=("popularity", "cooccurrence"))
    plan = asked(site)

    with pytest.raises(PolicyRefused, match="popularity may not leave"):
        answer(site, plan, zeros(plan))

    assert not site.ledger.exists()


@pytest.mark.parametrize("prior", ["own", "shared"])
def test_a_plan_must_share_exactly_what_its_recipe_says(
    tmp_path: Path, prior: str
) -> None:
    site = site_at(tmp_path)
    shared = asked(site)
    plan = replace(
        shared,
        recipe=replace(RECIPE, prior=prior),
        shapes=shared.shapes if prior == "own" else encoder_part(shared.shapes),
    )

    with pytest.raises(PolicyRefused, match=f"prior='{prior}' with"):
        answer(site, plan, zeros(plan))


def test_the_popularity_of_another_catalogue_is_refused(tmp_path: Path) -> None:
    site = site_at(tmp_path)
    plan = asked(site)
    other = {**encoder_part(plan.shapes), items_of(["a", "b"]).tensor: (2,)}

    with pytest.raises(DataError, match="not of this site's 72 items"):
        answer(site, replace(plan, shapes=other), zeros(replace(plan, shapes=other)))

    assert charged(site) == []


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose interactions are gone."""
    site = site_at(tmp_path_factory.mktemp("bare"))
    (site.data / "interactions.parquet").unlink()
    return site


@given(items=st.integers(1, 200), digest=st.text("0123456789abcdef", min_size=1))
@settings(max_examples=20, deadline=None)
def test_only_the_public_items_are_read_to_tell_another_catalogue(
    bare: Site, items: int, digest: str
) -> None:
    ours = items_of(load_items(bare.data))
    other = SharedItems(digest=digest, items=items)
    own, strange = (
        a_plan({of.tensor: (of.items,)}, recipe=RECIPE) for of in (ours, other)
    )

    require_same_catalogue(bare, own)
    with pytest.raises(
        DataError, match=f"72 items in their order .digest {ours.digest}"
    ):
        require_same_catalogue(bare, strange)


def test_the_prior_is_that_of_all_sites_once_there_is_one(tmp_path: Path) -> None:
    """Two sites: twice the mean, with noise of root two."""
    site = site_at(tmp_path)
    plan = asked(site)
    answer(site, plan, zeros(plan))
    [name] = shared_part(plan.shapes)
    mean = np.linspace(0, 0.15, 72).astype(np.float32)
    adapter: Adapter = {**encoder_part(zeros(plan)), name: mean}

    got = popularity_prior(site, plan, adapter)

    pooled = mean * np.float32(2 * site.policy.users)
    assert got == pytest.approx(log_prior(pooled, 2.0 * 2**0.5), abs=1e-5)
    assert shared_prior(site, plan, zeros(plan)) is None
    own = site.kept("run", "popularity")
    assert own is not None
    alone = popularity_prior(site, plan, zeros(plan))
    assert alone == pytest.approx(log_prior(own["popularity"], 2.0))


def test_a_site_that_releases_nothing_refuses_another_catalogue_too(
    tmp_path: Path,
) -> None:
    site = site_at(tmp_path)
    plan = replace(asked(site), mechanism=replace(NOISE, prior_sigma=0.0))
    other = replace(
        plan, shapes={**encoder_part(plan.shapes), items_of(["a"]).tensor: (1,)}
    )

    with pytest.raises(DataError, match="not of this site's 72 items"):
        answer(site, other, zeros(other))
