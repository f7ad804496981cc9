"""The releases of the real code pass, and each bug that is planted in them is named."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import cooccurrence, prior
from client.cooccurrence import Cooccurrence, release_cooccurrence
from client.examples import UserExample
from client.noise import insecure_streams, normal
from client.prior import release_popularity
from client.sampler import Uniform
from shared.protocol import Array
from simulations.audit import releases as audit

Bug = Callable[[pytest.MonkeyPatch], None]
Users = Sequence[UserExample]
NOWHERE = Path()  # it keeps nothing


def failed() -> set[str]:
    return {found.audit for found in audit.releases(NOWHERE) if not found.holds}


def votes_not_scaled(patch: pytest.MonkeyPatch) -> None:
    def release(users: Users, items: int, sigma: float, noise: Uniform) -> Array:
        votes = release_popularity([], items, sigma, noise)
        for user in users:
            votes[np.unique(user.likes)] += 1
        return votes

    patch.setattr(prior, "release_popularity", release)


def repeated_likes_counted(patch: pytest.MonkeyPatch) -> None:
    def release(users: Users, items: int, sigma: float, noise: Uniform) -> Array:
        votes = release_popularity([], items, sigma, noise)
        for user in users:
            root = np.sqrt(max(1, len(np.unique(user.likes))))
            np.add.at(votes, user.likes, 1 / root)
        return votes

    patch.setattr(prior, "release_popularity", release)


def votes_left_out(patch: pytest.MonkeyPatch) -> None:
    """It harms nobody, but an audit that sees no user move anything has seen none."""

    def release(_: Users, items: int, sigma: float, noise: Uniform) -> Array:
        return release_popularity([], items, sigma, noise)

    patch.setattr(prior, "release_popularity", release)


def popularity_noise_halved(patch: pytest.MonkeyPatch) -> None:
    def release(users: Users, items: int, sigma: float, noise: Uniform) -> Array:
        return release_popularity(users, items, sigma / 2, noise)

    patch.setattr(prior, "release_popularity", release)


def users_not_scaled(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cooccurrence, "_tilts", raw_tilts)


def raw_tilts(
    users: Users, place: npt.NDArray[np.int64], usual: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    shares = np.zeros((len(users), len(usual) + 1))
    for row, user in enumerate(users):
        shares[row, place[user.likes]] = 1.0
    return shares[:, :-1]


def items_from_raw_counts(patch: pytest.MonkeyPatch) -> None:
    def release(
        users: Users, popularity: Array, count: int, sigma: float, noise: Uniform
    ) -> Cooccurrence:
        raw = np.zeros(len(popularity), np.float32)
        for user in users:
            raw[user.likes] += 1
        return release_cooccurrence(users, raw, count, sigma, noise)

    patch.setattr(cooccurrence, "release_cooccurrence", release)


MATRICES: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "on the diagonal alone": lambda z: np.diag(np.diag(z)),
    "beside it alone": lambda z: z - np.diag(np.diag(z)),
    "halved": lambda z: z / 2,
    "of one deviation everywhere": lambda z: z * np.where(np.eye(len(z)), 1, 2**0.5),
    "on one side": np.triu,
    "the same in all": lambda z: 0 * z + z[0, 0],
}
PLANTED: list[tuple[Bug, str]] = [
    (votes_not_scaled, "releases.popularity"),
    (repeated_likes_counted, "releases.popularity"),
    (votes_left_out, "releases.popularity"),
    (popularity_noise_halved, "releases.noise of popularity"),
    (users_not_scaled, "releases.cooccurrence"),
    (items_from_raw_counts, "releases.looked at"),
]


def test_the_real_releases_pass_and_what_they_passed_was_no_empty_test() -> None:
    found = {finding.audit: finding for finding in audit.releases(NOWHERE)}

    assert [name for name, finding in found.items() if not finding.holds] == []
    assert len(found) == 5
    assert found["releases.popularity"].figures["removals"] == 180
    assert found["releases.noise of cooccurrence"].figures["numbers"] == 136


@pytest.mark.parametrize(("bug", "name"), PLANTED)
def test_a_planted_bug_is_named(
    monkeypatch: pytest.MonkeyPatch, bug: Bug, name: str
) -> None:
    monkeypatch.setattr(audit, "SITES", 4)
    bug(monkeypatch)

    assert name in failed()


@pytest.mark.parametrize("change", MATRICES.values(), ids=MATRICES.keys())
def test_noise_of_a_matrix_that_is_not_as_stated_is_named(
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
) -> None:
    real, crowd = cooccurrence._symmetric, audit._crowd(0)
    monkeypatch.setattr(cooccurrence, "_symmetric", lambda *given: change(real(*given)))

    assert not audit._noise("it", audit._repeated(audit._cooccurrence(crowd))).holds


def test_noise_that_comes_again_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "secret_streams", lambda: insecure_streams(1))

    assert not audit._noise("it", audit._repeated(audit._popularity)).holds


@given(seed=st.integers(0, 2**32 - 1), numbers=st.integers(4, 40))
def test_noise_of_the_stated_size_passes_and_half_of_it_does_not(
    seed: int, numbers: int
) -> None:
    drawn = normal(audit.REPEATS * numbers, insecure_streams(seed).noise)
    z = drawn.reshape(audit.REPEATS, numbers).astype(np.float64)

    assert audit._noise("it", z).holds
    assert not audit._noise("it", z * 0.5).holds
    assert not audit._noise("it", np.where(np.arange(numbers) == 0, 0.0, z)).holds
