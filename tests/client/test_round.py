"""One round at a site: what is charged, read, trained and sent, in this order."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import client.round
import client.workbench
from client.noise import system_uniform
from client.policy import SitePolicy
from client.round import _streams, answer
from client.site import Site, SiteSettings, open_site
from shared.errors import BudgetSpent, LedgerBroken, PolicyRefused
from shared.protocol import Reply, RoundPlan
from shared.sealing import metric_bytes, update_bytes
from tests.factories import mechanism, plan, tiny_plan, write_site, zeros
from tests.standin import a_witness


def silent_site(**policy: object) -> Site:
    made = SitePolicy(users=10, **policy)  # type: ignore[arg-type]
    return Site(Path(), SiteSettings(name="site-1"), made)


def test_a_site_that_promises_anything_draws_from_the_operating_system() -> None:
    streams = _streams(silent_site(epsilon=8.0), plan({}), "training")

    assert streams.noise is system_uniform
    assert streams.coins is system_uniform


@pytest.mark.parametrize(
    "policy", [{"epsilon": float("inf")}, {"epsilon": 8.0, "insecure_test_noise": True}]
)
def test_a_site_that_promises_nothing_can_be_repeated(
    policy: dict[str, object],
) -> None:
    ours = silent_site(**policy)
    one, same = (_streams(ours, plan({}), "training") for _ in range(2))
    others = [
        _streams(ours, plan({}, number=2), "training"),
        _streams(ours, plan({}), "popularity"),
        _streams(ours, plan({}), "metrics"),
    ]

    drawn = one.noise(4).tolist()
    assert drawn == same.noise(4).tolist()
    assert all(drawn != other.noise(4).tolist() for other in others)


def measured_plan(**changes: object) -> RoundPlan:
    """A plan that asks for a metric as well."""
    return tiny_plan(mechanism=mechanism(metric_sigma=4.0), **changes)


def planned(site: Site) -> list[tuple[int, str]]:
    """Round and purpose of every charge."""
    entries = site.open_ledger().entries()
    charges = [entry.body for entry in entries if entry.state == "planned"]
    return [(body["round"], body["what"]) for body in charges]


def states(site: Site) -> list[str]:
    return [entry.state for entry in site.open_ledger().entries()]


@dataclass(frozen=True)
class Answered:
    """A site, what it was asked, what it answered, and what was charged at each step.

    Attributes:
        site: Its folder is not to be changed, only copied.
        asked: A plan that asks for a metric.
        reply: What left.
        charged: What was called -> what was charged by then.
    """

    site: Site
    asked: RoundPlan
    reply: Reply
    charged: dict[str, list[tuple[int, str]]]

    def copy(self, folder: Path) -> Site:
        shutil.copytree(self.site.folder, folder, dirs_exist_ok=True)
        return open_site(folder)


STEPS = {
    "load": client.workbench,
    "release_popularity": client.round,
    "release_metric": client.round,
    "train_round": client.round,
}


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    site = write_site(
        tmp_path_factory.mktemp("site"), 20, releases=("popularity", "metrics")
    )
    asked, charged = measured_plan(), dict[str, list[tuple[int, str]]]()

    def watched(name: str, honest: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            charged.setdefault(name, planned(site))
            return honest(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name, where in STEPS.items():
            patch.setattr(where, name, watched(name, getattr(where, name)))
        reply = answer(site, asked, zeros(asked))
    return Answered(site, asked, reply, charged)


def test_everything_is_charged_before_the_data_is_touched_for_it(
    answered: Answered,
) -> None:
    first = [(1, "popularity")]
    whole = [*first, (1, "metrics"), (1, "training")]

    assert answered.charged == {
        "load": first,
        "release_popularity": first,
        "release_metric": whole,
        "train_round": whole,
    }
    assert planned(answered.site) == whole


def test_all_that_leaves_is_in_the_ledger_by_the_hash_of_its_bytes(
    answered: Answered,
) -> None:
    entries = answered.site.open_ledger().entries()
    sealed = {
        entries[entry.body["planned"]].body["what"]: entry.body
        for entry in entries
        if entry.state == "sealed"
    }
    metric = answered.reply.metric
    assert metric is not None

    leaving = {"metrics": metric_bytes(metric)}
    leaving["training"] = update_bytes(answered.reply.update)

    assert {what: body["leaves"] for what, body in sealed.items()} == {
        "popularity": False,
        "metrics": True,
        "training": True,
    }
    for what, content in leaving.items():
        assert sealed[what]["sha256"] == hashlib.sha256(content).hexdigest()
        assert sealed[what]["bytes"] == len(content)
    assert answered.reply.witness == answered.site.open_ledger().witness()


def test_the_metric_is_charged_at_its_own_noise_and_the_rate_of_training(
    answered: Answered,
) -> None:
    entries = answered.site.open_ledger().entries()
    (charge,) = [entry.body for entry in entries if entry.body.get("what") == "metrics"]

    assert (charge["q"], charge["sigma"], charge["steps"]) == (0.5, 4.0, 1)
    assert charge["clip"] == 1.0
    assert charge["plan"] == answered.asked.digest()


def test_asked_again_a_site_sends_the_same_and_spends_nothing(
    answered: Answered, tmp_path: Path
) -> None:
    site, asked = answered.copy(tmp_path), answered.asked

    again = answer(site, asked, zeros(asked), answered.reply.witness)

    assert update_bytes(again.update) == update_bytes(answered.reply.update)
    assert again.metric == answered.reply.metric
    assert again.witness == answered.reply.witness
    assert states(site) == states(answered.site)


def test_a_sealed_round_is_not_trained_again_under_another_plan(
    answered: Answered, tmp_path: Path
) -> None:
    site = answered.copy(tmp_path)
    for other in (
        replace(answered.asked, max_norm=99.0),
        tiny_plan(),  # without a metric
    ):
        with pytest.raises(PolicyRefused, match="sealed under another plan"):
            answer(site, other, zeros(other))

    assert states(site) == states(answered.site)


@pytest.mark.parametrize("name", ["update-0001", "metric-0001"])
def test_stored_bytes_that_the_ledger_did_not_seal_are_not_sent(
    answered: Answered, tmp_path: Path, name: str
) -> None:
    site, asked = answered.copy(tmp_path), answered.asked
    content = site.kept_bytes("run", name)
    assert content is not None
    site.keep_bytes("run", name, content[:-1] + b"?")

    with pytest.raises(LedgerBroken, match="is not the one that the ledger sealed"):
        answer(site, asked, zeros(asked))

    assert states(site) == states(answered.site)


def test_a_ledger_that_is_behind_what_the_server_has_seen_trains_nothing(
    answered: Answered, tmp_path: Path
) -> None:
    """The server's witness is of the same site and key, but of a longer ledger."""
    site = answered.copy(tmp_path / "site")
    further = answered.copy(tmp_path / "further")
    further.open_ledger().refused("run", 2, "PolicyRefused")
    asked = measured_plan(number=2)

    with pytest.raises(LedgerBroken, match="rolled back or cloned"):
        answer(site, asked, zeros(asked), further.open_ledger().witness())

    assert states(site) == states(answered.site)


