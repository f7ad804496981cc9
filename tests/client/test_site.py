"""A site on disk: what it keeps, and that its own file decides."""

import math
import os
from contextlib import suppress
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.policy import SitePolicy
from client.site import Site, SiteSettings, open_site, round_name, settings_text
from shared.accounting import GaussianEvent
from shared.errors import ConfigError, LedgerBroken
from shared.ledger import Ledger
from shared.signing import load_key, make_key, public_key
from tests.standin import a_plan

SITE_TOML = 'name = "north"\nbase = "tiny"\n'
POLICY_TOML = "epsilon = 3\nusers = 50\n"


def site(folder: Path, settings: str = SITE_TOML, policy: str = POLICY_TOML) -> Site:
    (folder / "site.toml").write_bytes(settings.encode("latin-1"))
    (folder / "policy.toml").write_bytes(policy.encode("latin-1"))
    return open_site(folder)


def test_a_site_is_what_its_two_files_say_and_defaults(tmp_path: Path) -> None:
    opened = site(tmp_path)

    assert opened.settings == SiteSettings(name="north", base="tiny")
    assert opened.policy == SitePolicy(epsilon=3.0, users=50)
    assert opened.data == tmp_path / "data"
    assert opened.cache == tmp_path / "cache"


def test_folders_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "north").mkdir()
    text = 'data = "/srv/shop"\ncache = "../c"\nwitness = "../disk/w"\n'
    (tmp_path / "disk").mkdir()

    opened = site(tmp_path / "north", SITE_TOML + text)
    opened.open_ledger()

    assert opened.data == Path("/srv/shop")
    assert opened.cache == tmp_path / "north" / ".." / "c"
    assert (tmp_path / "disk" / "w").is_file()
    assert not (tmp_path / "north" / "ledger.witness").exists()


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    settings = SiteSettings(name="north", data="/srv/ü", device="cpu", witness="w")

    (tmp_path / "site.toml").write_text(settings_text(settings), "utf-8")
    (tmp_path / "policy.toml").write_text(POLICY_TOML, "utf-8")

    assert open_site(tmp_path).settings == settings


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["missing key 'name'"]),
        (SITE_TOML + "[server]\n", ["unknown key 'server'", "site.toml"]),
        (SITE_TOML + POLICY_TOML, ["unknown key 'epsilon'", "unknown key 'users'"]),
        (
            "nome = 'north'\nbase = 3\n",
            ["unknown key 'nome'", "missing key 'name'", "base=3 is not str"],
        ),
        (SITE_TOML.replace("north", "no/rth"), ["name='no/rth'"]),
        (SITE_TOML + 'device = "tpu"\n', ["device='tpu'"]),
        ("[site", ["is not valid TOML"]),
        ("name = '\xff'", ["is not valid TOML"]),
    ],
)
def test_a_file_with_faults_is_refused_and_they_are_named(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        site(tmp_path, text)

    assert all(one in str(caught.value) for one in told)


def test_a_folder_without_a_file_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is no site: it has no site\.toml"):
        open_site(tmp_path)


def test_a_site_without_a_policy_is_no_site(tmp_path: Path) -> None:
    site(tmp_path)
    (tmp_path / "policy.toml").unlink()

    with pytest.raises(ConfigError, match="without a policy allows nothing"):
        open_site(tmp_path)


def test_the_ledger_has_name_key_delta_and_limits_of_the_site(tmp_path: Path) -> None:
    ours = site(tmp_path)

    ledger = ours.open_ledger()

    (opened,) = ledger.entries()
    assert (opened.body["site"], opened.body["delta"]) == ("north", 1e-5)
    assert opened.body["key"] == public_key(load_key(tmp_path / "site.key"))
    assert opened.body["limits"] == ours.policy.limits().to_body()
    assert opened.body["limits"]["epsilon"] == 3.0
    assert ledger.path == tmp_path / "ledger.sqlite"
    assert (tmp_path / "ledger.witness").is_file()


def test_the_key_is_for_the_sites_eyes_and_stays_the_same(tmp_path: Path) -> None:
    ours = site(tmp_path)

    first = ours.open_ledger().witness()
    second = ours.open_ledger().witness()

    assert first == second
    assert (tmp_path / "site.key").stat().st_mode & 0o777 == 0o600


def test_a_key_made_with_the_folder_is_the_ledgers(tmp_path: Path) -> None:
    """``tacit site init`` makes it; delta is fixed at the ledger's first use."""
    key = make_key(tmp_path / "site.key")

    ledger = site(tmp_path, policy=POLICY_TOML + "delta = 1e-6\n").open_ledger()

    (opened,) = ledger.entries()
    assert (opened.body["key"], opened.body["delta"]) == (public_key(key), 1e-6)


def spend(ledger: Ledger) -> None:
    ledger.plan(
        run="run",
        number=1,
        what="training",
        event=GaussianEvent(q=0.1, sigma=4.0, steps=1),
        clip=1.0,
        plan_digest="0" * 64,
    )


def test_another_policy_is_recorded_and_resets_nothing(tmp_path: Path) -> None:
    spend(site(tmp_path).open_ledger())

    after = site(tmp_path, policy="epsilon = 5\nusers = 60\n").open_ledger()

    assert [entry.state for entry in after.entries()] == ["opened", "planned", "policy"]
    assert after.entries()[-1].body["limits"]["epsilon"] == 5.0
    assert len(after.events()) == 1


OF_A_LEDGER = ("site.key", "ledger.sqlite", "ledger.witness")
LOSSES = [*combinations(OF_A_LEDGER, 1), *combinations(OF_A_LEDGER, 2)]
LOSSES.remove(OF_A_LEDGER[1:])  # a key alone: the first opening may have been cut short


@pytest.mark.parametrize("lost", LOSSES, ids=" and ".join)
def test_what_is_lost_of_a_ledger_is_never_made_anew(
    tmp_path: Path, lost: tuple[str, ...]
) -> None:
    """A site that began again without its past would forget what it had spent.

    Where a key alone is left, the server's witness tells; see test_hostile.
    """
    ours = site(tmp_path)
    spend(ours.open_ledger())
    for name in lost:
        (tmp_path / name).unlink()

    with pytest.raises(ConfigError if "site.key" in lost else LedgerBroken):
        ours.open_ledger()

    assert not any((tmp_path / name).exists() for name in lost)


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
