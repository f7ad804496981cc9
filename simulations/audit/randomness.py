"""Noise and coins as a real round uses them, against what the accountant assumes.

Nothing is taken from what the code says of itself: noise is what the optimiser is
handed when all gradients are zero, and who takes part is read off whose gradient is
not. Each finding is a test whose chance of a false alarm is at most ``CHANCE``, however
many parts it has (Bonferroni). No real user's data is read (PRIVACY.md 7.5).
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import beta, binom, chi2, kurtosistest, norm

from client import noise as source
from client import sampler, train
from client.examples import UserExample
from client.model import HybridModel
from client.noise import SecretStreams
from shared.protocol import Mechanism, Recipe
from simulations.audit.finding import Finding
from simulations.audit.neighbours import trained
from simulations.audit.observe import Step, observed_steps
from simulations.audit.subject import make_model, make_users

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CHANCE = 1e-8  # of a false alarm, per finding
KEY = (7, 1)  # the same in every round and at every site: noise must not depend on it
DECLARED = 10  # public number of users; never how many there are
PIECE = 128  # values in one piece of noise; what B and biases hold, factors 8 times it
NOISY = Mechanism(q=0.5, sigma=1.3, clip=0.7, steps=40)
SILENT = Mechanism(q=0.2, sigma=1.0, clip=1.0, steps=500)
TRAINING = 40  # users whose part in the steps of a round is observed
SITE, DRAWS = 1000, 2000  # users and steps of the sampler on its own
FEW, MANY = 5, 20_000  # users so few that steps are often empty, and steps


def noise(cache: Path) -> list[Finding]:
    """Return what the noise of two rounds at each of two sites shows.

    The few users have no likes, so their gradients are zero, and some steps are empty.

    Args:
        cache: Folder of the activations.
    """
    recipe = Recipe(factors=8)
    sites = [make_model(cache, items=PIECE, recipe=recipe) for _ in range(2)]
    users = make_users(4, items=PIECE, likes=0, rng=np.random.default_rng(0))
    steps = [
        step
        for model in sites
        for _ in range(2)
        for step in _steps(model, users, NOISY, source.secret_streams())
    ]
    wanted = [tensor.shape for tensor in trained(sites[0])]
    whole = sum(_noised(step) == wanted for step in steps)
    expected = 4 * NOISY.steps
    every = Finding(
        audit="noise.steps",
        holds=whole == len(steps) == expected,
        says=f"{whole} of {expected} steps hand noise for all {len(wanted)} tensors",
        figures={"steps": len(steps), "whole": whole, "expected": expected},
    )
    if not every.holds:
        return [every]
    scale = NOISY.sigma * NOISY.clip / (NOISY.q * DECLARED)
    z = np.stack([step.joined().double().numpy() for step in steps]) / scale
    ends = np.cumsum([shape.numel() for shape in wanted])
    tensors = np.split(z, ends[:-1], axis=1)
    return [
        every,
        _scale(tensors),
        _shape(tensors),
        _independent(z),
        _charged(z),
        _fresh("noise.fresh", lambda: source.normal(64, source.secret_streams().noise)),
    ]


def sampling(cache: Path) -> list[Finding]:
    """Return what the coins show, on their own and through the steps of a round.

    Args:
        cache: Folder of the activations.
    """
    return [
        _coins("sampling.training", _took_part(cache), SILENT.q),
        _coins("sampling.draw", _drawn(SITE, DRAWS), SILENT.q),
        _empty(),
        _fresh("sampling.fresh", lambda: _drawn(SITE, 1)),
    ]


def _steps(
    model: HybridModel,
    users: list[UserExample],
    mechanism: Mechanism,
    streams: SecretStreams,
) -> list[Step]:
    """Train a round and return its steps; with a crash they end."""
    with observed_steps() as seen, suppress(Exception):
        train.train_round(
            model, users, mechanism, users=DECLARED, streams=streams, key=KEY
        )
    return seen


def _noised(step: Step) -> list[torch.Size]:
    """Return the shapes of the gradients that hold any noise, and numbers alone."""
    return [g.shape for g in step.gradients if g.any() and g.isfinite().all()]


def _scale(tensors: list[Floats]) -> Finding:
    """Test the deviation, per tensor and per piece: no step may leave a tensor out."""
    pieces = _pieces(np.concatenate(tensors, axis=1))
    squares = np.array([np.square(z).sum() for z in tensors])
    sizes = np.array([z.size for z in tensors])
    chance = _worst(
        _of_squares(squares, sizes),
        _of_squares(np.square(pieces).sum(axis=1), PIECE),
    )
    deviations = np.sqrt(squares / sizes)
    least = float(np.sqrt(np.square(pieces).mean(axis=1)).min())
    return Finding(
        audit="noise.scale",
        holds=chance >= CHANCE,
        says=f"deviation per tensor {_listed(deviations)}, at least {least:.2f} in each"
        f" of {len(pieces)} pieces, in units of sigma x clip",
        figures={
            "deviations": deviations.tolist(),
            "sizes": sizes.tolist(),
            "least_of_a_piece": least,
            "chance": chance,
        },
    )


def _shape(tensors: list[Floats]) -> Finding:
    """Test mean and excess kurtosis (Anscombe and Glynn 1983), per tensor."""
    means = np.array([z.mean() for z in tensors])
    sizes = np.array([z.size for z in tensors])
    tests = [kurtosistest(z, axis=None) for z in tensors]
    chance = _worst(
        2 * norm.sf(np.abs(means) * np.sqrt(sizes)),
        np.array([test.pvalue for test in tests]),
    )
    peaks = np.array([_excess(z) for z in tensors])
    return Finding(
        audit="noise.shape",
        holds=chance >= CHANCE,
        says=f"per tensor mean {_listed(means)} and excess kurtosis {_listed(peaks)}",
        figures={
            "means": means.tolist(),
            "excess_kurtosis": peaks.tolist(),
            "chance": chance,
        },
    )


def _independent(z: Floats) -> Finding:
    """Test all pairs of pieces, over tensors, steps, rounds and sites; and neighbours.

    The squared cosine of two independent pieces is Beta(1/2, (n - 1) / 2).
    """
    pieces = _pieces(z)
    lengths = np.maximum(np.linalg.norm(pieces, axis=1, keepdims=True), 1e-9)
    cosines = np.triu(np.abs((pieces / lengths) @ (pieces / lengths).T), 1)
    pairs, closest = len(pieces) * (len(pieces) - 1) // 2, float(cosines.max())
    left, right = z[:, :-1], z[:, 1:]
    alike = (left * right).sum() / np.sqrt(
        np.square(left).sum() * np.square(right).sum()
    )
    beside = float(alike * np.sqrt(left.size))
    chance = _worst(
        np.array([pairs * beta.sf(closest**2, 0.5, (PIECE - 1) / 2)]),
        np.array([2 * norm.sf(abs(beside))]),
    )
    return Finding(
        audit="noise.independent",
        holds=chance >= CHANCE,
        says=f"the closest of {pairs} pairs of pieces correlate by {closest:.3f}; "
        f"neighbours are {beside:.2f} standard errors from uncorrelated",
        figures={
            "pairs": pairs,
            "closest": closest,
            "neighbours_in_errors": beside,
            "chance": chance,
        },
    )


def _charged(z: Floats) -> Finding:
    """Estimate sigma, and ask whether the one that is charged can be it."""
    total, count, sigma = float(np.square(z).sum()), z.size, NOISY.sigma
    seen = sigma * np.sqrt(total / count)
    low, high = (
        sigma * float(np.sqrt(total / chi2.isf(tail, count)))
        for tail in (CHANCE / 2, 1 - CHANCE / 2)
    )
    return Finding(
        audit="noise.charged",
        holds=low <= sigma <= high,
        says=f"sigma {sigma} is charged; {seen:.4f} is seen, surely in [{low:.4f}, "
        f"{high:.4f}]",
        figures={
            "charged": sigma,
            "seen": float(seen),
            "low": low,
            "high": high,
            "confidence": 1 - CHANCE,
            "values": count,
        },
    )


def _fresh(audit: str, draw: Callable[[], npt.NDArray[np.generic]]) -> Finding:
    """Draw in two copies of this process, alike in every seed and every generator.

    Only the operating system tells the copies apart, so what is not its own repeats.
    """
    fork, drawn = get_context("fork"), set()
    for _ in range(2):
        here, there = fork.Pipe(duplex=False)
        copy = fork.Process(target=_tell, args=(there, draw))
        with warnings.catch_warnings():  # of threads: draws so small start none
            warnings.simplefilter("ignore", DeprecationWarning)
            copy.start()
        there.close()
        with suppress(EOFError):
            drawn.add(here.recv_bytes())
        copy.join()
    return Finding(
        audit=audit,
        holds=len(drawn) == 2,
        says=f"two processes in the same state made {len(drawn)} different draws",
        figures={"different": len(drawn)},
    )


def _tell(parent: Connection, draw: Callable[[], npt.NDArray[np.generic]]) -> None:
    parent.send_bytes(draw().tobytes())


def _took_part(cache: Path) -> Bools:
    """Return who took part in which step of a silent round, [T, U].

    Each user likes two items of their own and, through the prior, all negatives are
    item 0 (or the last, on a rounded edge): a bias has a gradient only if its user was
    drawn. Steps that are missing count as empty.
    """
    items = 2 * TRAINING + 2
    prior = np.zeros(items, np.float32)
    prior[0] = 60.0
    recipe = Recipe(
        learning_rate=1e-12,
        head_learning_rate=1e-12,
        factors=1,
        history=1,
        targets=1,
        negatives=1,
    )
    model = make_model(cache, items=items, recipe=recipe, prior=prior)
    users = [UserExample(n, np.array([2 * n + 1, 2 * n + 2])) for n in range(TRAINING)]
    streams = SecretStreams(source.secret_streams().coins, np.zeros)
    seen = _steps(model, users, SILENT, streams)
    drawn = np.zeros((max(SILENT.steps, len(seen)), TRAINING), np.bool_)
    for step, handed in enumerate(seen):
        biases = handed.gradients[-1].numpy().reshape(-1)
        if len(biases) == items:
            drawn[step] = (biases[1:-1].reshape(TRAINING, 2) != 0).any(axis=1)
    return drawn


def _drawn(users: int, steps: int) -> Bools:
    """Return whom the sampler draws from the secret coins, [T, U]."""
    coins, drawn = source.secret_streams().coins, np.zeros((steps, users), np.bool_)
    for step in range(steps):
        drawn[step, sampler.poisson_draw(users, SILENT.q, coins)] = True
    return drawn


def _coins(audit: str, drawn: Bools, q: float) -> Finding:
    """Test [T, U] draws for one independent coin per user and step."""
    (steps, users), counts, sizes = drawn.shape, drawn.sum(axis=0), drawn.sum(axis=1)
    seen = drawn.astype(np.float32)
    together = (seen.T @ seen)[np.triu_indices(users, 1)]
    extremes = np.array([together.min(), together.max()], np.int64)
    following = [
        drawn[first : steps - 1 : 2] & drawn[first + 1 :: 2] for first in (0, 1)
    ]
    chance = _worst(
        _of_count(counts.sum(keepdims=True), drawn.size, q),
        _of_count(counts, steps, q),
        _spread(counts, steps, q),
        _spread(sizes, users, q),
        _of_count(extremes, steps, q * q) * len(together) / 2,
        np.array([_of_count(f.sum(), f.size, q * q) for f in following]),
    )
    return Finding(
        audit=audit,
        holds=chance >= CHANCE,
        says=f"{steps} steps draw {sizes.mean():.2f} of {users} users with variance "
        f"{sizes.var():.2f} ({users * q:.2f} and {users * q * (1 - q):.2f} are due), "
        f"one {counts.min()} to {counts.max()} times, two together {extremes[0]} to "
        f"{extremes[1]}",
        figures={
            "steps": steps,
            "users": users,
            "size_mean": float(sizes.mean()),
            "size_variance": float(sizes.var()),
            "user_least": int(counts.min()),
            "user_most": int(counts.max()),
            "pair_least": int(extremes[0]),
            "pair_most": int(extremes[1]),
            "chance": chance,
        },
    )


def _empty() -> Finding:
    """Count the steps that draw nobody."""
    share = (1 - SILENT.q) ** FEW
    empty = (~_drawn(FEW, MANY).any(axis=1)).sum()
    chance = float(_of_count(empty, MANY, share))
    return Finding(
        audit="sampling.empty",
        holds=chance >= CHANCE,
        says=f"with {FEW} users {empty / MANY:.2%} of {MANY} steps draw nobody, "
        f"{share:.2%} are due",
        figures={"empty": int(empty), "steps": MANY, "due": share, "chance": chance},
    )


def _spread(counts: Ints, draws: int, q: float) -> Floats:
    """Return the chance of counts so unlike or alike, [1]; each Binomial(draws, q)."""
    unlike = np.square(counts - draws * q).sum(keepdims=True) / (draws * q * (1 - q))
    return _of_squares(unlike, len(counts))


def _of_squares(total: Floats, count: npt.ArrayLike) -> Floats:
    """Return the chance of sums of ``count`` squared normals that lie so far out."""
    tails = chi2.cdf(total, count), chi2.sf(total, count)
    return np.asarray(2 * np.minimum(*tails), np.float64)


def _of_count(found: npt.ArrayLike, draws: int, q: float) -> Floats:
    """Return the chance of binomial counts that lie so far out."""
    tails = binom.cdf(found, draws, q), binom.sf(np.subtract(found, 1), draws, q)
    return np.asarray(2 * np.minimum(*tails), np.float64)


def _worst(*tests: Floats) -> float:
    """Return the chance that in any test any part lies so far out; NaN stays NaN."""
    least = np.min([len(test) * np.min(test) for test in tests])
    return float(np.minimum(1.0, len(tests) * least))


def _pieces(z: Floats) -> Floats:
    """Cut the noise of all steps [n, PIECE]; no piece spans two tensors."""
    return z.reshape(-1, PIECE)


def _excess(z: Floats) -> float:
    """Return the excess kurtosis about 0, of values with deviation 1 if all is well."""
    return float(np.mean(z**4) / np.mean(z**2) ** 2 - 3)


def _listed(values: Floats) -> str:
    return ", ".join(f"{value:.3f}" for value in values)
