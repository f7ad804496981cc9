"""One pass of the default adapter over a catalogue, and per-user gradients through it.

With the stored f_t = W x_t + b + residual and a_t = A x_t of a token, its last hidden
state is g * w_t (z_t - m_t) + c, where z_t = f_t + s B a_t has mean m_t and w_t is one
over its deviation (g and c are LayerNorm's, s is LoRA's). A text's sum over its tokens
then needs z_t only through products with f_t and a_t, and so does its gradient: for a
pull h on a text's normalised tokens, of n channels (LayerNorm's backward pass),

    dB = s sum_t w_t (h - mean(h)) a_t' - s/n sum_t w_t (u_t . h) u_t a_t',
    u_t = w_t (z_t - m_t).

So no token passes through autograd, each text is read once however many users have it,
and the gradients of users never meet. All of it equals the plain way but for rounding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, embedding_bag

from shared.activations import Activations
from shared.tails import OutputTail

CACHED = 4 << 20  # bytes of tokens that are worked on at a time on a CPU
ON_CARD = 512 << 20  # the same where memory is a device's own


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OutputPass:
    """What one pass leaves.

    Attributes:
        sums: Every text's last hidden states, summed over its tokens, [items, width].
        low: Every text's ``sum_t w_t a_t``, [items, r].
        means, scales: m_t and w_t of all tokens, in the order of the catalogue.
    """

    tail: OutputTail
    activations: Activations
    sums: Tensor
    low: Tensor
    means: Tensor
    scales: Tensor

    def gradients(self, items: Tensor, pulls: Tensor) -> Tensor:
        """Return each user's gradient of B, [U, width, r].

        Guarantee: entry u depends on row u of ``items`` and ``pulls``, on B and on
        public values alone.

        Args:
            items: [U, K] distinct texts of each user.
            pulls: [U, K, width], the gradient on each of their sums; a text whose pull
                is zero costs nothing.
        """
        tail, width = self.tail, self.sums.shape[1]
        pulls = pulls * tail.layer_norm.weight
        centred = pulls - pulls.mean(2, keepdim=True)
        made = centred.transpose(1, 2) @ embedding(items, self.low)
        for users, part in self._through_scales(items, pulls):
            made[users] -= part / width
        return made * tail.scale

    def _through_scales(
        self, items: Tensor, pulls: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for some users at a time, ``sum_t w_t (u_t . h) u_t a_t'``."""
        stored, scale = self.activations.tokens, self.tail.scale
        up = _up(self.tail, stored.dtype)
        joined = torch.cat([pulls, scale * (pulls @ up)], dim=2)
        joined = joined.to(stored.dtype).flatten(0, 1)
        whole = pulls.sum(2).flatten()
        pulled = _pulled(self.activations, items, (pulls != 0).any(2))  # NaN is not 0
        means, scales = self.means[pulled.own], self.scales[pulled.own]
        for users, at, real in pulled.by_users(_near(stored) // stored[:1].nbytes):
            pair, mean = pulled.pair.index_select(0, at), means.index_select(0, at)
            rows = embedding(pulled.place.index_select(0, at), stored)
            along = torch.linalg.vecdot(rows, embedding(pair, joined)).float()
            along = along - mean * whole.index_select(0, pair)
            weight = scales.index_select(0, at) ** 3 * along
            weight = torch.where(real, weight.view_as(real), 0.0)
            rows = rows.view(*real.shape, -1)
            inner = rows[..., len(up) :]
            weighted = inner * weight.to(inner.dtype).unsqueeze(2)
            outer, cross = (
                (weighted.transpose(1, 2) @ rows).float().tensor_split([len(up)], dim=2)
            )
            shift = (weight * mean.view_as(weight)).unsqueeze(1) @ inner.float()
            yield users, outer.transpose(1, 2) + scale * (up @ cross) - shift


def output_pass(tail: OutputTail, activations: Activations) -> OutputPass:
    """Return what the present B makes of every text of a catalogue."""
    up = _up(tail, activations.tokens.dtype)
    parts = [
        _block(tail, activations, texts, up) for texts in _texts_at_a_time(activations)
    ]
    sums, low, means, scales = (torch.cat(made) for made in zip(*parts, strict=True))
    return OutputPass(
        tail=tail,
        activations=activations,
        sums=sums,
        low=low,
        means=means,
        scales=scales,
    )


def _block(
    tail: OutputTail, activations: Activations, texts: Tensor, up: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return sums, low sums, means and scales of some texts."""
    rows, lengths = (
        activations.tokens[activations.places(texts)],
        activations.lengths[texts],
    )
    width, norm = len(up), tail.layer_norm
    frozen, inner = torch.tensor_split(rows.float(), [width], dim=1)
    across = rows[:, :width] @ up.to(rows.dtype)  # B' f
    means = frozen.mean(1) + tail.scale * (inner @ up.mean(0))
    squares = frozen.square().sum(1) + tail.scale * torch.linalg.vecdot(
        2 * across.float() + tail.scale * (inner @ (up.T @ up)), inner
    )
    scales = torch.rsqrt(squares / width - means.square() + norm.eps)
    firsts = lengths.cumsum(0) - lengths
    every = torch.arange(len(rows), device=rows.device)
    summed = embedding_bag(
        every, rows, firsts, mode="sum", per_sample_weights=scales.to(rows.dtype)
    ).float()
    moved = embedding_bag(every, (scales * means).unsqueeze(1), firsts, mode="sum")
    low = summed[:, width:].contiguous()
    made = summed[:, :width] + tail.scale * (low @ up.T) - moved
    sums = made * norm.weight + lengths.unsqueeze(1) * norm.bias
    return sums, low, means, scales


def _up(tail: OutputTail, dtype: torch.dtype) -> Tensor:
    """Return B [width, r] as float32 numbers of the precision of what is stored."""
    (weight,) = tail.up.parameters()
    return weight.detach().to(dtype).float()


def _texts_at_a_time(activations: Activations) -> Iterator[Tensor]:
    """Yield the catalogue in parts whose tokens fit the memory that is near."""
    row_bytes = activations.tokens[:1].nbytes
    most = max(1, _near(activations.tokens) // max(1, row_bytes))
    part = (activations.lengths.cumsum(0) - 1) // most
    every = torch.arange(len(activations), device=part.device)
    yield from torch.split(every, [n for n in torch.bincount(part).tolist() if n])


@dataclass(frozen=True, slots=True, eq=False)
class _Pulled:
    """The tokens of the texts that users pull on, one user after the other.

    Attributes:
        counts: [U], how many each user has.
        place: Their rows of the store.
        own: Their places in the order of the catalogue.
        pair: Which of the [U, K] texts they are of.
    """

    counts: Tensor
    place: Tensor
    own: Tensor
    pair: Tensor

    def by_users(self, most: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield users, their tokens [b * T], and which are no padding [b, T].

        Users with about as many tokens come together, up to ``most`` tokens in all.
        """
        order = self.counts.argsort(descending=True)
        order = order[self.counts[order] > 0]
        firsts = self.counts.cumsum(0) - self.counts
        while len(order):
            longest = int(self.counts[order[0]])
            together = max(1, most // longest)
            users, order = order[:together], order[together:]
            step = torch.arange(longest, device=users.device)
            real = step < self.counts[users].unsqueeze(1)
            at = firsts[users].unsqueeze(1) + torch.where(real, step, 0)
            yield users, at.flatten(), real


def _pulled(activations: Activations, items: Tensor, touched: Tensor) -> _Pulled:
    """Return the tokens of the texts ``items`` [U, K] that are ``touched``."""
    lengths = activations.lengths[items] * touched
    flat, device = lengths.flatten(), items.device
    pair = torch.arange(len(flat), device=device).repeat_interleave(flat)
    before = flat.cumsum(0) - flat
    within = torch.arange(len(pair), device=device) - before.index_select(0, pair)
    text = items.flatten().index_select(0, pair)
    firsts = activations.lengths.cumsum(0) - activations.lengths
    return _Pulled(
        counts=lengths.sum(1),
        place=activations.starts.index_select(0, text) + within,
        own=firsts.index_select(0, text) + within,
        pair=pair,
    )


def _near(tokens: Tensor) -> int:
    """Return how many bytes are worked on at a time."""
    return CACHED if tokens.device.type == "cpu" else ON_CARD
