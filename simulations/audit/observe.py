"""What the real optimiser is handed in each step: gradients after clip and noise.

Torch's own hook looks on, so the training code is not changed for being audited, and
nothing that an audit says rests on what that code reports of itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an optimiser, as it begins.

    Attributes:
        gradients: What each trained tensor is about to move by, in order.
        parameters: The trained tensors themselves, before the step.
    """

    gradients: tuple[Tensor, ...]
    parameters: tuple[Tensor, ...]

    def joined(self) -> Tensor:
        """Return all gradients as one vector [d]."""
        return torch.cat([gradient.flatten() for gradient in self.gradients])


@contextmanager
def observed_steps() -> Iterator[list[Step]]:
    """Collect every step that any optimiser takes inside the block."""
    seen: list[Step] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [
            p.grad if p.grad is not None else torch.zeros_like(p) for p in trained
        ]
        seen.append(Step(_copies(gradients), _copies(trained)))

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _copies(tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().clone() for tensor in tensors)
