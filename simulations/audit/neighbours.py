"""Users who can be taken away one by one: what a neighbour replay replays.

The noise stream is silent, coins belong to users, and every round starts from the same
parameters, so that two rounds differ by the users who take part and by nothing else.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client import examples, train
from client.data import UserHistory
from client.examples import Batch
from client.head import FactorHead
from client.model import HybridModel, RowsOf
from client.noise import SecretStreams
from client.sampler import Uniform
from shared.encoder import TextEncoder, load_base
from shared.protocol import Mechanism, Recipe
from simulations.audit.observe import Step, observed_steps

ITEMS = 72  # the smallest catalogue that is generated
BAD = ITEMS - 1  # liked by nobody but the user whose gradient is not finite
DECLARED = 10  # public number of users; never how many there are
COINS = 2026  # names coins with which each user meets steps with them and without
ORDERS = (1, 2, 3)  # data orders, see ``replay``
SLACK = 1e-5  # float32 rounding, as a share of the longest that is summed
STILL = Recipe(
    learning_rate=1e-12,  # parameters stay where they are, so that steps compare
    head_learning_rate=1e-12,
    factors=4,
    history=6,
    targets=2,
    negatives=1,
)
MOVING = replace(STILL, learning_rate=0.02, head_learning_rate=0.05)
MECHANISM = Mechanism(q=0.5, sigma=1.0, clip=0.3, steps=6)


@dataclass(frozen=True, slots=True)
class Trace:
    """What one round did: its steps, the noise draws it asked for, how it crashed."""

    steps: tuple[Step, ...]
    asked: tuple[int, ...]
    crash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Users at one point of the parameters; any part of them can be replayed.

    Attributes:
        model: What is trained; put back to ``start`` before every round.
        histories: All users.
        mechanism: Public q, clip and steps.
        start: The trained tensors.
        order: Public number of the data order.
    """

    model: HybridModel
    histories: Sequence[UserHistory]
    mechanism: Mechanism
    start: tuple[Tensor, ...]
    order: int

    def everyone(self) -> list[int]:
        """Return the numbers of all users."""
        return list(range(len(self.histories)))

    def without(self, user: int) -> list[int]:
        """Return the numbers of all users but one."""
        return [n for n in self.everyone() if n != user]

    def drawn(self, user: int) -> Tensor:
        """Return in which steps the coins draw ``user``, [T]."""
        shape = self.mechanism.steps, len(self.histories)
        coins = np.random.default_rng(COINS).random(shape)
        return torch.from_numpy(coins[:, user] < self.mechanism.q)

    def run(self, kept: Sequence[int]) -> Trace:
        """Train one round on the users ``kept``, in silence, and return what it did."""
        put(self.model, self.start)
        asked: list[int] = []
        coins = coins_of(kept, len(self.histories))
        crash = ""
        with observed_steps() as seen:
            try:
                train.train_round(
                    self.model,
                    examples.make_examples([self.histories[n] for n in kept]),
                    self.mechanism,
                    users=DECLARED,
                    streams=SecretStreams(coins, silence(asked)),
                    key=[self.order],
                )
            except Exception as error:  # noqa: BLE001  # a crash tells who was drawn
                crash = type(error).__name__
        return Trace(tuple(seen), tuple(asked), crash)

    def sums(self, kept: Sequence[int]) -> Tensor:
        """Return what would be noised in each step, [T, d]; NaN if it was no round."""
        trace, steps = self.run(kept), self.mechanism.steps
        whole = not trace.crash and len(trace.steps) == steps
        if whole and all(covers(step, self.start) for step in trace.steps):
            handed = torch.stack([step.joined() for step in trace.steps])
            return handed * (self.mechanism.q * DECLARED)
        return torch.full((steps, sum(t.numel() for t in self.start)), torch.nan)


class Spoiled(HybridModel):
    """The real model, but that the loss of who likes ``BAD`` is multiplied."""

    def __init__(self, subject: HybridModel, factor: float) -> None:
        """Take over every part of ``subject``; none is copied."""
        vars(self).update(vars(subject))
        self._factor = factor

    def losses(
        self, batch: Batch, catalogue: Tensor, vectors_of: RowsOf, head_of: RowsOf
    ) -> Tensor:
        """Return one term per user, [U]."""
        terms = super().losses(batch, catalogue, vectors_of, head_of)
        spoiled = torch.from_numpy((batch.items == BAD).any(axis=1))
        return terms * torch.where(spoiled, self._factor, 1.0)


