"""What a site serves is what was trained: release, head and prior joined."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from client.serving.build import FROZEN, build, chosen
from client.serving.model import Blocks
from client.site import Site
from server.registry import Registry
from shared.catalogue import Catalogue
from shared.errors import ModelError
from shared.release import WEIGHTS
from shared.start import write_start
from tests.factories import tiny_plan, tiny_spec, write_site


def a_release(folder: Path) -> Path:
    """Version 1 of a run, as a simulation's registry holds it; signed by nobody."""
    write_start(folder / "start", "tiny", tiny_spec())
    registry = Registry.open(folder / "registry", folder / "start")
    plan = tiny_plan()
    rng = np.random.default_rng(4)
    adapter = {
        name: rng.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in plan.shapes.items()
    }
    return registry.publish(plan, adapter, rule="fedavg", received={}, rule_state={})


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return write_site(tmp_path / "site", people=12)


def test_a_site_serves_the_frozen_texts_before_its_first_release(site: Site) -> None:
    built = build(site, chosen(site))

    assert built.served.release == FROZEN
    assert built.served.notes
    assert not built.served.prior.any()
    assert not built.served.factors.parts[0].any()
    lengths = np.linalg.norm(built.served.vectors.parts[0], axis=1)
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)


def test_an_items_vector_is_that_of_its_text(site: Site, tmp_path: Path) -> None:
    built = build(site, chosen(site, a_release(tmp_path)))

    made = built.vectors(built.served.catalogue.texts[:5])

    cosines = (built.served.vectors.parts[0][:5] * made).sum(axis=1)
    assert cosines.min() > 0.9998  # bfloat16, where that is the quicker one


def test_the_vectors_are_computed_once_and_mapped(site: Site, tmp_path: Path) -> None:
    choice = chosen(site, a_release(tmp_path))
    first = build(site, choice)
    [path] = (site.folder / "serving" / "vectors").glob("*.npy")
    before = path.stat().st_ino

    second = build(site, choice)

    assert path.stat().st_ino == before
    assert isinstance(second.served.vectors.parts[0].base, np.memmap)
    assert second.served.digest == first.served.digest


def test_another_release_is_another_model(site: Site, tmp_path: Path) -> None:
    frozen = build(site, chosen(site)).served

    trained = build(site, chosen(site, a_release(tmp_path))).served

    assert (trained.release, trained.digest) != (frozen.release, frozen.digest)


def test_a_damaged_release_is_not_served(site: Site, tmp_path: Path) -> None:
    folder = a_release(tmp_path)
    tensors = safetensors.numpy.load_file(folder / WEIGHTS)
    flipped = {name: -array for name, array in tensors.items()}
    safetensors.numpy.save_file(flipped, folder / WEIGHTS, {"format": "pt"})

    with pytest.raises(ModelError):
        chosen(site, folder)


def test_a_new_item_comes_after_the_others_and_is_fresh(site: Site) -> None:
    built = build(site, chosen(site))
    names = built.served.catalogue.attributes
    added = Catalogue(
        ids=("new",), texts=("a violin",), attributes=dict.fromkeys(names, ((),))
    )

    more = built.served.with_items(added, built.vectors(added.texts))

    assert more.catalogue.position("new") == len(built.served)
    assert more.fresh.tolist() == [False] * len(built.served) + [True]
    last = more.vectors.rows(np.array([len(built.served)]))
    np.testing.assert_allclose(last, built.vectors(added.texts), atol=1e-6)


def test_blocks_answer_as_the_whole_matrix() -> None:
    rng = np.random.default_rng(1)
    whole = rng.normal(size=(9, 4)).astype(np.float32)
    parts = Blocks((whole[:5],)).with_rows(whole[5:7]).with_rows(whole[7:])
    vector = rng.normal(size=4).astype(np.float32)
    places = np.array([8, 0, 6, 5, 2])

    np.testing.assert_allclose(parts @ vector, whole @ vector, rtol=1e-5)
    np.testing.assert_array_equal(parts.rows(places), whole[places])
    assert len(parts) == 9


def test_attributes_lead_to_their_items(site: Site) -> None:
    served = build(site, chosen(site)).served

    for name, values in served.catalogue.attributes.items():
        for value, places in served.attributes[name].items():
            assert all(value in values[place] for place in places)
    assert (
        replace(served, release="other").attributes.keys() == served.attributes.keys()
    )
