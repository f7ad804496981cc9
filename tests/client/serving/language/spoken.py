"""A small public catalogue that requests are about, and encoders that read them."""

import numpy as np
import torch
from transformers import BertConfig, BertModel
from transformers.models.bert.tokenization_bert import BertTokenizer

from client.serving.language import chinese, synonyms, templates_zh
from client.serving.model import Blocks, Served
from shared.catalogue import Catalogue
from shared.encoder import Base, TextEncoder, _digest
from shared.protocol import AdapterSpec, Recipe

GENRES = ("Comedy", "Horror", "Sci-Fi", "Film-Noir", "War", "Children's")
KINDS = ("film", "book")
MAKERS = ("Aiko Tanaka", "Mateo Ruiz", "Priya Nair", "Louis Marchand", "Ada Ruiz")
TITLES = ("Toy Story", "Star Wars", "Heat", "Godfather, The", "Alien", "Quiet Sunday")
ITEMS = 120


def catalogue() -> Catalogue:
    """Item n has genres n and n + 1, a kind, a maker, a decade, a year and a price."""
    places = range(ITEMS)
    titles = [
        TITLES[n] if n < len(TITLES) else f"Idle Answer {n}, A Tale" for n in places
    ]
    return Catalogue(
        ids=tuple(f"item-{n}" for n in places),
        texts=tuple(
            f"{title} ({1930 + n % 70}). A tale" for n, title in enumerate(titles)
        ),
        attributes={
            "genres": tuple((GENRES[n % 6], GENRES[(n + 1) % 6]) for n in places),
            "domain": tuple((KINDS[n % 2],) for n in places),
            "creator": tuple((MAKERS[n % 5],) for n in places),
            "decade": tuple((f"{193 + n % 7}0s",) for n in places),
            "price": tuple((f"{5 + n % 40}.50",) for n in places),
        },
    )


def served(width: int = 8) -> Served:
    """The catalogue as it is served, with vectors by chance."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(ITEMS, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Served(
        release="spring/3",
        digest="0" * 64,
        catalogue=catalogue(),
        vectors=Blocks((vectors,)),
        factors=Blocks((np.zeros((ITEMS, 3), np.float32),)),
        prior=np.linspace(-1, 1, ITEMS, dtype=np.float32),
        fresh=np.arange(ITEMS) >= ITEMS - 5,
        recipe=Recipe(factors=2),
        width=width,
    )


def chinese_encoder() -> TextEncoder:
    """A random BERT whose vocabulary has the characters of Chinese requests."""
    lists = (*templates_zh.FRAMES, *templates_zh.ABOUT, *templates_zh.LESS)
    groups = (*synonyms.KINDS, *synonyms.TRAITS, *synonyms.ATTRIBUTES)
    rules = "".join(part.pattern.pattern for part in chinese.CHINESE.wishes)
    signs = {sign for text in (*lists, *groups, rules) for sign in text}
    han = sorted(sign for sign in signs if "\u4e00" <= sign <= "\u9fff")
    plain = "abcdefghijklmnopqrstuvwxyz0123456789"
    words = [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *han, *plain, *",.?!-'\"():;"),
        *("《", "》", "。", "、", *(f"##{sign}" for sign in plain)),
    ]
    tokenizer = BertTokenizer(
        vocab={word: place for place, word in enumerate(dict.fromkeys(words))}
    )
    return _random_encoder(tokenizer)


def _random_encoder(tokenizer: BertTokenizer) -> TextEncoder:
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = BertModel(config, add_pooling_layer=False).eval()  # type: ignore[no-untyped-call]  # has no types
    base = Base(model, tokenizer, "zh", _digest(model, tokenizer))
    return TextEncoder(base, AdapterSpec(base=base.digest, rank=4, max_tokens=12))
