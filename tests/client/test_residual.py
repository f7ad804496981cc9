"""Error feedback at a site: what a round leaves over goes into the next, once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.egress import release_update, seal
from client.erase import erase
from client.reach import reach
from client.residual import carried, keep_residual
from client.site import Site
from shared.accounting import GaussianEvent
from shared.adapter import digest, norm
from shared.errors import EgressRefused, LedgerBroken
from shared.ledger import Ledger
from shared.packing import feed_back, pack
from shared.protocol import Adapter, Array, RoundPlan
from shared.sealing import update_bytes
from tests.factories import write_site
from tests.standin import a_plan

SHAPES = {"a.lora_B.weight": (3, 2), "b.lora_B.weight": (4,)}
NOTHING: Adapter = {}


def plan(number: int, wire: str = "int8") -> RoundPlan:
    return replace(a_plan(number), shapes=SHAPES, wire=wire)


def noised(seed: int) -> dict[str, Array]:
    """A change of the adapter as it comes out of training."""
    rng = np.random.default_rng(seed)
    return {n: rng.normal(0, 0.1, s).astype(np.float32) for n, s in SHAPES.items()}


def charged(ledger: Ledger, asked: RoundPlan) -> int:
    return ledger.plan(
        run=asked.run,
        number=asked.number,
        what="training",
        event=GaussianEvent(q=0.2, sigma=8.0, steps=1),
        clip=1.0,
        plan_digest=asked.digest(),
    )


def let_out(site: Site, asked: RoundPlan, delta: Adapter) -> Adapter:
    """Seal a round, and return what was sent."""
    ledger = site.open_ledger()
    planned = charged(ledger, asked)
    return release_update(site, ledger, asked, planned, delta).delta


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return write_site(tmp_path)


def left_over(site: Site, asked: RoundPlan) -> dict[str, Array]:
    return carried(site, site.open_ledger(), asked)


@pytest.mark.parametrize("wire", ["int8", "float16"])
def test_what_a_round_leaves_over_goes_into_the_next(site: Site, wire: str) -> None:
    sent = [let_out(site, plan(n, wire), noised(n)) for n in (1, 2, 3)]

    wanted: list[Adapter] = []
    left: Adapter = NOTHING
    for number in (1, 2, 3):
        one, left = feed_back(noised(number), left, wire)
        wanted.append(one)
    assert [*map(digest, sent)] == [*map(digest, wanted)]
    assert digest(left_over(site, plan(4, wire))) == digest(left)
    assert norm(left) > 0


def test_float32_leaves_nothing_over_and_writes_nothing(site: Site) -> None:
    for number in (1, 2):
        sent = let_out(site, plan(number, "float32"), noised(number))

        assert digest(sent) == digest(noised(number))
    assert not [*site.folder.glob("runs/*/residual*")]


def test_a_round_that_was_never_sealed_leaves_nothing_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The site died after it kept the residual, and before the update was sealed."""
    let_out(site, plan(1), noised(1))
    after_one = left_over(site, plan(2))

    def full(*_: object, **__: object) -> None:
        raise LedgerBroken("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "sealed", full)
        with pytest.raises(LedgerBroken):
            let_out(site, plan(2), noised(2))

    assert site.kept("rehearsal", "residual-0002") is not None
    assert digest(left_over(site, plan(2))) == digest(after_one)  # tried again
    assert digest(left_over(site, plan(3))) == digest(after_one)  # given up


def test_a_round_that_is_tried_again_applies_the_residual_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_out(site, plan(1), noised(1))
    left = left_over(site, plan(2))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "sealed", die)
        with pytest.raises(KeyboardInterrupt):
            let_out(site, plan(2), noised(7))
    sent = let_out(site, plan(2), noised(2))

    wanted, rest = feed_back(noised(2), left, "int8")
    assert digest(sent) == digest(wanted)
    assert digest(left_over(site, plan(3))) == digest(rest)


def test_rounds_that_the_site_missed_change_nothing(site: Site) -> None:
    let_out(site, plan(1), noised(1))

    assert digest(left_over(site, plan(9))) == digest(left_over(site, plan(2)))


