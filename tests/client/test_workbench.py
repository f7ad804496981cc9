"""The workbench: held between rounds, and another one as soon as a file is another.

What is public is shared by all sites of a process that have the same; data never are.
"""

import gc
import os
import shutil
import weakref
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

import client.workbench
from client.data import SiteData, load, save
from client.site import Site
from client.workbench import Workbench, workbench
from shared.activations import FILE
from tests.factories import tiny_spec, write_site

MAPS = Path("/proc/self/maps")


def site_of_half(folder: Path, half: int, *, text: str = "", own: str = "") -> Site:
    """Every second user of a population, at a site whose cache is the others' too.

    Args:
        folder: Of all sites.
        half: Which users: those of even or of odd place.
        text: Instead of the catalogue's first.
        own: Name of a cache of the site's own.
    """
    cache = str(folder / (own or "cache"))
    site = write_site(folder / f"site-{half}{text}{own}", 20, cache=cache)
    whole = load(site.data)
    texts = (text or whole.catalogue.texts[0], *whole.catalogue.texts[1:])
    catalogue = replace(whole.catalogue, texts=texts)
    save(site.data, SiteData(catalogue, whole.histories[half::2]))
    return site


def alive() -> int:
    """How many workbenches this process has."""
    gc.collect()
    return sum(isinstance(one, Workbench) for one in gc.get_objects())


def users(bench: Workbench) -> set[str]:
    return {history.user for history in bench.data.histories}


def test_a_file_with_an_older_date_is_another_file(tmp_path: Path) -> None:
    """A partner's export may keep the date of what it was made from."""
    site, spec = write_site(tmp_path, 20), tiny_spec()
    first = workbench(site, spec)
    events = next(f for f in site.data.iterdir() if "interactions" in f.name)
    fresh = tmp_path / "another"
    fresh.write_bytes(events.read_bytes())
    os.utime(fresh, (1, 1))

    assert workbench(site, spec) is first
    fresh.replace(events)
    assert workbench(site, spec) is not first


def test_sites_of_equal_texts_share_activations_and_no_data(tmp_path: Path) -> None:
    one, other = (
        workbench(site_of_half(tmp_path, half), tiny_spec()) for half in (0, 1)
    )

    assert other.texts is one.texts
    assert len(users(one)) == len(users(other)) == 10
    assert not users(one) & users(other)
    assert not any(
        np.shares_memory(mine.likes, theirs.likes)
        for mine in one.examples
        for theirs in other.examples
    )


def test_sites_of_different_texts_share_no_activations(tmp_path: Path) -> None:
    one = workbench(site_of_half(tmp_path, 0), tiny_spec())
    other = workbench(site_of_half(tmp_path, 1, text="other"), tiny_spec())

    assert other.texts is not one.texts
    assert not np.allclose(other.texts.centre.numpy(), one.texts.centre.numpy())


def test_another_adapter_or_cache_shares_no_activations(tmp_path: Path) -> None:
    first, second = (site_of_half(tmp_path, half) for half in (0, 1))
    apart = site_of_half(tmp_path, 1, own="apart")

    one = workbench(first, tiny_spec())

    assert workbench(second, tiny_spec(rank=2)).texts is not one.texts
    assert workbench(apart, tiny_spec()).texts is not one.texts


def test_texts_go_with_the_last_workbench_that_holds_them(tmp_path: Path) -> None:
    benches = [workbench(site_of_half(tmp_path, half), tiny_spec()) for half in (0, 1)]
    texts = weakref.ref(benches[0].texts)

    client.workbench._held.cache_clear()
    del benches[0]
    gc.collect()
    assert texts() is benches[0].texts

    benches.clear()
    gc.collect()
    assert texts() is None


def test_many_sites_map_their_texts_once_and_only_the_newest_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lru_cache(maxsize=3)(client.workbench._held.__wrapped__)
    monkeypatch.setattr(client.workbench, "_held", held)
    first = site_of_half(tmp_path, 0)
    before = alive()

    for number in range(12):
        folder = tmp_path / f"copy-{number}"
        shutil.copytree(first.folder, folder)
        workbench(replace(first, folder=folder), tiny_spec())

    assert alive() - before == 3
    if MAPS.exists():
        mapped = [line for line in MAPS.read_text().splitlines() if FILE in line]
        assert sum(str(tmp_path) in line for line in mapped) == 1
