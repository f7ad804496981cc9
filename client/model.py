"""The hybrid model of one site: score = alpha x text + (1 - alpha) x CF + prior.

Text is the cosine between the mean of a user's history vectors and an item's vector,
both centred on the public catalogue; CF is the site's factor head, the prior the site's
released popularity. All scales are fixed, so that alpha may be chosen per request
(DESIGN D14). One row x = [text vector, factors, bias] stands for an item and one row
u = [alpha T taste, (1 - alpha) S likes, (1 - alpha) S] for a user, with the recipe's
public scales T and S: the score is <u, x> + prior.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from client.examples import Batch, Ints, recency_weights
from client.head import FactorHead
from shared.activations import Activations
from shared.encoder import LayersPass, TextEncoder
from shared.output_pass import OutputPass
from shared.protocol import STEPS, Array, Recipe

HALF_WAY = 5.0  # likes at which the default alpha is half-way from 1 to the recipe's
HALF_TRUST = 3.0  # square of the likes at which a history counts half beside the prior


RowsOf = Callable[[Tensor], Tensor]  # items [U, K] -> rows [U, K, D]
UsersOf = Callable[[Tensor, Tensor], Tensor]  # weights, past rows -> users [U, D]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The catalogue under the present parameters.

    Attributes:
        passed: What the encoder's pass over its texts leaves.
        rows: The row of every item, [items, D].
    """

    passed: OutputPass | LayersPass
    rows: Tensor


