"""The gradients of single users; nothing is clipped or summed over users here.

A user touches few items, so a gradient of the CF head is kept as the rows of these
items alone: memory grows with the users of a step and their items, never with users
times catalogue.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn
from torch.autograd import backward, grad
from torch.nn.functional import embedding

from client.examples import UserExample, draw_batch
from client.model import Encoded, HybridModel
from shared.output_pass import OutputPass


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UserGradients:
    """Gradients of U users, one row each.

    Attributes:
        adapter: Of B, all tensors one after the other, [U, P].
        items: Distinct items of each user, [U, K]; item 0 also where there are fewer.
        head: Of these items' factors and bias, [U, K, f + 1]; 0 where there are fewer.
            K is 0 where the head is not trained.
    """

    adapter: Tensor
    items: Tensor
    head: Tensor

    def __repr__(self) -> str:
        return "UserGradients(...)"


class _Leaves:
    """Rows of a table, read as leaves: their gradients are each user's own."""

    def __init__(self, table: Tensor, users: int) -> None:
        self._table = table
        self.items = torch.zeros(users, 0, dtype=torch.int64, device=table.device)
        self.rows = table.new_zeros(users, 0, table.shape[1])

    def __call__(self, items: Tensor) -> Tensor:
        """Return the rows of ``items`` [U, K], and remember both."""
        self.items = items
        self.rows = embedding(items, self._table).requires_grad_()
        return self.rows


def user_gradients(
    model: HybridModel,
    encoded: Encoded,
    drawn: Sequence[UserExample],
    step_key: Sequence[int],
) -> UserGradients:
    """Return the gradients of the drawn users, before any clip.

    Guarantee: row u is a function of user u, of the parameters, of ``step_key`` and of
    public values alone.
    """
    width = model.encoder.width
    parts = encoded.rows.tensor_split([width], 1)
    vectors, head = (_Leaves(part, len(drawn)) for part in parts)
    batch = draw_batch(drawn, model.recipe, step_key)
    terms = model.losses(batch, encoded.rows, vectors, head)
    leaves = [vectors, head] if model.trains_head else [vectors]
    pulls, *of_head = grad(terms.sum(), [leaf.rows for leaf in leaves])
    rows = of_head[0] if of_head else head.rows
    texts, pulls = _merged(vectors.items, pulls)
    pulls = model.through_centre(embedding(texts, encoded.passed.sums), pulls)
    items, rows = _merged(head.items, rows)
    return UserGradients(
        adapter=_of_adapter(model, encoded, texts, pulls), items=items, head=rows
    )


def _merged(items: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the rows [U, K, D] of equal items of a user; what is left over is 0."""
    ordered, order = items.sort(dim=1)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    slot = new.cumsum(1) - 1
    distinct = torch.zeros_like(ordered).scatter_(1, slot, ordered)
    place = torch.empty_like(slot).scatter_(1, order, slot)
    summed = torch.zeros_like(rows)
    return distinct, summed.scatter_add_(1, place.unsqueeze(2).expand_as(rows), rows)


def _of_adapter(
    model: HybridModel, encoded: Encoded, texts: Tensor, pulls: Tensor
) -> Tensor:
    """Return each user's gradient of B, [U, P], from the pulls on their texts' sums."""
    if isinstance(encoded.passed, OutputPass):
        return encoded.passed.gradients(texts, pulls).flatten(1)
    return _by_hooks(model, texts, pulls)


def _by_hooks(model: HybridModel, texts: Tensor, pulls: Tensor) -> Tensor:
    """Return the same of whole layers: Opacus' gradients of rows, folded by user."""
    trained = nn.ModuleList(model.encoder.trained.values()).train()
    weights = list(trained.parameters())
    made = pulls.new_zeros(len(texts), sum(weight.numel() for weight in weights))
    user, slot = (pulls != 0).any(2).nonzero(as_tuple=True)
    with _rows_of(trained):
        for part in model.activations.by_length(texts[user, slot]):
            sums = model.encoder.sums(model.activations, texts[user[part], slot[part]])
            backward(sums, pulls[user[part], slot[part]])
            rows = [_taken(weight) for weight in weights]
            made.index_add_(0, user[part], torch.cat(rows, dim=1))
    return made


@contextmanager
def _rows_of(trained: nn.Module) -> Iterator[None]:
    """Have Opacus keep the gradient of each row inside the block."""
    hooks = GradSampleModule(trained, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            # the first module's input is stored, so it asks for no gradient
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield
    finally:
        hooks.remove_hooks()


def _taken(weight: Any) -> Tensor:
    """Return Opacus' gradients of the rows, [n, P], and leave none behind."""
    rows: Tensor = weight.grad_sample.flatten(1).float()
    weight.grad = weight.grad_sample = None
    return rows
