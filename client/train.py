"""User-level DP training of adapter and CF head together, in the frame of Opacus' step.

A user's whole gradient comes from ``client/gradients.py``, is clipped once over all
tensors and summed; the divisor is public, the noise comes from the site's secret
stream, and an empty draw is a step like any other (PRIVACY.md section 2; Abadi et al.
2016, algorithm 1).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor

from client.examples import UserExample
from client.gradients import UserGradients, user_gradients
from client.model import HybridModel
from client.noise import SecretStreams, normal
from client.reach import BETAS
from client.sampler import Uniform, poisson_draw
from shared.protocol import Mechanism

MEMORY = 1 << 28  # bytes that the users of one microbatch may take


class UserOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus has no types
    """Opacus' step with the user as the unit, over one flat vector of all parameters.

    Guarantee: whatever one user's data hold, adding or removing that user moves the sum
    that is noised by at most ``clip`` in joint L2 norm over all trained tensors.
    """

    def __init__(
        self, model: HybridModel, mechanism: Mechanism, users: int, noise: Uniform
    ) -> None:
        super().__init__(
            _optimizer(model, mechanism),
            noise_multiplier=mechanism.sigma,
            max_grad_norm=mechanism.clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._divisor = mechanism.q * users  # public: rate times declared users
        self._noise = noise
        sizes = [p.numel() for p in self.params]
        self.summed = torch.zeros(sum(sizes), device=self.params[0].device)
        self._parts = [
            part.view_as(p)
            for p, part in zip(
                self.params, torch.split(self.summed, sizes), strict=True
            )
        ]
        self._head = self._parts[-2:] if model.trains_head else []
        self._adapter = self.summed[: sum(w.numel() for w in _of_adapter(model))]

    def start(self) -> None:
        """Begin a step: no user has contributed yet, and nothing else may."""
        self.forget()

    def add_users(self, users: UserGradients) -> None:
        """Clip each user's joint gradient once, and add it to the sum."""
        squares = users.adapter.square().sum(1) + users.head.square().sum((1, 2))
        factor = self._factor(squares)
        adapter, head = _finite(users.adapter, squares), _finite(users.head, squares)
        self._adapter += factor @ adapter
        rows = (head * factor[:, None, None]).flatten(0, 1)
        for table, part in zip(self._head, rows.tensor_split([-1], 1), strict=False):
            table.index_add_(0, users.items.flatten(), part)

    def _factor(self, squares: Tensor) -> Tensor:
        """Return what each user's gradient of this squared length is multiplied by."""
        factor = (self.max_grad_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        return torch.where(squares.isfinite(), factor, 0.0)

    def add_noise(self) -> None:
        """Noise the sum, every number of it, always; it becomes the gradient."""
        drawn = torch.from_numpy(normal(len(self.summed), self._noise))
        scale = self.noise_multiplier * self.max_grad_norm
        self.summed.add_(drawn.to(self.summed.device), alpha=scale)
        self._give()

    def _give(self) -> None:
        """Let the sum be what is stepped with; the parts of one vector, not copies."""
        for p, part in zip(self.params, self._parts, strict=True):
            p.grad = part

    def finish(self) -> None:
        """Noise, divide by the public expectation, step."""
        self.add_noise()
        self.summed /= self._divisor
        self.original_optimizer.step()

    def forget(self) -> None:
        """Drop every gradient, so that nothing from before the noise is left behind."""
        self.summed.zero_()
        for p in self.params:
            p.grad = None


class UnprotectedOptimizer(UserOptimizer):
    """The same step without clip and noise, for comparison: NOT PRIVATE."""

    def _factor(self, squares: Tensor) -> Tensor:
        return torch.ones_like(squares)

    def add_noise(self) -> None:
        """Add nothing."""
        self._give()


def train_round(
    model: HybridModel,
    examples: Sequence[UserExample],
    mechanism: Mechanism,
    *,
    users: int,
    streams: SecretStreams,
    key: Sequence[int],
) -> None:
    """Run the steps of one round on ``model``, in place.

    Guarantee: with sigma above 0 the changed parameters are a function of ``steps``
    releases of the Gaussian mechanism (noise ``sigma * clip``) on a Poisson sample of
    users at rate q, and of public values; nothing else of the data reaches them.

    Args:
        model: Whose trained modules change.
        examples: One per user of the site.
        mechanism: Public q, sigma, clip, steps.
        users: The site's declared, public number of users; only ever in the divisor.
        streams: Secret coins and noise.
        key: Public numbers that name the round for the data order.
    """
    steps = _drawn(examples, mechanism, streams.coins, key)
    with private_step(model, mechanism, users, streams.noise) as noisy:
        for step_key, drawn in steps:
            noisy.start()
            add_users(model, noisy, drawn, step_key)
            noisy.finish()


def _drawn(
    examples: Sequence[UserExample],
    mechanism: Mechanism,
    coins: Uniform,
    key: Sequence[int],
) -> Iterator[tuple[list[int], list[UserExample]]]:
    """Yield the key and the users of each step; a step without users is one too."""
    for step in range(mechanism.steps):
        drawn = poisson_draw(len(examples), mechanism.q, coins)
        yield [*key, step], [examples[n] for n in drawn]


@contextmanager
def private_step(
    model: HybridModel, mechanism: Mechanism, users: int, noise: Uniform
) -> Iterator[UserOptimizer]:
    """Give the optimiser; leave nothing un-noised behind."""
    kind = UserOptimizer if mechanism.sigma else UnprotectedOptimizer
    optimizer = kind(model, mechanism, users, noise)
    try:
        yield optimizer
    finally:
        optimizer.forget()


def add_users(
    model: HybridModel,
    optimizer: UserOptimizer,
    drawn: Sequence[UserExample],
    step_key: Sequence[int],
    size: int | None = None,
) -> None:
    """Add the clipped gradients of the drawn users, some users at a time."""
    size, encoded = size or microbatch_size(model), model.encoded()
    for first in range(0, len(drawn), size):
        chunk = drawn[first : first + size]
        optimizer.add_users(user_gradients(model, encoded, chunk, step_key))


def _finite(gradients: Tensor, squares: Tensor) -> Tensor:
    """Return the gradients [U, ...], 0 for users whose squared length is no number."""
    finite = squares.isfinite().view(-1, *[1] * (gradients.dim() - 1))
    return torch.where(finite, gradients, 0.0)


def _optimizer(model: HybridModel, mechanism: Mechanism) -> torch.optim.Optimizer:
    """Return what steps: Adam, or plain steps in units of the clip.

    With Adam the adapter and the head, where that is trained, have their own step size.
    """
    recipe, adapter = model.recipe, _of_adapter(model)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(adapter, lr=recipe.learning_rate / mechanism.clip)
    groups = [{"params": adapter, "lr": recipe.learning_rate}]
    if model.trains_head:
        tables = list(model.head.parameters())
        groups.append({"params": tables, "lr": recipe.head_learning_rate})
    return torch.optim.Adam(groups, betas=BETAS, fused=True)


def _of_adapter(model: HybridModel) -> list[Tensor]:
    return [w for module in model.encoder.trained.values() for w in module.parameters()]


def microbatch_size(model: HybridModel) -> int:
    """Return how many users fit in ``MEMORY``; from public sizes alone.

    For each user that is the gradient, twice; a score of every item, some times over;
    and the rows of the items that the user touches, several times over.
    """
    recipe, width = model.recipe, model.encoder.width
    touched = recipe.history + recipe.targets + recipe.negatives
    adapter = sum(weight.numel() for weight in _of_adapter(model))
    rows = touched * (width + recipe.factors + 1)
    return int(max(1, MEMORY // (4 * (2 * adapter + 6 * model.catalogue + 8 * rows))))