@pytest.mark.parametrize("key_stays", [True, False])
def test_a_lost_ledger_is_not_begun_anew_where_the_server_remembers_one(
    answered: Answered, tmp_path: Path, *, key_stays: bool
) -> None:
    site, asked = answered.copy(tmp_path), measured_plan(number=2)
    lost = ["ledger.sqlite", "ledger.witness", *([] if key_stays else ["site.key"])]
    for name in lost:
        (tmp_path / name).unlink()

    with pytest.raises(LedgerBroken, match="the server has seen"):
        answer(site, asked, zeros(asked), answered.reply.witness)

    assert not any((tmp_path / name).exists() for name in lost)


def test_a_site_that_never_trained_believes_no_server_that_claims_it_did(
    tmp_path: Path,
) -> None:
    site, asked = write_site(tmp_path), tiny_plan()

    with pytest.raises(LedgerBroken):
        answer(site, asked, zeros(asked), a_witness("site-1", 3))

    assert not site.ledger.exists()


def test_a_metric_that_the_policy_does_not_list_is_neither_made_nor_charged(
    tmp_path: Path,
) -> None:
    site, asked = write_site(tmp_path, releases=("popularity",)), measured_plan()

    with pytest.raises(PolicyRefused, match="a metric may not leave"):
        answer(site, asked, zeros(asked))

    assert not site.ledger.exists()
    assert not site.data.exists()


def test_without_being_asked_for_a_metric_a_site_makes_none(tmp_path: Path) -> None:
    site = write_site(tmp_path, 20, releases=("popularity", "metrics"))
    asked = tiny_plan()

    reply = answer(site, asked, zeros(asked))

    assert reply.metric is None
    assert planned(site) == [(1, "popularity"), (1, "training")]
    assert site.kept_bytes("run", "metric-0001") is None


def test_a_metric_that_the_budget_does_not_allow_is_not_made(tmp_path: Path) -> None:
    """The data folder is not there: nothing of it is needed to say no."""
    site = write_site(tmp_path, epsilon=0.5, releases=("metrics",))
    noise = mechanism(sigma=100.0, prior_sigma=0.0, metric_sigma=1.0)
    asked = tiny_plan(mechanism=noise)
    site.keep("run", "popularity", {})  # as if the prior were there

    with pytest.raises(BudgetSpent):
        answer(site, asked, zeros(asked))

    assert planned(site) == []
    assert states(site)[-1] == "refused"
