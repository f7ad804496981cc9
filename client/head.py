"""The collaborative-filtering head: item factors and biases of one site.

There is no user table (DESIGN D3): a user's vector is the mean of the factors of their
own history, so a new user works at once and an event changes the next answer. The head
never leaves its site, yet it is on the privacy path: it shapes every adapter gradient,
and therefore trains in the same clipped and noised step.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from shared.protocol import Array

START_SCALE = 0.1  # standard deviation of the first factors


class FactorHead(nn.Module):
    """Score ``<mean of history factors, item factor> + item bias``.

    One table serves history and candidates, as in FISM (Kabbur et al. 2013). Its start
    depends on public values alone: the number of items, the width and a seed.
    """

    def __init__(self, items: int, factors: int, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng([seed, items, factors])
        start = rng.normal(0.0, START_SCALE, (items, factors)).astype(np.float32)
        self.factors = _table(torch.from_numpy(start))
        self.biases = _table(torch.zeros(items, 1))

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors [..., f] and biases [..., 1] of ``items``."""
        return self.factors(items), self.biases(items)

    def state(self) -> dict[str, Array]:
        """Return the tensors to keep at the site between rounds."""
        return {
            name: t.detach().cpu().numpy().copy()
            for name, t in self.state_dict().items()
        }

    def load(self, state: Mapping[str, Array]) -> None:
        """Take over tensors kept from an earlier round."""
        self.load_state_dict(
            {name: torch.from_numpy(a.copy()) for name, a in state.items()}
        )


def _table(start: Tensor) -> nn.Embedding:
    """Return a trained table with the rows of ``start``; draws nothing at random."""
    return nn.Embedding(len(start), start.shape[1], _weight=start)
