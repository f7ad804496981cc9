"""The hybrid model of one site: score = alpha x text + (1 - alpha) x CF + prior.

Text is the cosine between the recency-weighted mean of a user's history vectors and an
item's vector, both centred on the public catalogue; CF is the site's factor head, the
prior the site's released popularity. All scales are fixed, so that alpha may be chosen
per request (DESIGN D14).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from client.examples import Batch, Ints, recency_weights
from client.head import FactorHead
from shared.activations import Activations
from shared.encoder import TextEncoder
from shared.protocol import Array, Recipe

NOTHING = -1e4  # a score whose exponential is zero, with finite gradients
BLOCK = 1024  # items encoded at a time when all of them are scored


class HybridModel(nn.Module):
    """Encoder tail with its adapter, the CF head and the prior, over one catalogue.

    Attributes:
        trained: Every module with trained parameters, and nothing else: what clipping
            and noise must cover.
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
        super().__init__()
        self.encoder, self._activations, self.recipe = encoder, activations, recipe
        self.head = head.to(encoder.device)
        self._prior = torch.from_numpy(prior).to(encoder.device) * recipe.prior_weight
        self.catalogue = len(prior)
        self._centre = centre
        self.trained = nn.ModuleList(
            [*encoder.trained.values(), self.head.factors, self.head.biases]
        )

    def losses(self, batch: Batch, *, shared_rows: bool) -> Tensor:
        """Return one loss per user, [U]: sampled softmax over each user's own items.

        Guarantee: entry u depends on row u of the batch alone, and on the parameters.

        Args:
            batch: Examples in fixed shapes.
            shared_rows: Encode each distinct item once for the whole batch. The values
                are the same, but gradients can then no longer be told apart by user, so
                only training without privacy may ask for it.
        """
        items = torch.from_numpy(batch.items).to(self.encoder.device)
        vectors = self._vectors(batch.items, shared_rows=shared_rows)
        factors, biases = self.head(items)
        scores = self._scores(batch, items, vectors, factors, biases)
        return self._softmax_loss(batch, scores)

    def _vectors(self, items: Ints, *, shared_rows: bool) -> Tensor:
        """Return item vectors [U, K, width]."""
        flat = items.reshape(-1)
        if shared_rows:
            distinct, place = np.unique(flat, return_inverse=True)
            made = self._encode(distinct)
            vectors = made[torch.from_numpy(place).to(made.device)]
        else:
            vectors = self._encode(flat)
        return vectors.reshape(*items.shape, -1)

    def _encode(self, items: Ints) -> Tensor:
        """Return centred unit vectors [n, width] of catalogue items."""
        made = self.encoder.vectors(self._activations.rows(items))
        return normalize(made - self._centre, dim=-1)

    def _scores(
        self, batch: Batch, items: Tensor, vectors: Tensor, factors: Tensor, biases: Tensor
    ) -> Tensor:
        """Return the hybrid score of each row's targets and negatives, [U, M + m]."""
        recipe, ahead = self.recipe, batch.history.shape[1]
        weights = torch.from_numpy(batch.history).to(vectors.device).unsqueeze(1)
        taste = normalize(weights @ vectors[:, :ahead], dim=-1)
        text = (taste @ vectors[:, ahead:].transpose(1, 2)).squeeze(1)
        likes = weights @ factors[:, :ahead]
        cf = (likes @ factors[:, ahead:].transpose(1, 2)).squeeze(1) + biases[:, ahead:]
        return (
            recipe.alpha * recipe.temperature * text
            + (1 - recipe.alpha) * cf
            + self._prior[items[:, ahead:]]
        )

    def _softmax_loss(self, batch: Batch, scores: Tensor) -> Tensor:
        """Return -log softmax of the targets, averaged per user, [U].

        Negatives are a uniform sample of the catalogue and stand for all of it: their
        scores get log(catalogue / sample) (Bengio and Senecal 2008, logQ correction).
        """
        count = batch.targets.shape[1]
        targets, negatives = scores[:, :count], scores[:, count:]
        stand_in = float(np.log(self.catalogue / negatives.shape[1]))
        ignored = ~torch.from_numpy(batch.negatives).to(scores.device)
        rest = torch.logsumexp(negatives.masked_fill(ignored, NOTHING) + stand_in, dim=1)
        loss = torch.logaddexp(targets, rest.unsqueeze(1)) - targets
        return (loss * torch.from_numpy(batch.targets).to(scores.device)).sum(1)

    @torch.inference_mode()
    def item_vectors(self) -> Tensor:
        """Return the centred unit vector of every item, [items, width]."""
        every = np.arange(self.catalogue)
        return torch.cat([self._encode(part) for part in np.array_split(every, 1 + len(every) // BLOCK)])

    @torch.inference_mode()
    def score(self, histories: Sequence[Ints], alpha: float, *, prior: bool = True) -> Array:
        """Return the score of every item for each user, [users, items].

        Args:
            histories: Each user's likes, newest first; a user may have none.
            alpha: Weight of text against CF, from 0 (CF alone) to 1 (text alone).
            prior: Whether the site's popularity counts.
        """
        vectors, recipe = self.item_vectors(), self.recipe
        factors, biases = self.head(torch.arange(self.catalogue, device=vectors.device))
        taste, likes = [], []
        for history in histories:
            kept = torch.from_numpy(np.ascontiguousarray(history[: recipe.history]))
            weights = recency_weights(len(kept), len(kept), recipe.recency)
            mix = torch.from_numpy(weights).to(vectors.device)
            taste.append(mix @ vectors[kept.to(vectors.device)])
            likes.append(mix @ factors[kept.to(vectors.device)])
        text = normalize(torch.stack(taste), dim=-1) @ vectors.T
        cf = torch.stack(likes) @ factors.T + biases
        total = alpha * recipe.temperature * text + (1 - alpha) * cf
        return (total + self._prior * prior).cpu().numpy()
