"""The plain program's model: BERT with PEFT's LoRA, the CF head, and the loss.

It computes what ``client/model.py`` does, with no thought of speed: every text it is
asked for goes through the whole encoder, and nothing is kept from one call to the next.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from torch import Tensor, nn
from torch.nn.functional import normalize

from client.examples import Batch
from client.head import FactorHead
from client.model import default_alpha
from shared.encoder import Base
from shared.protocol import AdapterSpec, Array, Recipe

TEXTS = 64  # of the catalogue, in one batch


class PlainModel(nn.Module):
    """BERT with LoRA, the CF head and the loss; called with a batch, it gives losses.

    Args:
        base: What is adapted; no other model may hold it.
        spec: Which LoRA.
        texts: Of the catalogue's items.
        prior: Log popularity, [items].
        recipe: How a step learns.
        device: Where it computes.
    """

    def __init__(
        self,
        base: Base,
        spec: AdapterSpec,
        texts: Sequence[str],
        prior: Array,
        recipe: Recipe,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.recipe, self._texts, self._device = recipe, texts, device
        self._tokenizer, self._longest = base.tokenizer, spec.max_tokens
        self.bert = with_lora(base, spec)
        self.head = FactorHead(len(texts), recipe.factors, recipe.seed)
        self.to(device)
        self._prior = torch.from_numpy(prior).to(device) * recipe.prior_weight
        with torch.no_grad():  # B is zero: the mean of the frozen encoder
            self._centre = self._in_batches(self.embed).mean(0)

    def adapter(self) -> dict[str, Tensor]:
        """Return what is trained and exchanged: every B, by PEFT's name."""
        state = get_peft_model_state_dict(self.bert, save_embedding_layers=False)
        return {
            name: tensor.cpu().clone()
            for name, tensor in state.items()
            if "lora_B" in name
        }

    def set_adapter(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what ``adapter`` returned, here or at the server."""
        set_peft_model_state_dict(self.bert, dict(tensors))

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors [n, width]: tokenise, run BERT, take the mean, scale."""
        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._longest,
            return_tensors="pt",
        ).to(self._device)
        hidden = self.bert(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        return normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return the centred unit vectors [n, width] of texts."""
        return normalize(self.embed(texts) - self._centre, dim=-1)

    @torch.no_grad()
    def catalogue(self) -> Tensor:
        """Return every item's vector, factors and bias, [items, D]."""
        vectors = self._in_batches(self.vectors)
        return torch.cat(
            [vectors, self.head.factors.weight, self.head.biases.weight], 1
        )

    def _in_batches(self, embed: Callable[[Sequence[str]], Tensor]) -> Tensor:
        starts = range(0, len(self._texts), TEXTS)
        return torch.cat([embed(self._texts[n : n + TEXTS]) for n in starts])

    def forward(self, batch: Batch, catalogue: Tensor) -> Tensor:
        """Return one loss for each user, [U].

        The adapter learns from text and prior; the head from the whole score, with the
        text held still.

        Args:
            batch: Examples in fixed shapes.
            catalogue: What ``catalogue`` returned in this step.
        """
        texts, width = self._texts, catalogue.shape[1] - self.recipe.factors - 1
        still = catalogue[:, :width]

        def read(items: Tensor) -> Tensor:
            rows = self.vectors([texts[item] for item in items.flatten().tolist()])
            return rows.view(*items.shape, width)

        def look_up(items: Tensor) -> Tensor:
            return torch.cat([still[items], *self.head(items)], dim=-1)

        return self._term(batch, still, read, self._taste) + self._term(
            batch, catalogue, look_up, self._user
        )

    def _term(
        self,
        batch: Batch,
        table: Tensor,
        rows_of: Callable[[Tensor], Tensor],
        user_of: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return a sampled softmax over the items of ``table``, one term per user.

        Negatives are drawn from each user's own softmax, so that the gradient is that
        of the whole one on average (Bengio and Senecal 2008).
        """
        items, history, aims, coins = (
            torch.from_numpy(part).to(self._device)
            for part in (batch.items, batch.history, batch.targets, batch.coins)
        )
        with torch.no_grad():
            user = user_of(history, table[items[:, : history.shape[1]]])
            chance = torch.softmax(user @ table.T + self._prior, dim=1)
            drawn = torch.searchsorted(chance.cumsum(1), coins)
            drawn, mean = drawn.clamp(max=len(table) - 1), chance @ table
        rows = rows_of(torch.cat([items, drawn], dim=1))
        widths = [history.shape[1], aims.shape[1], drawn.shape[1]]
        past, wanted, against = torch.split(rows, widths, dim=1)
        user = user_of(history, past)
        positive: Tensor = ((aims.unsqueeze(1) @ wanted).squeeze(1) * user).sum(1)
        negative = (mean * user).sum(1) + (against.mean(1) * user.detach()).sum(1)
        return (negative - positive) * (aims.sum(1) > 0)

    def _taste(self, history: Tensor, past: Tensor) -> Tensor:
        """Return a user's side of the text score, [U, width]."""
        mean = (history.unsqueeze(1) @ past).squeeze(1)
        return self.recipe.alpha * self.recipe.temperature * normalize(mean, dim=-1)

    def _user(self, history: Tensor, past: Tensor) -> Tensor:
        """Return a user's side of the whole score, [U, D]."""
        likes = (history > 0).sum(1, keepdim=True)
        alpha = default_alpha(likes, self.recipe.alpha)
        cf = (1 - alpha) * self.recipe.cf_scale
        mean = (history.unsqueeze(1) @ past).squeeze(1)
        width = mean.shape[1] - self.recipe.factors - 1
        text = alpha * self.recipe.temperature * normalize(mean[:, :width], dim=-1)
        return torch.cat(
            [text, cf * mean[:, width:-1], cf * torch.ones_like(mean[:, :1])], dim=1
        )


def with_lora(base: Base, spec: AdapterSpec) -> PeftModel:
    """Return the encoder with PEFT's LoRA: A frozen from the public seed, B trained."""
    kind, _, count = spec.modules.partition(":")
    depth = int(base.model.config.num_hidden_layers)
    modules = {
        "output": "output.dense",
        "dense": r"(attention\.output|intermediate|output)\.dense",
        "attention": r"attention\.self\.(query|value)",
    }[kind]
    layers = "|".join(str(n) for n in range(depth - int(count or 1), depth))
    with warnings.catch_warnings():
        # peft 0.21 reads a name that transformers 5 retires
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(
            base.model,
            LoraConfig(
                task_type="FEATURE_EXTRACTION",
                r=spec.rank,
                lora_alpha=cast("int", spec.scale * spec.rank),
                lora_dropout=0.0,
                target_modules=rf"encoder\.layer\.({layers})\.{modules}",
            ),
        )
    model.eval()  # no dropout
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    rng = np.random.default_rng(spec.seed)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    for name in sorted(state):
        drawn = rng.uniform(-1, 1, state[name].shape) / np.sqrt(state[name].shape[1])
        if "lora_A" in name:
            state[name] = torch.from_numpy(drawn.astype(np.float32))
    set_peft_model_state_dict(model, state)
    return cast("PeftModel", model)
