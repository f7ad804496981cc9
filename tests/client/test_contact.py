"""A node is in contact while its server answers, and while it works for it."""

import os
import time
from pathlib import Path

import pytest

from client.contact import FILE, SILENCE_S, heard, in_contact


def long_ago(folder: Path) -> None:
    then = time.time() - SILENCE_S - 1
    os.utime(folder / FILE, (then, then))


def test_a_node_that_never_heard_of_its_server_is_not_in_contact(
    tmp_path: Path,
) -> None:
    assert not in_contact(tmp_path, since=0)


def test_what_an_earlier_node_heard_does_not_count(tmp_path: Path) -> None:
    heard(tmp_path, at_work=True)

    assert in_contact(tmp_path, since=time.time() - 10)
    assert not in_contact(tmp_path, since=time.time() + 10)


@pytest.mark.parametrize("at_work", [True, False])
def test_silence_ends_the_contact_of_a_node_that_waits(
    tmp_path: Path, *, at_work: bool
) -> None:
    heard(tmp_path, at_work=at_work)

    long_ago(tmp_path)

    assert in_contact(tmp_path, since=0) == at_work


def test_a_contact_that_cannot_be_noted_does_not_end_the_node(tmp_path: Path) -> None:
    (tmp_path / "node").write_text("in the way")

    heard(tmp_path, at_work=False)

    assert not in_contact(tmp_path, since=0)
