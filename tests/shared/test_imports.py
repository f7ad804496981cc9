"""Imports without the garbage collector."""

import gc
from collections.abc import Iterator

import pytest

from shared.imports import uncollected


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_nothing_is_collected_inside_the_block_and_again_after_it() -> None:
    with uncollected():
        inside = gc.isenabled()

    assert not inside
    assert gc.isenabled()


def test_what_was_made_inside_is_left_out_of_later_collections() -> None:
    before = gc.get_freeze_count()

    with uncollected():
        kept = [[number] for number in range(1000)]

    assert gc.get_freeze_count() >= before + len(kept)


def test_a_failed_import_leaves_the_collector_as_it_was() -> None:
    with pytest.raises(ImportError), uncollected():
        raise ImportError

    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        off = not gc.isenabled()
    finally:
        gc.enable()

    assert off
