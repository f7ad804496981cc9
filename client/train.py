"""User-level DP training of adapter and CF head together; the one home of opacus.

Opacus supplies the per-row gradients (hooks) and the frame of a step; the user is made
the unit here: rows are summed per user before the one clip over all tensors, the
divisor is public, the noise comes from the site's secret stream, and an empty draw is a
step like any other (PRIVACY.md section 2; Abadi et al. 2016, algorithm 1).
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.autograd import backward

from client.examples import UserExample, draw_batch
from client.model import HybridModel
from client.noise import SecretStreams, normal
from client.reach import BETAS
from client.sampler import Uniform, poisson_draw
from shared.protocol import Mechanism

MEMORY = 1 << 30  # bytes that the per-row gradients of one microbatch may take
PLAIN_CHUNK = 512  # users at a time without privacy


class UserOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus has no types
    """Opacus' step with the user as the unit.

    Guarantee: whatever one user's rows hold, adding or removing that user moves the sum
    that is noised by at most ``clip`` in joint L2 norm over all trained tensors.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        mechanism: Mechanism,
        users: int,
        noise: Uniform,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=mechanism.sigma,
            max_grad_norm=mechanism.clip,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._divisor = mechanism.q * users  # public: rate times declared users
        self._noise = noise

    def start(self) -> None:
        """Begin a step: no user has contributed yet."""
        for p in self.params:
            p.grad_sample = None
            p.summed_grad = torch.zeros_like(p)

    def add_users(self, users: int) -> None:
        """Fold the rows of ``users`` users, clip each user once, add to the sum."""
        by_user = [
            self._get_flat_grad_sample(p).unflatten(0, (users, -1)).sum(1).flatten(1)
            for p in self.params
        ]
        squares = torch.stack([g.square().sum(1) for g in by_user]).sum(0)
        finite = squares.isfinite()
        factor = (self.max_grad_norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        for p, g in zip(self.params, by_user, strict=True):
            safe = torch.where(finite.unsqueeze(1), g, 0.0)
            p.summed_grad += (torch.where(finite, factor, 0.0) @ safe).view_as(p)
            p.grad_sample = None

    def add_noise(self) -> None:
        """Put the noised sum into ``grad``: noise for every tensor, always."""
        for p in self.params:
            drawn = torch.from_numpy(normal(p.numel(), self._noise)).to(p.device)
            scale = self.noise_multiplier * self.max_grad_norm
            p.grad = p.summed_grad + scale * drawn.view_as(p)

    def finish(self) -> None:
        """Noise, divide by the public expectation, step."""
        self.add_noise()
        for p in self.params:
            p.grad /= self._divisor
        self.original_optimizer.step()

    def forget(self) -> None:
        """Drop every gradient, so that nothing from before the noise is left behind."""
        for p in self.params:
            p.grad = p.grad_sample = p.summed_grad = None


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
    if mechanism.sigma == 0:
        optimizer = _adam(model)
        for step_key, drawn in steps:
            _unprotected_step(model, optimizer, drawn, step_key, mechanism.q * users)
        return
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
    """Give the optimiser while Opacus' hooks are on; leave nothing un-noised behind."""
    optimizer = UserOptimizer(_adam(model), mechanism, users, noise)
    hooks = GradSampleModule(model.trained, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            # our inputs are cached, so none asks for gradients
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield optimizer
    finally:
        hooks.remove_hooks()
        optimizer.forget()


def add_users(
    model: HybridModel,
    optimizer: UserOptimizer,
    drawn: Sequence[UserExample],
    step_key: Sequence[int],
    size: int | None = None,
) -> None:
    """Add the clipped gradients of the drawn users, some users at a time."""
    size, catalogue = size or microbatch_size(model), model.item_rows()
    for first in range(0, len(drawn), size):
        chunk = drawn[first : first + size]
        batch = draw_batch(chunk, model.recipe, step_key)
        backward(model.losses(batch, catalogue, shared_rows=False).sum())
        optimizer.add_users(len(chunk))


def _unprotected_step(
    model: HybridModel,
    optimizer: torch.optim.Optimizer,
    drawn: Sequence[UserExample],
    step_key: Sequence[int],
    divisor: float,
) -> None:
    """One step without clip and noise, for comparison: NOT PRIVATE."""
    optimizer.zero_grad()
    catalogue = model.item_rows()
    for first in range(0, len(drawn), PLAIN_CHUNK):
        batch = draw_batch(drawn[first : first + PLAIN_CHUNK], model.recipe, step_key)
        total = model.losses(batch, catalogue, shared_rows=True).sum()
        backward(total / divisor)
    optimizer.step()


def _adam(model: HybridModel) -> torch.optim.Adam:
    """Return Adam with one step size for the adapter and one for the head."""
    model.trained.train()
    recipe = model.recipe
    return torch.optim.Adam(
        [
            {
                "params": _weights(model.encoder.trained.values()),
                "lr": recipe.learning_rate,
            },
            {"params": list(model.head.parameters()), "lr": recipe.head_learning_rate},
        ],
        betas=BETAS,
    )


def _weights(modules: Iterable[nn.Module]) -> list[Tensor]:
    return [parameter for module in modules for parameter in module.parameters()]


def microbatch_size(model: HybridModel) -> int:
    """Return how many users fit in ``MEMORY``; from public sizes alone."""
    recipe = model.recipe
    rows = recipe.history + recipe.targets + recipe.negatives
    adapter = sum(w.numel() for w in _weights(model.encoder.trained.values()))
    head = sum(w.numel() for w in model.head.parameters())
    token_bytes = model.encoder.spec.max_tokens * model.encoder.width * 8
    return int(max(1, MEMORY // (4 * (rows * (adapter + token_bytes) + 2 * head))))
