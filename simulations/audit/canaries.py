"""The one-run audit: does the real training code give what its noise claims?

Canaries take the place of users in a run of their own, each in it or not by a coin of
the auditor's, who then guesses from the noised gradients alone. The training code runs
unchanged; only the loss is a canary's, and the texts are made to measure. A run with
anyone's data in it is not audited: canaries are not users, and they cost accuracy
(PRIVACY 7.2).
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import hadamard
from torch import Tensor
from torch.nn.functional import one_hot

from client.examples import Batch, Ints, UserExample
from client.model import HybridModel, RowsOf
from client.noise import SecretStreams, system_uniform
from client.sampler import Uniform
from client.train import train_round
from shared.accounting import GaussianEvent, noise_for
from shared.accounting import epsilon as epsilon_of
from shared.activations import Activations
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
from simulations.audit.subject import RANK, make_model

ITEMS = 144  # the smallest catalogue that is generated
ROWS = 9  # of one canary: a clip of rows would let 9 C through, rows not merged 3 C
LENGTH = 10.0  # of each row's gradient before the clip, in clipping norms
CLIP = 1.0
FAR = 2.0**20  # of the canaries' texts from 0: beside it B moves them by a rounding
LEAST_VARIANCE = 1e-12  # where all scores of a tensor are equal
KEY = (0, 1)  # public; names the round

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class CanaryModel(HybridModel):
    """The real model, with the loss of canaries in place of that of users.

    Guarantee: each of a canary's ``ROWS`` rows has the gradient ``LENGTH * CLIP`` in
    one coordinate and 0 elsewhere, but for rounding, whatever the parameters are, and
    no two canaries share a coordinate. So a step that is right adds ``CLIP`` there, and
    nothing else.

    A canary is known by its only like, which is its number here and not an item. The
    coordinates lie evenly over all that is trained: B, factors and biases each carry
    canaries. Those of the head read one item ``ROWS`` times; those of B pull on as many
    texts, so that all that stands between a text and its user's gradient is passed.

    LayerNorm lets no gradient along two directions of its n channels through: equal
    numbers, and what it normalises. B's columns are therefore read along the rows of a
    Hadamard matrix, of which the first is the one, and the second, in the texts made
    here, the other. A turn leaves lengths and Gaussian noise as they are.

    Attributes:
        places: Each canary's coordinate [m] in all trained tensors, joined in order,
            B turned.
        tensors: The number of the tensor [m] in which it lies.
    """

    def __init__(self, subject: HybridModel, canaries: int) -> None:
        """Take over every part of ``subject`` but its texts; none is copied."""
        vars(self).update(vars(subject))
        width, device = self.encoder.width, self.encoder.device
        self._turn = torch.from_numpy(hadamard(width) / width**0.5).float()
        self.activations = _texts(self._turn, self.catalogue).to(device)
        self._centre = torch.zeros(width)
        sizes = [p.numel() for p in self.trained.parameters()]
        closed = 2 * RANK  # the first two rows of B, turned
        room = sum(sizes) - closed
        if canaries > room:
            raise ConfigError(
                f"{canaries=} is over the {room} trained scalars, one for each canary; "
                "give fewer canaries or a wider head"
            )
        self.places = closed + torch.arange(canaries) * room // canaries
        self.tensors = np.repeat(np.arange(len(sizes)), sizes)[self.places.numpy()]
        self._ends = np.cumsum(sizes)

    def losses(
        self, batch: Batch, catalogue: Tensor, vectors_of: RowsOf, head_of: RowsOf
    ) -> Tensor:
        """Return one term per canary, [U]: its own scalar, once in each of its rows."""
        del catalogue
        numbers = torch.from_numpy(batch.items[:, self.recipe.history])
        of_text = self._of_texts(self.places[numbers], vectors_of)
        return LENGTH * CLIP * (of_text + self._of_items(self.places[numbers], head_of))

    def _of_texts(self, places: Tensor, vectors_of: RowsOf) -> Tensor:
        """Return what has the gradient ``ROWS`` in B at ``places`` [U], or none.

        A text's vector has unit length, its sum has sqrt(n) per token, LayerNorm's
        scale is 1 / FAR and LoRA's s: a pull on the vector comes out so much shorter.
        """
        row, column = places // RANK, places % RANK
        inside = row < len(self._turn)
        texts = column.unsqueeze(1) + RANK * torch.arange(ROWS)
        pulls = self._turn[torch.where(inside, row, 0)]
        shorter = self.encoder.spec.scale / (FAR * len(self._turn) ** 0.5)
        along = (vectors_of(texts) * pulls.unsqueeze(1)).sum((1, 2))
        pulled: Tensor = along * inside / shorter
        return pulled

    def _of_items(self, places: Tensor, head_of: RowsOf) -> Tensor:
        """Return the sum of ``ROWS`` times the number at ``places`` [U], or 0."""
        adapter, factors, _ = self._ends.tolist()
        width = (factors - adapter) // self.catalogue
        bias = places >= factors
        item = torch.where(bias, places - factors, (places - adapter) // width)
        column = torch.where(bias, width, (places - adapter) % width)
        inside = places >= adapter
        rows = head_of(torch.where(inside, item, 0).unsqueeze(1).expand(-1, ROWS))
        read = (rows * one_hot(column, width + 1).unsqueeze(1)).sum((1, 2))
        total: Tensor = read * inside
        return total

    def turned(self, handed: Tensor) -> Tensor:
        """Return what a step handed over [d], with the columns of B turned."""
        adapter = self._turn @ handed[: self._ends[0]].view(len(self._turn), RANK)
        return torch.cat([adapter.flatten(), handed[self._ends[0] :]])


def _texts(turn: Tensor, count: int) -> Activations:
    """Return made texts: far from 0 in one direction, and in one column of A x each.

    Text i is of column i modulo the rank, and one to ``ROWS`` tokens long.
    """
    lengths = torch.arange(count) // RANK % ROWS + 1
    column = (torch.arange(count) % RANK).repeat_interleave(lengths)
    far = FAR * len(turn) ** 0.5 * turn[1]
    tokens = torch.cat([far.expand(len(column), -1), one_hot(column, RANK)], dim=1)
    return Activations(tokens, lengths.cumsum(0) - lengths, lengths)


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
    handed = torch.stack([model.turned(step.joined())[model.places] for step in steps])
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
