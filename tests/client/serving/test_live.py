"""A running site takes up what is new by itself, and never what it cannot believe."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import client.serving.live
from client.releases import rollback
from client.serving.added_items import NewItem
from client.serving.build import FROZEN
from client.serving.live import Live
from client.serving.store import Store
from client.site import Site
from server.operator import Operator
from shared.errors import DataError
from shared.invitation import to_text
from shared.release import WEIGHTS
from shared.signing import public_key
from tests.client.test_releases import send
from tests.factories import write_site
from tests.server.premises import an_operator, publish
from tests.shared.papers import an_invitation


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Operator:
    made = an_operator(tmp_path_factory.mktemp("operator") / "operator")
    publish(made, "spring", 2)
    return made


@pytest.fixture
def site(tmp_path: Path, operator: Operator, cache: Path) -> Site:
    made = write_site(tmp_path / "site", people=12, cache=str(cache))
    key = operator.signing_key()
    text = to_text(an_invitation(operator=public_key(key)), key)
    (made.folder / "join.toml").write_text(text, "utf-8")
    return made


@pytest.fixture
def store(site: Site) -> Iterator[Store]:
    made = Store(site.folder)
    yield made
    made.close()


def item(name: str, text: str) -> NewItem:
    return NewItem(id=name, text=text)


@pytest.mark.slow
def test_a_new_release_is_taken_up_and_what_began_before_ends_before(
    site: Site, store: Store, operator: Operator
) -> None:
    live = Live(site.folder, None, store)
    before = live.now
    send(site, operator, "spring/2", 1)

    renewed = live.renew()

    assert renewed
    assert before.served.release == FROZEN
    assert live.now.served.release == "spring/2"
    assert not live.renew()  # and nothing is new after that


@pytest.mark.slow
def test_a_release_that_came_earlier_is_served_again(
    site: Site, store: Store, operator: Operator
) -> None:
    send(site, operator, "spring/1", 1)
    send(site, operator, "spring/2", 2)
    live = Live(site.folder, None, store)

    rollback(site, "spring/1")

    assert live.renew()
    assert live.now.served.release == "spring/1"


@pytest.mark.slow
def test_the_last_good_release_serves_on_when_a_newer_one_is_damaged(
    site: Site, store: Store, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.serving.live, "AGAIN_S", 0.0)
    send(site, operator, "spring/1", 1)
    live = Live(site.folder, None, store)
    folder = send(site, operator, "spring/2", 2)
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    assert not live.renew()

    assert live.now.served.release == "spring/1"
    assert "ModelError" in live.fault
    (folder / WEIGHTS).write_bytes(whole)
    assert live.renew()
    assert (live.now.served.release, live.fault) == ("spring/2", "")


@pytest.mark.slow
def test_a_rollback_from_a_damaged_release_does_not_have_to_wait(
    site: Site, store: Store, operator: Operator
) -> None:
    send(site, operator, "spring/1", 1)
    live = Live(site.folder, None, store)
    (send(site, operator, "spring/2", 2) / WEIGHTS).write_bytes(b"torn")
    assert not live.renew()
    assert not live.renew()

    rollback(site, "spring/1")

    assert live.renew()
    assert live.fault == ""


@pytest.mark.slow
def test_data_that_cannot_be_read_do_not_end_serving(site: Site, store: Store) -> None:
    live = Live(site.folder, None, store)
    good = live.now

    (site.data / "items.parquet").write_bytes(b"no table")

    assert not live.renew()
    assert live.now is good
    assert DataError.__name__ in live.fault


@pytest.mark.slow
def test_new_items_count_at_once_and_outlast_a_renewal(
    site: Site, store: Store, operator: Operator
) -> None:
    live = Live(site.folder, None, store)
    count = len(live.now.served)
    asyncio.run(store.put_items([item("new-1", "a violin at night")], 1))

    live.add_items()
    now = live.now
    asyncio.run(store.put_items([item("new-2", "a map of comets")], 2))
    send(site, operator, "spring/2", 1)
    live.renew()

    assert (len(now.served), len(live.now.served)) == (count + 1, count + 2)
    assert live.now.served.catalogue.ids[-2:] == ("new-1", "new-2")
    assert live.now.served.fresh[-2:].all()
    assert len(live.now.topics.of_item) == count + 2


@pytest.mark.slow
def test_an_item_that_is_put_again_changes_its_text(site: Site, store: Store) -> None:
    live = Live(site.folder, None, store)
    for text in ("a violin at night", "a fox in winter"):
        asyncio.run(store.put_items([item("new-1", text)], 1))
        live.add_items()

    assert live.now.served.catalogue.texts[-1] == "a fox in winter"
    assert live.now.served.catalogue.ids.count("new-1") == 1
