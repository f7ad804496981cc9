"""The one-run audit: does the real training code give what its noise claims?

Canaries take the place of users in a run of their own, each in it or not by a coin of
the auditor's, who then guesses from the noised gradients alone. The training code runs
unchanged; only the loss is a canary's. A run with anyone's data in it is not audited:
canaries are not users, and they cost accuracy (PRIVACY 7.2).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from client.examples import Batch, Ints, UserExample
from client.model import HybridModel
from client.noise import SecretStreams, system_uniform
from client.sampler import Uniform
from client.train import train_round
from shared.accounting import GaussianEvent, noise_for
from shared.accounting import epsilon as epsilon_of
from shared.errors import ConfigError
from shared.protocol import Mechanism, Recipe
from simulations.audit.bounds import (
    Guesses,
    fdp_epsilon,
    s23_epsilon,
    s23_p_value,
)
from simulations.audit.finding import Finding
from simulations.audit.observe import observed_steps
from simulations.audit.subject import make_model

ITEMS = 144  # the smallest catalogue that is generated
ROWS = 3  # rows of one canary, K: a clip of rows instead of users would let 3 C through
LENGTH = 10.0  # of each row's gradient before the clip, in clipping norms
CLIP = 1.0
LEAST_VARIANCE = 1e-12  # where all scores of a tensor are equal
KEY = (0, 1)  # public; names the round

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class CanaryModel(HybridModel):
    """The real model, with the loss of canaries in place of that of users.

    Guarantee: each of a canary's ``ROWS`` rows has the gradient ``LENGTH * CLIP`` in
    one coordinate and 0 elsewhere, whatever the parameters are, and no two canaries
    share a coordinate. So a step that is right adds ``CLIP`` there, and nothing else.

    A canary is known by its only like, which is its number here and not an item. The
    coordinates lie evenly over all that is trained: B, factors and biases each carry
    canaries, whose gradients pass the hooks of that module.

    Attributes:
        places: Each canary's coordinate [m] in all trained tensors, joined in order.
        tensors: The number of the tensor [m] in which it lies.
    """

    def __init__(self, subject: HybridModel, canaries: int) -> None:
        """Take over every part of ``subject``; none is copied."""
        vars(self).update(vars(subject))
        sizes = [p.numel() for p in self.trained.parameters()]
        room = sum(sizes)
        if canaries > room:
            raise ConfigError(
                f"{canaries=} is over the {room} trained scalars, one for each canary; "
                "give fewer canaries or a wider head"
            )
        self.places = torch.arange(canaries) * room // canaries
        self.tensors = np.repeat(np.arange(len(sizes)), sizes)[self.places.numpy()]

    def losses(self, batch: Batch, catalogue: Tensor, *, shared_rows: bool) -> Tensor:
        """Return one term per canary, [U]: its own scalar, once in each of its rows."""
        del catalogue, shared_rows
        numbers = torch.from_numpy(batch.items[:, self.recipe.history])
        places = self.places[numbers].repeat_interleave(ROWS)
        total = torch.zeros(len(places))
        for module in self.trained:
            total = total + _entries(module, places)
            places = places - module.get_parameter("weight").numel()
        return LENGTH * CLIP * total.view(-1, ROWS).sum(1)


def _entries(module: nn.Module, places: Tensor) -> Tensor:
    """Return the entries of a module's weight at ``places`` [n]; 0 where outside.

    They are read through the module itself, so that Opacus' hooks see n rows.
    """
    weight = module.get_parameter("weight")
    inside = (places >= 0) & (places < weight.numel())
    where = torch.where(inside, places, 0)
    row, column = where // weight.shape[1], where % weight.shape[1]
    if isinstance(module, nn.Embedding):
        read = module(row).gather(1, column.unsqueeze(1))
    else:
        ones = one_hot(column, weight.shape[1]).to(weight.dtype)
        read = module(ones).gather(1, row.unsqueeze(1))
    entries: Tensor = read.squeeze(1) * inside
    return entries


@dataclass(frozen=True, slots=True, kw_only=True)
class OneRun:
    """What one audited run was, and what its guesses prove.

    Attributes:
        claimed: Epsilon that the accountant gives for the steps that were observed.
        delta: Its delta, and that of the bounds.
        beta: Chance that a bound is wrong, for each of the two.
        sigma, q, steps: The mechanism; steps as the optimiser took them.
        canaries, included: Canaries, and how many the coins put into the run.
        guesses, correct: Guesses made, and how many were right.
        s23, fdp: Lower bounds on epsilon (``simulations/audit/bounds.py``).
        s23_ceiling, fdp_ceiling: What they would be, had all guesses been right.
        p_value: Greatest chance of so many right guesses if the claim is true (S23).
        scores_in, scores_out: The sums of noised gradients in the direction of each
            canary that was in and of each that was not, in clipping norms.
    """

    claimed: float
    delta: float
    beta: float
    sigma: float
    q: float
    steps: int
    canaries: int
    included: int
    guesses: int
    correct: int
    s23: float
    fdp: float
    s23_ceiling: float
    fdp_ceiling: float
    p_value: float
    scores_in: tuple[float, ...]
    scores_out: tuple[float, ...]


def one_run(  # noqa: PLR0913  # one parameter for each public choice of the audit
    cache: Path,
    *,
    epsilon: float = 3.0,
    delta: float = 1e-5,
    canaries: int = 1000,
    guesses: int | None = None,
    q: float = 0.2,
    steps: int = 100,
    beta: float = 0.05,
    uniform: Uniform = system_uniform,
) -> OneRun:
    """Train on canaries with the noise that ``epsilon`` needs, and guess who was in.

    Args:
        cache: Folder of the activations.
        epsilon: What the noise has to give; the least sigma that does is used.
        delta: Delta of the claim and of the bounds.
        canaries: Number of canaries, m; also the public divisor.
        guesses: Number of guesses, r, even; by default a tenth of the canaries.
        q: Probability that a canary which is in is drawn in a step.
        steps: Steps of the run.
        beta: Chance that a bound is wrong.
        uniform: Source of the auditor's coins and of the run's coins and noise; with
            any but the operating system's the figures are a rehearsal.

    Raises:
        ConfigError: If a value is out of range.
    """
    made = 2 * (canaries // 20) if guesses is None else guesses
    if made < 2 or made % 2:
        raise ConfigError(
            f"guesses={made}: half of them say in and half say out; give an even "
            "number of at least 2"
        )
    best = Guesses(canaries=canaries, made=made, right=made)
    ceilings = s23_epsilon(best, delta, beta), fdp_epsilon(best, delta, beta)
    sigma = noise_for(epsilon, delta, q=q, steps=steps)
    included = uniform(canaries) < 0.5
    mechanism = Mechanism(q=q, sigma=sigma, clip=CLIP, steps=steps)
    model = make_canaries(cache, canaries)
    scores, taken = noised_scores(model, included, mechanism, uniform)
    told = evidence(scores, model.tensors, q * taken)
    correct = right_guesses(told, included, made)
    judged = Guesses(canaries=canaries, made=made, right=correct)
    claimed = epsilon_of([GaussianEvent(q=q, sigma=sigma, steps=taken)], delta)
    return OneRun(
        claimed=claimed,
        delta=delta,
        beta=beta,
        sigma=sigma,
        q=q,
        steps=taken,
        canaries=canaries,
        included=int(included.sum()),
        guesses=made,
        correct=correct,
        s23=s23_epsilon(judged, delta, beta),
        fdp=fdp_epsilon(judged, delta, beta),
        s23_ceiling=ceilings[0],
        fdp_ceiling=ceilings[1],
        p_value=s23_p_value(judged, claimed, delta),
        scores_in=tuple(scores[included].tolist()),
        scores_out=tuple(scores[~included].tolist()),
    )


def make_canaries(cache: Path, canaries: int) -> CanaryModel:
    """Return a model with a coordinate for each canary, and hardly more in its head."""
    factors = max(1, (canaries - 1) // ITEMS)
    recipe = Recipe(factors=factors, history=1, targets=1, negatives=1)
    return CanaryModel(make_model(cache, items=ITEMS, recipe=recipe), canaries)


def noised_scores(
    model: CanaryModel, included: Bools, mechanism: Mechanism, uniform: Uniform
) -> tuple[Floats, int]:
    """Train on the canaries ``included`` [m]; return all scores [m], and the steps.

    A score is the sum over all steps of what the optimiser was handed, in the canary's
    coordinate, freed of the public divisor; in clipping norms.
    """
    examples = [UserExample(int(n), np.array([n])) for n in np.flatnonzero(included)]
    streams = SecretStreams(uniform, uniform)
    with observed_steps() as steps:
        train_round(
            model, examples, mechanism, users=len(included), streams=streams, key=KEY
        )
    handed = torch.stack([step.joined()[model.places] for step in steps])
    released = handed.double().sum(0).numpy() * (mechanism.q * len(included))
    return released / mechanism.clip, len(steps)


def evidence(scores: Floats, tensors: Ints, shift: float) -> Floats:
    """Return how strongly each score [m] speaks for "in".

    It is the log-likelihood ratio of two Gaussians, ``(score - shift / 2) / variance``
    up to a factor, where ``shift`` is what a canary adds on average and the variance
    is that of the scores in its tensor. If one tensor is noised less than the others,
    its scores are small, and yet they tell the most.
    """
    found, back = np.unique(tensors, return_inverse=True)
    variance = np.array([scores[tensors == tensor].var() for tensor in found])[back]
    told: Floats = (scores - shift / 2) / np.maximum(variance, LEAST_VARIANCE)
    return told


def right_guesses(told: Floats, included: Bools, made: int) -> int:
    """Say in for the ``made / 2`` highest, out for as many of the lowest; count."""
    order, half = np.argsort(told), made // 2
    said_out, said_in = order[:half], order[-half:]
    return int(included[said_in].sum() + (~included[said_out]).sum())


def finding(run: OneRun) -> Finding:
    """Return what a run proves: the claim holds if neither bound is above it.

    For f-DP that is the test of ``mu0 = gaussian_mu(claimed, delta)``, said in epsilon.
    Where a ceiling is not above the claim, its bound could not speak, and that is said.
    """
    ceilings = {"S23": run.s23_ceiling, "f-DP": run.fdp_ceiling}
    silent = [name for name, most in ceilings.items() if most <= run.claimed]
    figures = asdict(run)
    del figures["scores_in"], figures["scores_out"]
    says = (
        f"{run.correct} of {run.guesses} guesses about {run.canaries} canaries were "
        f"right: epsilon is at least {run.s23:.2f} (S23) and {run.fdp:.2f} (f-DP), the "
        f"claim is {run.claimed:.2f}; perfect guessing would show "
        f"{run.s23_ceiling:.2f} and {run.fdp_ceiling:.2f}"
    )
    if silent:
        says += f", so {' and '.join(silent)} could not refute it"
    holds = max(run.s23, run.fdp) <= run.claimed
    return Finding(audit="canaries.one_run", holds=holds, says=says, figures=figures)