class HybridModel(nn.Module):
    """Encoder tail with its adapter, the CF head and the prior, over one catalogue.

    Attributes:
        trained: Every module with trained parameters, and nothing else: what clipping
            and noise must cover.
        trains_head: Whether the head is among them, or was made by a release.
        catalogue: Number of items.
        prior: The log prior times its weight, [items].
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
        """Join the parts; ``centre`` [width] is the catalogue's frozen mean vector."""
        super().__init__()
        self.encoder, self.recipe = encoder, recipe
        self.activations = activations
        self.head = head.to(encoder.device)
        self.prior = torch.from_numpy(prior).to(encoder.device) * recipe.prior_weight
        self.catalogue = len(prior)
        self._centre = centre
        self.trains_head = recipe.head == STEPS
        tables = [self.head.factors, self.head.biases] if self.trains_head else []
        self.trained = nn.ModuleList([*encoder.trained.values(), *tables])

    def losses(
        self, batch: Batch, catalogue: Tensor, vectors_of: RowsOf, head_of: RowsOf
    ) -> Tensor:
        """Return one term per user, [U], with the gradient of two full softmaxes.

        The second is for a head that is trained; without one there is the first alone.

        The adapter learns from text and prior alone, so that it means the same at every
        site whatever the head there has learned; the head learns what is left, from the
        whole score with the text as it stands.

        Guarantee: entry u depends on row u of the batch, on the parameters, and on
        public values alone.

        Args:
            batch: Examples in fixed shapes.
            catalogue: All items under the present parameters, from ``item_rows``.
            vectors_of: Gives the text vectors of items, through which gradients go.
            head_of: The same for factors and bias, [U, K, f + 1].
        """
        vectors = catalogue[:, : self.encoder.width]

        def whole(items: Tensor) -> Tensor:
            return torch.cat([embedding(items, vectors), head_of(items)], dim=-1)

        of_text = self._term(batch, vectors, vectors_of, self._tastes)
        if not self.trains_head:
            return of_text
        return of_text + self._term(batch, catalogue, whole, self._users)

    def _term(
        self, batch: Batch, catalogue: Tensor, rows_of: RowsOf, users_of: UsersOf
    ) -> Tensor:
        """Return a term [U] with the gradient of a softmax over the whole catalogue.

        Cross-entropy of the targets has the gradient ``sum_i p_i ds_i - mean_t ds_t``.
        The user's side of the first sum is taken exactly, the items' side from m items
        drawn from p itself. That is unbiased, and only H + M + m items per user need
        gradients (Bengio and Senecal 2008, with the model as its own proposal).
        """
        history = torch.from_numpy(batch.history).to(catalogue.device)
        aims = torch.from_numpy(batch.targets).to(catalogue.device)
        known = torch.from_numpy(batch.items).to(catalogue.device)
        drawn, mean = self._softmax(batch, history, catalogue, users_of)
        rows = rows_of(torch.cat([known, drawn], dim=1))
        widths = [history.shape[1], aims.shape[1], drawn.shape[1]]
        past, wanted, against = torch.split(rows, widths, 1)
        user = users_of(history, past)
        pull = ((aims.unsqueeze(1) @ wanted).squeeze(1) * user).sum(1)
        push = (mean * user).sum(1) + (against.mean(1) * user.detach()).sum(1)
        return (push - pull) * (aims.sum(1) > 0)

    @torch.no_grad()
    def _softmax(
        self, batch: Batch, history: Tensor, catalogue: Tensor, users_of: UsersOf
    ) -> tuple[Tensor, Tensor]:
        """Return m items from each user's softmax, [U, m], and its mean row, [U, D]."""
        known = torch.from_numpy(batch.items[:, : history.shape[1]])
        user = users_of(history, embedding(known.to(history.device), catalogue))
        chance = torch.softmax(user @ catalogue.T + self.prior, dim=1)
        coins = torch.from_numpy(batch.coins).to(history.device)
        drawn = torch.searchsorted(chance.cumsum(1), coins)
        return drawn.clamp(max=self.catalogue - 1), chance @ catalogue

    def _tastes(self, weights: Tensor, past: Tensor) -> Tensor:
        """Return alpha T taste [U, width] from history weights and item vectors."""
        mean = (weights.unsqueeze(1) @ past).squeeze(1)
        return self.recipe.alpha * self.recipe.temperature * normalize(mean, dim=-1)

    def _users(
        self, weights: Tensor, past: Tensor, alpha: Tensor | None = None
    ) -> Tensor:
        """Return user rows [U, D] from history weights [U, H] and item rows [U, H, D].

        ``alpha`` is one number; by default each user's own.
        """
        alpha = self._alphas(weights) if alpha is None else alpha
        mean = (weights.unsqueeze(1) @ past).squeeze(1)
        taste = normalize(mean[:, : self.encoder.width], dim=-1)
        likes = mean[:, self.encoder.width : -1]
        text, cf = alpha * self.recipe.temperature, (1 - alpha) * self.recipe.cf_scale
        one = torch.ones_like(mean[:, :1])
        return torch.cat([text * taste, cf * likes, cf * one], dim=1)

    def _alphas(self, history: Tensor) -> Tensor:
        """Return each user's default alpha [U, 1] from their history weights."""
        likes = (history > 0).sum(1, keepdim=True)
        return default_alpha(likes, self.recipe.alpha)

    @torch.no_grad()
    def text_vectors(self, count: int) -> Tensor:
        """Return the vectors of the catalogue's first ``count`` texts, [n, width]."""
        first = torch.arange(min(count, self.catalogue), device=self.encoder.device)
        return self._centred(self.encoder.sums(self.activations, first))

    @torch.no_grad()
    def encoded(self) -> Encoded:
        """Return every item under the present parameters; texts are read once."""
        passed = self.encoder.passed(self.activations)
        head = self.head
        vectors = self._centred(passed.sums)
        rows = torch.cat([vectors, head.factors.weight, head.biases.weight], dim=1)
        return Encoded(passed, rows)

    def item_rows(self) -> Tensor:
        """Return the row of every item under the present parameters, [items, D]."""
        return self.encoded().rows

    def _centred(self, sums: Tensor) -> Tensor:
        """Return centred unit vectors of texts from the sums over their tokens."""
        return normalize(normalize(sums, dim=-1) - self._centre, dim=-1)

    def through_centre(self, sums: Tensor, pulls: Tensor) -> Tensor:
        """Return the gradient on ``sums`` from that on the vectors made of them.

        A unit vector v = x / |x| turns a pull g into (g - v (v . g)) / |x|.
        """
        unit = normalize(sums, dim=-1)
        pulls = _through_unit(unit - self._centre, pulls)
        return _through_unit(sums, pulls)

    @torch.no_grad()
    def score(self, histories: Sequence[Ints], alpha: float | None = None) -> Array:
        """Return the score of every item for each user, [users, items].

        Args:
            histories: Each user's likes, newest first; a user may have none.
            alpha: Weight of text against CF, from 0 (CF alone) to 1 (text alone); by
                default ``default_alpha`` of each user's history.
        """
        rows, recipe = self.item_rows(), self.recipe
        kept = [history[: recipe.shown] for history in histories]
        width = max(1, *(len(history) for history in kept))
        weights = np.zeros((len(kept), width), np.float32)
        places = np.zeros((len(kept), width), np.int64)
        for row, history in enumerate(kept):
            weights[row] = recency_weights(len(history), width, recipe.recency)
            places[row, : len(history)] = history
        given, past = (
            torch.from_numpy(weights).to(rows.device),
            torch.from_numpy(places),
        )
        blend = None if alpha is None else torch.tensor(alpha, device=rows.device)
        likes = (given > 0).sum(1, keepdim=True)
        user = trust(likes) * self._users(given, rows[past.to(rows.device)], blend)
        return (user @ rows.T + self.prior).cpu().numpy()


def _through_unit(x: Tensor, pulls: Tensor) -> Tensor:
    """Return the gradient on ``x`` from that on ``normalize(x)``."""
    length = x.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    unit = x / length
    across: Tensor = (pulls - unit * (unit * pulls).sum(-1, keepdim=True)) / length
    return across


def default_alpha(likes: Tensor, alpha: float) -> Tensor:
    """Return the weight of text for histories of so many ``likes``.

    From 1 for no likes it falls to ``alpha``: a CF vector made of few likes is poor,
    while one text says as much as many (DESIGN D14). Training and serving share it.
    """
    return alpha + (1 - alpha) * HALF_WAY / (HALF_WAY + likes)


def trust(likes: Tensor) -> Tensor:
    """Return how much histories of so many ``likes`` count beside the prior, below 1.

    One like says little, and the scales are those of long histories: without this a
    newcomer is served worse than by popularity alone. Chosen on validation events.
    """
    return likes**2 / (likes**2 + HALF_TRUST)
