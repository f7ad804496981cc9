"""The one-shot releases, popularity and co-occurrence, against what is said of them.

They are asked for as a site asks for them: with and without each user under the same
seeded noise, so that what differs is what that user adds before the noise; and of
nobody under the system's own noise, so that noise is all there is. No real user's data
is read (PRIVACY.md 7.5).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from client import cooccurrence, prior
from client.examples import UserExample
from client.noise import insecure_streams, secret_streams
from client.sampler import Uniform
from shared.protocol import Array
from simulations.audit.finding import Finding

Floats = npt.NDArray[np.float64]
Release = Callable[[Sequence[UserExample], Uniform], Array]

CHANCE = 1e-6  # of a false alarm, per finding of noise
SLACK = 1e-4  # float32 rounding of what is released, of all its numbers together
ITEMS, LOOKED_AT = 72, 16  # of a popularity, of a co-occurrence
SITES = 24  # random sites, from which each user is taken in turn
SIGMA = 2.0
REPEATS = 64  # releases of nobody


@dataclass(frozen=True, slots=True)
class Crowd:
    """Users of a site, and the popularity that it released before."""

    users: Sequence[UserExample]
    popularity: Array


def releases(_: Path) -> list[Finding]:
    """Return what single users change, what the noise is, and what is looked at."""
    crowds = [_crowd(number) for number in range(SITES)]
    return [
        _unit("popularity", ((crowd, _popularity) for crowd in crowds)),
        _unit("cooccurrence", ((crowd, _cooccurrence(crowd)) for crowd in crowds)),
        _noise("popularity", _repeated(_popularity)),
        _noise("cooccurrence", _repeated(_cooccurrence(crowds[0]))),
        _looked_at(crowds),
    ]


def _crowd(number: int) -> Crowd:
    """Return random users of every kind that could count for more than one, or none.

    Every other site's popularity is all but one item's: who does not like that one is
    as far from the average user as can be.
    """
    rng = np.random.default_rng([2026, number])
    likes = [
        rng.permutation(ITEMS)[: rng.integers(24, ITEMS)],  # long
        rng.permutation(ITEMS)[: rng.integers(2, 6)],  # short
        rng.integers(0, ITEMS, 1),
        rng.integers(0, 5, 40),  # the same few again and again
        np.full(30, rng.integers(ITEMS)),
        np.zeros(0, np.int64),
        *(rng.integers(0, ITEMS, rng.integers(0, 60)) for _ in range(number % 4)),
    ]
    users = [UserExample(n, each) for n, each in enumerate(likes)]
    noise = insecure_streams(number).noise
    popularity = prior.release_popularity(users, ITEMS, SIGMA, noise)
    if number % 2:
        popularity[rng.integers(ITEMS)] = 1e4
    return Crowd(users, popularity)


def _popularity(users: Sequence[UserExample], noise: Uniform) -> Array:
    return prior.release_popularity(users, ITEMS, SIGMA, noise)


def _cooccurrence(crowd: Crowd) -> Release:
    """Return the release of a site's matrix after that of its popularity."""

    def release(users: Sequence[UserExample], noise: Uniform) -> Array:
        return cooccurrence.release_cooccurrence(
            users, crowd.popularity, LOOKED_AT, SIGMA, noise
        ).gram

    return release


def _as_vector(released: Array) -> Floats:
    """Return the numbers that noise is added to.

    Of a symmetric matrix that is the upper triangle, with what is off the diagonal
    times the root of 2; where it is not symmetric, none is a number.
    """
    if released.ndim == 1:
        return released.astype(np.float64)
    rows, columns = np.triu_indices(len(released))
    if not np.array_equal(released, released.T):
        return np.full(len(rows), np.nan)
    weight = np.where(rows == columns, 1.0, np.sqrt(2.0))
    return np.asarray(released[rows, columns] * weight)


def _unit(name: str, asked: Iterable[tuple[Crowd, Release]]) -> Finding:
    """Take each user from each site; the noise is the same with them and without."""
    reached, idle = list[float](), list[float]()
    for crowd, release in asked:
        together = _as_vector(release(crowd.users, insecure_streams(1).noise))
        for user in crowd.users:
            others = [other for other in crowd.users if other is not user]
            without = _as_vector(release(others, insecure_streams(1).noise))
            moved = float(np.linalg.norm(together - without))
            (reached if len(user.likes) else idle).append(moved)
    most, least = float(np.max(reached)), float(np.max(idle))
    return Finding(
        audit=f"releases.{name}",
        holds=0.99 <= most <= 1 + SLACK and least <= SLACK,
        says=f"one user moves the sum before noise by at most {most:.6f} in L2, one "
        f"without likes by {least:.1e}; {len(reached) + len(idle)} removals",
        figures={
            "removals": len(reached) + len(idle),
            "most": _figure(most),
            "idle": _figure(least),
        },
    )


def _repeated(release: Release) -> Floats:
    """Return releases of nobody, [REPEATS, d], in units of sigma."""
    streams = [secret_streams().noise for _ in range(REPEATS)]
    return np.stack([_as_vector(release([], noise)) for noise in streams]) / SIGMA


def _noise(name: str, z: Floats) -> Finding:
    """Test that all numbers [n, d] are standard normal, each of them and together."""
    count, numbers = z.shape
    least = 3 * min(  # three tests
        numbers * _of_squares(np.square(z).sum(axis=0), count),
        _of_squares(np.square(z).sum(), z.size),
        _of_squares(np.square(z.sum(axis=1)).sum() / numbers, count),  # as independent
    )
    chance = float(np.minimum(1.0, least))
    deviations = np.sqrt(np.mean(np.square(z), axis=0))
    different = len({row.tobytes() for row in z})
    return Finding(
        audit=f"releases.noise of {name}",
        holds=chance >= CHANCE and different == count,
        says=f"deviation {np.sqrt(np.mean(np.square(z))):.3f} of the stated one over "
        f"{numbers} numbers, {deviations.min():.2f} to {deviations.max():.2f} in each; "
        f"{different} of {count} draws differ",
        figures={
            "numbers": numbers,
            "chance": _figure(chance),
            "different": different,
        },
    )


def _of_squares(total: npt.ArrayLike, count: int) -> float:
    """Return the least chance of sums of ``count`` squared normals so far out."""
    tails = chi2.cdf(total, count), chi2.sf(total, count)
    return float(2 * np.min(tails))


def _figure(value: float) -> float | None:
    """Return a number that JSON knows, or nothing."""
    return value if math.isfinite(value) else None


def _looked_at(crowds: Sequence[Crowd]) -> Finding:
    """Ask of each site's popularity with the users of the next one, and with nobody."""
    others = [crowds[-1], *crowds[:-1]]
    wrong = 0
    for crowd, other in zip(crowds, others, strict=True):
        most_popular = np.argsort(-crowd.popularity, kind="stable")[:LOOKED_AT]
        for users in (crowd.users, other.users, []):
            released = cooccurrence.release_cooccurrence(
                users, crowd.popularity, LOOKED_AT, SIGMA, secret_streams().noise
            )
            wrong += not np.array_equal(released.items, most_popular)
    return Finding(
        audit="releases.looked at",
        holds=not wrong,
        says=f"{wrong} of {3 * len(crowds)} co-occurrences are about other items than "
        "those that the released popularity puts first, whoever the users are",
        figures={"releases": 3 * len(crowds), "wrong": wrong},
    )
