"""Copies are found, and honest updates are not taken for anything else."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import server.suspicion
from server.spool import BLOCK
from server.suspicion import Figures
from shared.protocol import AdapterUpdate, Array
from tests.server.spooled import spooled
from tests.standin import a_plan, an_update

SIZES = {"one.lora_B.weight": (16, 8), "two.lora_B.weight": (24, 16)}
SITES = "abcde"
SIZE = sum(rows * columns for rows, columns in SIZES.values())


def update(site: str, flat: Array) -> AdapterUpdate:
    """An update of two tensors."""
    (one, first), (two, second) = SIZES.items()
    cut = first[0] * first[1]
    delta = {one: flat[:cut].reshape(first), two: flat[cut:].reshape(second)}
    return replace(an_update(a_plan(), site), delta=delta)


def noise(seed: int, *, signal: float = 0.0) -> dict[str, Array]:
    """What five sites send; ``signal`` is the cosine that any two of them have."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=SIZE)
    return {
        site: (
            np.sqrt(signal) * common + np.sqrt(1 - signal) * rng.normal(size=SIZE)
        ).astype(np.float32)
        for site in SITES
    }


def updates(sent: dict[str, Array]) -> list[AdapterUpdate]:
    return [update(site, flat) for site, flat in sent.items()]


def copied(
    given_updates: Sequence[AdapterUpdate], block: int = BLOCK, *, noised: bool = True
) -> set[str]:
    with spooled(given_updates, block) as (spool, rows):
        return server.suspicion.copied(spool, rows, noised=noised)


def figures(given_updates: Sequence[AdapterUpdate], block: int = BLOCK) -> Figures:
    with spooled(given_updates, block) as (spool, rows):
        return server.suspicion.figures(spool, rows)


@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(1e-6, 1e6) | st.floats(-1e6, -1e-6),
    blur=st.sampled_from([0.0, 1e-4, 0.05]),
)
def test_a_copy_is_found_whatever_its_length_and_sign_and_both_are_named(
    seed: int, scale: float, blur: float
) -> None:
    sent = noise(seed)
    rng = np.random.default_rng(seed + 1)
    blurred = sent["b"] + blur * rng.normal(size=SIZE)
    sent["d"] = (scale * blurred).astype(np.float32)

    assert copied(updates(sent)) == {"b", "d"}


@given(seed=st.integers(0, 2**32 - 1), signal=st.floats(0, 0.9))
def test_of_honest_updates_none_is_a_copy(seed: int, signal: float) -> None:
    assert copied(updates(noise(seed, signal=signal))) == set()


@given(seed=st.integers(0, 2**32 - 1), signal=st.floats(0.99, 0.999))
def test_large_sites_without_noise_agree_and_are_no_copies(
    seed: int, signal: float
) -> None:
    sent = noise(seed, signal=signal)

    assert copied(updates(sent), noised=False) == set()


@given(seed=st.integers(0, 2**32 - 1), blur=st.sampled_from([0.0, 1e-4, 0.01]))
def test_without_noise_a_copy_is_found_too(seed: int, blur: float) -> None:
    sent = noise(seed, signal=0.99)
    rng = np.random.default_rng(seed + 1)
    sent["d"] = (sent["b"] + blur * rng.normal(size=SIZE)).astype(np.float32)

    assert copied(updates(sent), noised=False) == {"b", "d"}


def test_what_is_all_zeros_is_nobodys_copy() -> None:
    sent = noise(0)
    sent["b"] = sent["d"] = np.zeros(SIZE, np.float32)

    assert copied(updates(sent)) == set()
    assert figures(updates(sent)).cosines["b"] == 0


@pytest.mark.parametrize("few", [0, 1])
def test_fewer_than_two_updates_are_compared_with_nothing(few: int) -> None:
    sent = updates(noise(0))[:few]

    found = figures(sent)

    assert copied(sent) == set()
    assert found.norms.keys() == found.cosines.keys() == {u.site for u in sent}
    assert set(found.cosines.values()) <= {0.0}
    assert found.outliers == {}


def test_lengths_and_directions_are_those_of_all_tensors_together() -> None:
    sent = noise(1, signal=0.3)

    found = figures(updates(sent))

    for site, flat in sent.items():
        others = sum(f / np.linalg.norm(f) for s, f in sent.items() if s != site)
        length = np.linalg.norm(flat) * np.linalg.norm(others)
        assert found.norms[site] == pytest.approx(np.linalg.norm(flat))
        assert found.cosines[site] == pytest.approx(flat @ others / length)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    signal=st.floats(0, 0.9),
    columns=st.integers(1, SIZE),
)
def test_block_by_block_they_are_those_of_whole_updates(
    seed: int, signal: float, columns: int
) -> None:
    sent = noise(seed, signal=signal)
    sent["b"] = -sent["b"]
    sent["e"] = 3 * sent["d"]
    block = len(SITES) * columns

    found, whole = figures(updates(sent), block), figures(updates(sent))

    assert found.norms == whole.norms
    assert found.cosines == pytest.approx(whole.cosines, rel=1e-12, abs=1e-12)
    assert found.outliers == whole.outliers
    assert copied(updates(sent), block) == {"d", "e"}


@given(seed=st.integers(0, 2**32 - 1), signal=st.floats(0, 0.9))
def test_no_honest_site_stands_out(seed: int, signal: float) -> None:
    assert figures(updates(noise(seed, signal=signal))).outliers == {}


@pytest.mark.parametrize("factor", [0.4, 3.0, 1000.0, 0.0])
def test_a_site_of_another_length_stands_out_alone(factor: float) -> None:
    sent = noise(2)
    sent["c"] = sent["c"] * np.float32(factor)

    assert figures(updates(sent)).outliers == {"c": "norm"}


def test_a_turned_update_stands_out_where_sites_agree_more_than_noise() -> None:
    sent = noise(3, signal=0.5)
    sent["c"] = -sent["c"]

    found = figures(updates(sent))

    assert found.outliers == {"c": "cosine"}
    assert found.cosines["c"] < -0.4


def test_a_turned_update_cannot_be_told_where_noise_hides_all_agreement() -> None:
    """So it is under any budget that protects: this is a limit, not a wish."""
    for seed in range(50):
        sent = noise(seed, signal=0.001)
        sent["c"] = -sent["c"]

        assert figures(updates(sent)).outliers == {}


def test_a_turned_update_that_is_long_turns_no_honest_site_into_an_outlier() -> None:
    sent = noise(4, signal=0.5)
    sent["c"] = -1000 * sent["c"]

    assert figures(updates(sent)).outliers == {"c": "norm"}


def test_of_two_sites_none_stands_out() -> None:
    first, second = updates(noise(5))[:2]
    turned = replace(first, site="x", delta={n: -9 * a for n, a in first.delta.items()})

    assert figures([first, turned]).outliers == {}
    assert figures([first, second]).outliers == {}


def test_noise_alone_is_called_opposed_no_more_often_than_is_promised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a promise that can be counted, and with values of very different sizes."""
    monkeypatch.setattr(server.suspicion, "FALSE_ALARM", 0.05)
    rng, alarms, rounds = np.random.default_rng(0), 0, 1000
    sizes = rng.lognormal(sigma=2, size=SIZE)
    for _ in range(rounds):
        signs = rng.choice([-1, 1], size=(len(SITES), SIZE))
        sent = zip(SITES, (signs * sizes).astype(np.float32), strict=True)
        alarms += len(figures([update(site, flat) for site, flat in sent]).outliers)

    assert 0 < alarms <= 0.05 * rounds * len(SITES)