def trained(model: HybridModel) -> list[Tensor]:
    """Return what one clip and one noise must cover: adapter, then head."""
    modules = [*model.encoder.trained.values(), model.head]
    return [parameter for module in modules for parameter in module.parameters()]


def tensors_on(parameter: Tensor) -> list[str]:
    """Return the names under which a parameter holds tensors."""
    held = {"grad": parameter.grad, **vars(parameter)}
    return [name for name, kept in held.items() if isinstance(kept, Tensor | list)]


def covers(step: Step, tensors: Sequence[Tensor]) -> bool:
    """Return whether a step has one gradient for each of ``tensors``, in order."""
    return [g.shape for g in step.gradients] == [t.shape for t in tensors]


def make_site(model: HybridModel, order: int, *, scale: float, clip: float) -> Site:
    """Return the site at random parameters of standard deviation ``scale``."""
    rng = torch.Generator().manual_seed(2026)
    start = tuple(
        torch.randn(tensor.shape, generator=rng) * scale for tensor in trained(model)
    )
    return Site(
        model=model,
        histories=_histories(),
        mechanism=replace(MECHANISM, clip=clip),
        start=start,
        order=order,
    )


def _histories() -> list[UserHistory]:
    """Return users of every kind that could count for more than one, or for none."""
    rng = np.random.default_rng(2026)
    first, twins, last = (rng.permutation(BAD)[:14] for _ in range(3))
    return [
        liked("first", first),
        liked("no likes", []),
        liked("longest", rng.integers(0, BAD, 400)),
        liked("one item", np.full(64, 7)),
        liked("twin", twins),
        liked("other twin", twins),
        liked("two likes", rng.permutation(BAD)[:2]),
        liked("last", last),
    ]


def liked(user: str, items: npt.ArrayLike) -> UserHistory:
    """Return a user who liked ``items``, oldest first."""
    liked = np.asarray(items, np.int64)
    return UserHistory(
        user=user,
        items=liked,
        times=np.arange(len(liked)),
        likes=np.ones(len(liked), np.bool_),
    )


def by_hooks(model: HybridModel, cache: Path) -> HybridModel:
    """Return a model whose adapter, in attention, has its gradients from Opacus' hooks.

    They come text by text, and are folded by user; autograd has the parameters.
    """
    spec = replace(model.encoder.spec, modules="attention:1")
    encoder = TextEncoder(load_base("tiny"), spec)
    texts = [f"Title {n}, {'very ' * (n % 4)}quiet" for n in range(ITEMS)]
    activations = encoder.open_store(cache).open(texts)
    return HybridModel(
        encoder,
        activations,
        encoder.frozen_mean(activations),
        FactorHead(ITEMS, STILL.factors, STILL.seed),
        np.zeros(ITEMS, np.float32),
        STILL,
    )


def put(model: HybridModel, start: Sequence[Tensor]) -> None:
    """Set the trained tensors."""
    with torch.no_grad():
        for tensor, value in zip(trained(model), start, strict=True):
            tensor.copy_(value)


def coins_of(kept: Sequence[int], users: int) -> Uniform:
    """Return the coins of the users ``kept``: the same, whoever else is there."""
    rng, columns = np.random.default_rng(COINS), list(kept)
    return lambda count: np.resize(rng.random(users)[columns], count)


def silence(asked: list[int]) -> Uniform:
    """Return a stream of zeros, of which Box-Muller makes zeros; note what is asked."""

    def zeros(count: int) -> npt.NDArray[np.float64]:
        asked.append(count)
        return np.zeros(count)

    return zeros


@contextmanager
def room_for(users: int, model: HybridModel) -> Iterator[None]:
    """Leave the trainer memory for the gradients of so many users."""
    memory = train.MEMORY
    train.MEMORY = users * (memory // train.microbatch_size(model))
    try:
        yield
    finally:
        train.MEMORY = memory
