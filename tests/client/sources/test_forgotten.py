"""A user who was forgotten does not come back from PostgreSQL."""

from client.data import load
from client.forget import forget
from client.site import Site
from client.sources.refresh import refresh
from tests.client.sources.shop import START, PostgresShop
from tests.client.test_data import seen
from tests.factories import write_site


def test_a_forgotten_user_does_not_come_back_from_postgresql(
    pg_shop: PostgresShop,
) -> None:
    made = write_site(pg_shop.folder.parent)
    site = Site(made.folder, made.settings, made.policy)
    refresh(site.data, site.folder)
    (bob,) = [
        seen(history)
        for history in load(site.data, site.folder).histories
        if history.user == "bob"
    ]

    forget(site, "ann")
    pg_shop.add(("ann", "x", START + 60, 5))

    for full in (False, True):
        refresh(site.data, site.folder, full=full)
        found = load(site.data, site.folder).histories
        assert [seen(history) for history in found] == [bob]
