"""A site on disk: what it keeps, and that its own file decides."""

import math
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.policy import SitePolicy
from client.site import Site, SiteSettings, open_site, round_name
from shared.errors import ConfigError, LedgerBroken
from tests.standin import a_plan

SITE_TOML = """\
[site]
name = "north"
base = "tiny"

[policy]
epsilon = 3
users = 50
"""


def site(folder: Path) -> Site:
    (folder / "site.toml").write_text(SITE_TOML, "utf-8")
    return open_site(folder)


def test_a_site_is_what_its_file_says_and_defaults(tmp_path: Path) -> None:
    opened = site(tmp_path)

    assert opened.settings == SiteSettings(name="north", base="tiny")
    assert opened.policy == SitePolicy(epsilon=3.0, users=50)
    assert opened.data == tmp_path / "data"
    assert opened.cache == tmp_path / "cache"


def test_folders_may_lie_elsewhere(tmp_path: Path) -> None:
    text = SITE_TOML.replace("[policy]", 'data = "/srv/shop"\ncache = "../c"\n[policy]')
    (tmp_path / "site.toml").write_text(text, "utf-8")

    opened = open_site(tmp_path)

    assert opened.data == Path("/srv/shop")
    assert opened.cache == tmp_path / ".." / "c"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["missing key 'name'"]),
        (SITE_TOML + "[server]\n", ["unknown tables ['server']; known: site, policy"]),
        (
            SITE_TOML + "epsilom = 3\nmax-q = 'all'\n",
            ["unknown key 'epsilom'", "max-q='all' is not float", "[policy]"],
        ),
        (SITE_TOML + "delta = 0.5\n", ["delta=0.5 is not in"]),
        (SITE_TOML.replace("north", "no/rth"), ["name='no/rth'"]),
        (SITE_TOML.replace('"tiny"', '"tiny"\ndevice = "tpu"'), ["device='tpu'"]),
        ("[site", ["is not valid TOML"]),
        ("name = '\xff'", ["is not valid TOML"]),
    ],
)
def test_a_file_with_faults_is_refused_and_they_are_named(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    (tmp_path / "site.toml").write_bytes(text.encode("latin-1"))

    with pytest.raises(ConfigError) as caught:
        open_site(tmp_path)

    assert all(one in str(caught.value) for one in told)


def test_a_folder_without_a_file_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no site: it has no site\.toml"):
        open_site(tmp_path)


def test_the_ledger_has_the_name_budget_and_delta_of_the_policy(tmp_path: Path) -> None:
    ledger = site(tmp_path).open_ledger()

    (opened,) = ledger.entries()
    assert opened.body["site"] == "north"
    assert (opened.body["budget"], opened.body["delta"]) == (3.0, 1e-5)
    assert ledger.path == tmp_path / "ledger.sqlite"


def test_tensors_come_back_as_they_were_kept(tmp_path: Path) -> None:
    kept = {
        "factors": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "sigma": np.array(4.0, np.float32),
    }

    site(tmp_path).keep("run", "head-0001", kept)

    again = site(tmp_path).kept("run", "head-0001")
    assert again is not None
    assert again.keys() == kept.keys()
    assert all(np.array_equal(again[name], kept[name]) for name in kept)
    assert again["sigma"].shape == ()


def test_bytes_come_back_and_what_was_never_kept_is_none(tmp_path: Path) -> None:
    ours = site(tmp_path)
    ours.keep_bytes("run", "update-0001", b"first")
    ours.keep_bytes("run", "update-0001", b"second")

    assert ours.kept_bytes("run", "update-0001") == b"second"
    assert ours.kept_bytes("run", "update-0002") is None
    assert ours.kept("other", "update-0001") is None


def test_a_crash_while_writing_leaves_the_earlier_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = site(tmp_path)
    ours.keep_bytes("run", "head-0001", b"whole")

    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        ours.keep_bytes("run", "head-0001", b"half")

    assert ours.kept_bytes("run", "head-0001") == b"whole"


def test_a_file_that_cannot_be_read_is_no_fresh_start(tmp_path: Path) -> None:
    """A lost prior must not be released, and charged, in silence a second time."""
    ours = site(tmp_path)
    ours.keep_bytes("run", "popularity", b"torn")

    with pytest.raises(LedgerBroken, match="cannot be read"):
        ours.kept("run", "popularity")


def test_the_newest_head_up_to_a_round_is_found_over_gaps(tmp_path: Path) -> None:
    ours = site(tmp_path)
    for number in (1, 4):
        head = {"factors": np.full(2, number, np.float32)}
        ours.keep("run", f"head-{number:04}", head)

    found = [ours.newest_head("run", before) for before in range(6)]

    assert [None if head is None else int(head["factors"][0]) for head in found] == [
        *(None, 1, 1, 1, 4, 4)
    ]


@given(run=st.text(st.sampled_from("ab.-_/\\ 0\n\x00~ü"), max_size=6))
def test_no_name_of_a_run_leads_out_of_the_site(
    tmp_path_factory: pytest.TempPathFactory, run: str
) -> None:
    """A run is named by the server; the site decides where its files lie."""
    folder = tmp_path_factory.getbasetemp() / "named"
    policy = SitePolicy(epsilon=math.inf, users=1)
    ours = Site(folder, SiteSettings(name="north"), policy)

    with suppress(ConfigError):
        ours.keep_bytes(run, "head-0001", b"x")

    places = {file.parent.parent for file in folder.rglob("*.safetensors")}
    assert places <= {folder / "runs"}
    assert not (folder.parent / "head-0001.safetensors").exists()


@pytest.mark.parametrize("run", ["", "..", "../up", "a/b", ".hidden", "a" * 65, "a\n"])
def test_a_run_with_an_unsafe_name_is_refused(tmp_path: Path, run: str) -> None:
    with pytest.raises(ConfigError, match="must be letters, digits"):
        site(tmp_path).kept(run, "popularity")


def test_files_of_a_round_sort_in_the_order_of_rounds() -> None:
    assert round_name(a_plan(number=12), "head") == "head-0012"