def test_nothing_is_carried_from_another_run_or_a_round_to_come(site: Site) -> None:
    let_out(site, plan(5), noised(5))

    assert left_over(site, replace(plan(6), run="other")) == {}
    assert left_over(site, plan(4)) == {}
    assert left_over(site, plan(5)) == {}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"a.lora_B.weight": np.zeros((3, 2), np.float32)},
        {n: np.full(s, np.nan, np.float32) for n, s in SHAPES.items()},
        {n: np.zeros((9, *s), np.float32) for n, s in SHAPES.items()},
    ],
    ids=["a tensor is missing", "no numbers", "another adapter"],
)
def test_a_residual_that_does_not_fit_counts_as_none(
    site: Site, spoilt: Adapter
) -> None:
    let_out(site, plan(1), noised(1))
    keep_residual(site, plan(1), spoilt)

    assert left_over(site, plan(2)) == {}


def test_a_residual_that_cannot_be_read_counts_as_none(site: Site) -> None:
    let_out(site, plan(1), noised(1))
    site.keep_bytes("rehearsal", "residual-0001", b"torn")

    assert left_over(site, plan(2)) == {}


def test_a_site_that_leaves_erases_what_was_left_over(site: Site) -> None:
    let_out(site, plan(1), noised(1))
    assert [*site.folder.glob("runs/*/residual*")]

    erase(site)

    assert not [*site.folder.rglob("residual*")]


@given(
    changes=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5),
    wire=st.sampled_from(["float32", "float16", "int8"]),
)
def test_what_leaves_is_a_function_of_noised_changes_and_public_values_alone(
    changes: list[int], wire: str
) -> None:
    """So packing costs no budget: it sees nothing that was not noised before.

    The door is given nothing else: whose users they are, and how many, is not asked.
    """
    sent: list[list[bytes]] = []
    for _ in ("one site", "another, of other users"):
        left, out = NOTHING, list[bytes]()
        for number, seed in enumerate(changes, start=1):
            update, left = seal(
                noised(seed), plan(number, wire), left, site="a", ledger_head="f"
            )
            out.append(update_bytes(update))
        sent.append(out)

    assert sent[0] == sent[1]


def test_sites_of_other_users_pack_equal_noised_changes_into_equal_bytes(
    tmp_path: Path,
) -> None:
    few = write_site(tmp_path / "few", people=5)
    many = write_site(tmp_path / "many", people=20, users=500)

    for number in (1, 2, 3):
        one, other = (let_out(s, plan(number), noised(number)) for s in (few, many))
        assert pack(one, "int8").same(pack(other, "int8"))


def test_a_change_beyond_what_steps_reach_is_refused_whatever_it_is_packed_as() -> None:
    asked = plan(1)
    longest = reach(asked.recipe.learning_rate, asked.mechanism.steps, 10)
    delta = {n: np.full(s, longest / 3, np.float32) for n, s in SHAPES.items()}

    with pytest.raises(EgressRefused, match="what its steps can reach"):
        seal(delta, asked, site="a", ledger_head="f")


def test_what_leaves_is_held_against_the_max_norm_as_it_leaves() -> None:
    """What was left over counts: the server would refuse a longer one."""
    delta, left = noised(1), noised(2)
    together = norm(feed_back(delta, left, "int8")[0])
    fits = replace(plan(1), max_norm=together)

    seal(delta, fits, left, site="a", ledger_head="f")
    with pytest.raises(EgressRefused, match="the plan's max-norm"):
        seal(
            delta,
            replace(fits, max_norm=together * 0.999),
            left,
            site="a",
            ledger_head="f",
        )


def test_a_tensor_that_packing_makes_zero_does_not_leave() -> None:
    delta = noised(1) | {"b.lora_B.weight": np.full(4, 1e-38, np.float32)}

    with pytest.raises(EgressRefused, match=r"b\.lora_B\.weight'\] did not change"):
        seal(delta, plan(1), site="a", ledger_head="f")


def test_a_value_that_the_form_cannot_hold_does_not_leave() -> None:
    asked = replace(
        plan(1, "float16"),
        max_norm=1e9,
        recipe=replace(plan(1).recipe, learning_rate=1e3),
    )
    delta = noised(1) | {"b.lora_B.weight": np.full(4, 70_000, np.float32)}

    with pytest.raises(EgressRefused, match="65504"):
        seal(delta, asked, site="a", ledger_head="f")
