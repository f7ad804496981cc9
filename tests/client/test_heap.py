"""Telling the C library is safe anywhere and remembered."""

import sys

import pytest

from client.heap import keep_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_glibc_listens_and_is_told_once() -> None:
    assert keep_freed_memory()
    assert keep_freed_memory.cache_info().currsize == 1
