"""One PostgreSQL for all tests of sources, and a fresh shop in it for each."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.client.sources.shop import PASSWORD, PostgresShop, SqliteShop

if TYPE_CHECKING:
    from tests.client.sources.cluster import Cluster


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Cluster]":
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'tacit[postgres]'")
    from tests.client.sources import cluster  # noqa: PLC0415

    where = cluster.binaries()
    if where is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with cluster.running(where) as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path) -> SqliteShop:
    return SqliteShop.open(tmp_path / "sqlite" / "data")


@pytest.fixture
def pg_shop(
    tmp_path: Path, postgres: "Cluster", monkeypatch: pytest.MonkeyPatch
) -> PostgresShop:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    return PostgresShop.open(tmp_path / "postgresql" / "data", postgres)
