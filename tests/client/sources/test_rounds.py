"""Rounds of a site whose source is a database: read once each, never misplaced."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.workbench
from client.data import SiteData, load
from client.round import answer
from client.site import Site
from client.sources.reading import read
from client.sources.refresh import refresh
from shared.errors import DataError
from tests.client.sources.shop import START, Event, SqliteShop
from tests.factories import texts, tiny_plan, write_site, zeros


def people(count: int, items: int = 20) -> list[Event]:
    """Users with eight likes each."""
    return [
        (f"u{user}", f"i{(user * 3 + n) % items}", START + n, 5)
        for user in range(count)
        for n in range(8)
    ]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = write_site(tmp_path / "site")
    shop = SqliteShop.open(made.data, people(12))
    shop.run("DELETE FROM products")
    shop.add_items(*((f"i{n}", text, "") for n, text in enumerate(texts(20))))
    return made


def shop_of(site: Site) -> SqliteShop:
    return SqliteShop(site.data)


def take_part(site: Site, number: int) -> None:
    plan = tiny_plan(number=number)
    answer(site, plan, zeros(plan))


def test_each_round_reads_the_source_once_and_loads_what_changed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def watched(name: str, honest: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            events.append(name)
            return honest(*args, **kwargs)

        return call

    monkeypatch.setattr("client.sources.refresh.read", watched("read", read))
    monkeypatch.setattr(client.workbench, "load", watched("load", load))

    take_part(site, 1)
    take_part(site, 2)
    shop_of(site).add(("new", "i1", START + 9, 5))
    take_part(site, 3)

    assert events == ["read", "load", "read", "read", "load"]


def test_a_run_goes_on_as_items_come(site: Site) -> None:
    take_part(site, 1)
    shop_of(site).add_items(("a-new-one", "Alien", ""))
    shop_of(site).add(("new", "a-new-one", START + 9, 5))

    take_part(site, 2)

    first, second = (site.kept("run", f"head-000{number}") for number in (1, 2))
    assert first is not None
    assert second is not None
    assert first["factors.weight"].shape == (20, 4)
    assert second["factors.weight"].shape == (21, 4)
    moved = np.abs(second["factors.weight"][:20] - first["factors.weight"])
    assert moved.max() < 0.2  # it went on from the first head, it did not start anew


def test_a_run_refuses_a_catalogue_in_which_its_items_stand_elsewhere(
    site: Site,
) -> None:
    take_part(site, 1)
    shop = shop_of(site)
    shop.run(
        "DELETE FROM products WHERE id = 'i0'", "DELETE FROM events WHERE what='i0'"
    )
    shop.add_items(("a-new-one", "Alien", ""))
    refresh(site.data, full=True)

    with pytest.raises(
        DataError, match="'run' began with 20 items that no longer lead"
    ):
        take_part(site, 2)


def test_a_source_that_is_gone_does_not_stop_a_run(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    take_part(site, 1)
    shop_of(site).file.unlink()

    take_part(site, 2)

    assert "round run/2 goes on with what was read before" in caplog.text


def test_files_that_change_are_loaded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, loaded = write_site(tmp_path, 20), []

    def watched(folder: Path, of: Path) -> SiteData:
        loaded.append(folder)
        return load(folder, of)

    monkeypatch.setattr(client.workbench, "load", watched)
    take_part(site, 1)
    take_part(site, 2)
    path = site.data / "interactions.parquet"
    path.write_bytes(path.read_bytes())
    take_part(site, 3)

    assert len(loaded) == 2
