"""The hybrid model of one site: score = alpha x text + (1 - alpha) x CF + prior.

Text is the cosine between the mean of a user's history vectors and an item's vector,
both centred on the public catalogue; CF is the site's factor head, the prior the site's
released popularity. All scales are fixed, so that alpha may be chosen per request
(DESIGN D14). One row x = [text vector, factors, bias] stands for an item and one row
u = [alpha T taste, (1 - alpha) S likes, (1 - alpha) S] for a user, with the public scales
T and S of the recipe: the score is <u, x> + prior.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from client.examples import Batch, Floats, Ints, recency_weights
from client.head import FactorHead
from shared.activations import Activations
from shared.encoder import TextEncoder
from shared.protocol import Array, Recipe

BLOCK = 1024  # items encoded at a time when all of them are


class HybridModel(nn.Module):
    """Encoder tail with its adapter, the CF head and the prior, over one catalogue.

    Attributes:
        trained: Every module with trained parameters, and nothing else: what clipping
            and noise must cover.
        catalogue: Number of items.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        activations: Activations,
        centre: Tensor,
        head: FactorHead,
        prior: Array,
        recipe: Recipe,
    ) -> None:
        """Join the parts; ``centre`` [width] is the frozen mean vector of the catalogue."""
        super().__init__()
        self.encoder, self._activations, self.recipe = encoder, activations, recipe
        self.head = head.to(encoder.device)
        self._prior = torch.from_numpy(prior).to(encoder.device) * recipe.prior_weight
        self.catalogue = len(prior)
        self._centre = centre
        self.trained = nn.ModuleList(
            [*encoder.trained.values(), self.head.factors, self.head.biases]
        )

    def losses(self, batch: Batch, catalogue: Tensor, *, shared_rows: bool) -> Tensor:
        """Return one term per user, [U], with the gradient of a full softmax.

        Cross-entropy of the targets over the whole catalogue has the gradient
        ``sum_i p_i ds_i - mean_t ds_t``. The user's side of the first sum is taken
        exactly, the items' side from m items drawn from p itself. That is unbiased, and
        only H + M + m items per user are encoded with gradients (Bengio and Senecal
        2008, importance sampling with the model as its own proposal).

        Guarantee: entry u depends on row u of the batch, on the parameters, and on
        public values alone.

        Args:
            batch: Examples in fixed shapes.
            catalogue: All items under the present parameters, from ``item_rows``.
            shared_rows: Encode each distinct item once for the whole batch. The values
                are the same, but gradients can then no longer be told apart by user, so
                only training without privacy may ask for it.
        """
        device = self.encoder.device
        history = torch.from_numpy(batch.history).to(device)
        aims = torch.from_numpy(batch.targets).to(device)
        drawn, mean = self._softmax(batch, history, catalogue)
        items = np.concatenate([batch.items, drawn.cpu().numpy()], axis=1)
        rows = self._rows_of(items, shared_rows=shared_rows)
        past, wanted, against = rows.split([history.shape[1], aims.shape[1], drawn.shape[1]], 1)
        user = self._users(history, past, self.recipe.alpha)
        pull = ((aims.unsqueeze(1) @ wanted).squeeze(1) * user).sum(1)
        push = (mean * user).sum(1) + (against.mean(1) * user.detach()).sum(1)
        return (push - pull) * (aims.sum(1) > 0)

    @torch.no_grad()
    def _softmax(self, batch: Batch, history: Tensor, catalogue: Tensor) -> tuple[Tensor, Tensor]:
        """Return m items drawn from each user's softmax, [U, m], and its mean row, [U, D]."""
        past = catalogue[torch.from_numpy(batch.items[:, : history.shape[1]]).to(history.device)]
        user = self._users(history, past, self.recipe.alpha)
        chance = torch.softmax(user @ catalogue.T + self._prior, dim=1)
        coins = torch.from_numpy(batch.coins).to(history.device)
        drawn = torch.searchsorted(chance.cumsum(1), coins)
        return drawn.clamp(max=self.catalogue - 1), chance @ catalogue

    def _rows_of(self, items: Ints, *, shared_rows: bool) -> Tensor:
        """Return the rows [U, K, D] of ``items`` [U, K], with gradients."""
        place = torch.from_numpy(items).to(self.encoder.device)
        factors, biases = self.head(place)
        if shared_rows:
            distinct, back = np.unique(items, return_inverse=True)
            vectors = self._encode(distinct)[torch.from_numpy(back).to(place.device)]
        else:
            vectors = self._encode(items.reshape(-1))
        return torch.cat([vectors.reshape(*items.shape, -1), factors, biases], dim=-1)

    def _encode(self, items: Ints) -> Tensor:
        """Return centred unit vectors [n, width] of catalogue items."""
        made = self.encoder.vectors(self._activations.rows(items))
        return normalize(made - self._centre, dim=-1)

    def _users(self, weights: Tensor, past: Tensor, alpha: float) -> Tensor:
        """Return user rows [U, D] from history weights [U, H] and item rows [U, H, D]."""
        mean = (weights.unsqueeze(1) @ past).squeeze(1)
        taste = normalize(mean[:, : self.encoder.width], dim=-1)
        likes = mean[:, self.encoder.width : -1]
        text, cf = alpha * self.recipe.temperature, (1 - alpha) * self.recipe.cf_scale
        return torch.cat([text * taste, cf * likes, torch.full_like(mean[:, :1], cf)], dim=1)

    @torch.no_grad()
    def item_rows(self) -> Tensor:
        """Return the row of every item under the present parameters, [items, D]."""
        parts = np.array_split(np.arange(self.catalogue), 1 + self.catalogue // BLOCK)
        vectors = torch.cat([self._encode(part) for part in parts])
        return torch.cat([vectors, self.head.factors.weight, self.head.biases.weight], dim=1)

    @torch.no_grad()
    def score(self, histories: Sequence[Ints], alpha: float) -> Array:
        """Return the score of every item for each user, [users, items].

        Args:
            histories: Each user's likes, newest first; a user may have none.
            alpha: Weight of text against CF, from 0 (CF alone) to 1 (text alone).
        """
        rows = self.item_rows()
        kept = [history[: self.recipe.shown] for history in histories]
        width = max(1, *(len(history) for history in kept))
        weights = np.stack([self._shown_weights(len(history), width) for history in kept])
        places = np.stack([np.resize(history, width) if len(history) else np.zeros(width, np.int64) for history in kept])
        user = self._users(
            torch.from_numpy(weights).to(rows.device), rows[torch.from_numpy(places).to(rows.device)], alpha
        )
        return (user @ rows.T + self._prior).cpu().numpy()

    def _shown_weights(self, count: int, width: int) -> Floats:
        return recency_weights(count, width, self.recipe.recency)
