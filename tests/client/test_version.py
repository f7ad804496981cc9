"""The version that a site holds: kept for the next step, and never more than public."""

from dataclasses import replace
from pathlib import Path

import pytest

from client.erase import erase
from client.version import held, hold
from shared.adapter import digest
from tests.factories import write_site
from tests.standin import B, a_plan, tensor


@pytest.mark.parametrize("wire", ["float16", "int8"])
def test_a_site_holds_the_version_that_it_was_sent_last(
    tmp_path: Path, wire: str
) -> None:
    site, plan = write_site(tmp_path), replace(a_plan(), wire=wire)

    hold(site, plan, {B: tensor(1)})
    hold(site, plan, {B: tensor(2)})

    found = held(site, plan.run)
    assert found is not None
    assert digest(found) == digest({B: tensor(2)})
    assert held(site, "other") is None


def test_where_no_step_will_come_nothing_is_held(tmp_path: Path) -> None:
    site, plan = write_site(tmp_path), a_plan()

    hold(site, plan, {B: tensor(1)})

    assert held(site, plan.run) is None
    assert not (tmp_path / "runs").exists()


def test_a_copy_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    site = write_site(tmp_path)
    site.keep_bytes("rehearsal", "adapter", b"torn")

    assert held(site, "rehearsal") is None


def test_a_site_that_leaves_erases_it(tmp_path: Path) -> None:
    site, plan = write_site(tmp_path), replace(a_plan(), wire="int8")
    hold(site, plan, {B: tensor(1)})

    erase(site)

    assert held(site, plan.run) is None
