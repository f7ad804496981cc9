"""What runs above the cached activations, for each choice of adapted modules.

A tail knows two ways: ``below`` runs the whole encoder and returns, per token, what an
adapter never changes; ``above`` goes on from there to the last hidden states. ``cut``
makes of a copy of the encoder one that ends where ``below`` does. Where the layers are
found in a model is the business of ``shared/encoder.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn


class Tail(Protocol):
    """The part of the encoder that a step runs."""

    def below(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return what never changes, [n, tokens, channels]."""

    def cut(self, stack: nn.Module) -> None:
        """Make a stack of layers without adapter end in what ``below`` returns."""

    def above(self, stored: Tensor, mask: Tensor) -> Tensor:
        """Return the last hidden states, [n, tokens, width]; differentiable in B."""


class _SumAndDown(nn.Module):
    """A layer's ``output`` without its LayerNorm: W x + b + residual, then A x."""

    def __init__(self, dense: nn.Module, down: nn.Module) -> None:
        super().__init__()
        self.dense, self.down = dense, down

    def forward(self, inner: Tensor, residual: Tensor) -> Tensor:
        """Return [n, tokens, width + r]."""
        return torch.cat([self.dense(inner) + residual, self.down(inner)], dim=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTail:
    """The last layer's ``output.dense`` alone: LayerNorm(frozen + s B (A x)).

    Stored per token: ``W x + b + residual`` and ``A x``; neither ever changes, so a
    step is one [r -> width] product, a LayerNorm and the pooling.

    Attributes:
        encoder: The whole model.
        dense: The adapted module, ``W x + b + s B (A x)``.
        down: Its A.
        up: Its B.
        layer_norm: What follows it, over the sum with the residual.
        scale: LoRA's s.
    """

    encoder: nn.Module
    dense: nn.Module
    down: nn.Module
    up: nn.Module
    layer_norm: nn.LayerNorm
    scale: float

    def below(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return [n, tokens, width + r]: the frozen sum, then A x."""
        inner, frozen = self.inside(tokens)
        return torch.cat([frozen, self.down(inner)], dim=-1)

    def inside(self, tokens: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return x [n, tokens, columns] and what LayerNorm sees [n, tokens, width]."""
        seen: list[Tensor] = []
        grab = self.dense.register_forward_hook(
            lambda _module, given, made: seen.extend((given[0], made))
        )
        keep = self.layer_norm.register_forward_pre_hook(
            lambda _module, given: seen.append(given[0])
        )
        self.encoder(**tokens)
        grab.remove()
        keep.remove()
        inner, _, frozen = seen
        return inner, frozen

    def cut(self, stack: nn.Module) -> None:
        """Let the last layer end in the frozen sum and A x."""
        last: Any = cast("nn.ModuleList", stack.layer)[-1]
        last.output = _SumAndDown(last.output.dense, self.down)

    def above(self, stored: Tensor, mask: Tensor) -> Tensor:
        """Return the last hidden states [n, tokens, width]; needs no ``mask``."""
        del mask
        width = self.layer_norm.normalized_shape[0]
        stored = stored.float()
        low: Tensor = self.up(stored[..., width:])
        summed = torch.add(stored[..., :width], low, alpha=self.scale)
        hidden: Tensor = self.layer_norm(summed)
        return hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersTail:
    """The top layers whole; stored per token: the hidden state that enters them.

    Attributes:
        encoder: The whole model.
        layers: Its top layers, from the first that is adapted.
    """

    encoder: nn.Module
    layers: Sequence[nn.Module]

    def below(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """Return [n, tokens, width], what enters the first adapted layer."""
        seen: list[Tensor] = []
        grab = self.layers[0].register_forward_pre_hook(
            lambda _module, given: seen.append(given[0])
        )
        self.encoder(**tokens)
        grab.remove()
        return seen[0]

    def cut(self, stack: nn.Module) -> None:
        """Leave out the layers from the first that is adapted."""
        kept = cast("nn.ModuleList", stack.layer)
        stack.layer = kept[: len(kept) - len(self.layers)]

    def above(self, stored: Tensor, mask: Tensor) -> Tensor:
        """Return the last hidden states [n, tokens, width].

        Frozen products are taken in the precision of what is stored, B's are float32.
        """
        dtype = next(self.layers[0].parameters()).dtype  # a copy that serves: bfloat16
        hidden, attend = stored.to(dtype), mask[:, None, None, :].bool()
        low = stored.dtype != torch.float32 == dtype
        with torch.autocast(stored.device.type, stored.dtype, enabled=low):
            for layer in self.layers:
                hidden = layer(hidden, attend)
        return hidden
